/**
 * The canonical form of a block: its bytes with every field taken relative to the owners of its ends and
 * every root taken out. It is the same wherever the block and what it refers to lie, so one hash, taken when
 * the object was added, tells at any time whether each field holds what it must and every other byte is what
 * it was.
 *
 * It does not know how far anything went: each field is compared with where things are now, or will be.
 * Places are positions in the reservation, whose own address never changes.
 */
import { joinPieces, movedValue, writePieces } from '../table/split.ts'
import { addToFields, distanceOf, type Fields, viewFrom } from './fields.ts'
import type { CodeObject } from './object.ts'
import { normaliseRoot, type Root } from './roots.ts'
import type { Scratch } from './scratch.ts'

/** What a form is made with. */
interface Formed {
  readonly size: number
  readonly fields: Fields
  readonly links: readonly CodeObject[]
  readonly object: { readonly roots: readonly Root[] }
}

/**
 * The hash of the canonical form of a block whose bytes, traps included, are at `at` of `scratch`; they are
 * used up. `place` is where the block lies, or will.
 */
export function canonicalForm(scratch: Scratch, at: number, block: Formed, place: number): number {
  const { view } = scratch
  const { size, fields, links, object } = block
  const placed = { place, shift: 0, links }
  for (const root of object.roots) normaliseRoot(view, at, root)
  for (const group of fields.groups) addToFields(view, at, fields.offsets, group, -distanceOf(group, placed))
  for (const field of fields.splits) {
    const { pieces, rest } = field
    const distance = BigInt(distanceOf(field, placed))
    const bytes = viewFrom(view, at)
    const left = movedValue(joinPieces(bytes, pieces), pieces, BigInt.asUintN(64, rest + distance), -distance)
    writePieces(
      bytes,
      pieces,
      pieces.map(({ shift, width }) => BigInt.asUintN(8 * width, left >> BigInt(shift))),
    )
  }
  return hashWords(scratch.words, at / 4, (at + size) / 4)
}

/**
 * 53 bits over whole granules: four multiply-xor-rotate lanes (constants of xxHash32, Collet, public domain),
 * so that multiplications overlap.
 */
function hashWords(words: Int32Array, from: number, to: number): number {
  let [a, b, c, d] = [0x2427_8b19, 0x85eb_ca77, to - from, 0x61c8_864f]
  for (let i = from; i < to; i += 4) {
    a = Math.imul(a ^ words[i], 0x9e37_79b1)
    b = Math.imul(b ^ words[i + 1], 0x9e37_79b1)
    c = Math.imul(c ^ words[i + 2], 0x9e37_79b1)
    d = Math.imul(d ^ words[i + 3], 0x9e37_79b1)
    a = (a << 13) | (a >>> 19)
    b = (b << 13) | (b >>> 19)
    c = (c << 13) | (c >>> 19)
    d = (d << 13) | (d >>> 19)
  }
  const low = mix(mix(a) ^ b)
  const high = mix(mix(low ^ c) ^ d)
  return high * 2 ** 21 + (low >>> 11)
}

const mix = (value: number): number => {
  const h = Math.imul(value ^ (value >>> 15), 0x85eb_ca77)
  const g = Math.imul(h ^ (h >>> 13), 0xc2b2_ae3d)
  return (g ^ (g >>> 16)) >>> 0
}
