/**
 * The content hash of a blob's canonical form: where the site fields are and of what kind, and the bytes with
 * those fields zeroed. Those fields are the only bytes that moves change, so a blob and all its relocations
 * share one hash, and a table can tell whether bytes are its own. Without the fields' places a table that has
 * lost a site whose bytes are zero would hash the same.
 */

import { viewOf } from '../core/bytes.ts'
import type { SiteGroup, SplitSite } from './groups.ts'
import { KIND_ROWS, SPLIT } from './kinds.ts'
import type { SplitPiece } from './site.ts'

/** Fields of one width, by ascending offset, and which of them is the first that may reach into the bytes to come. */
interface Fields {
  readonly width: number
  readonly offsets: Uint32Array
  next: number
}

/** The canonical form is made and hashed piece by piece, in memory that stays in the cache. */
const CHUNK = 1 << 15
/** Bytes of a field that may lie before or behind the chunk. */
const MARGIN = 8

export function canonicalHash(
  code: Uint8Array,
  groups: readonly SiteGroup[],
  splits: readonly SplitSite[],
): string {
  const lanes = new Lanes()
  const pieces = splits.flatMap((split) => split.pieces)
  const sites = sitePairs(groups, pieces)
  lanes.addPairs(sites, sites.length / 2)
  const fields = fieldsOf(groups, pieces)
  const room = (Math.min(code.length, CHUNK) + 7) & ~7
  const bytes = new Uint8Array(MARGIN + room + MARGIN)
  const view = viewOf(bytes)
  const words = new Uint32Array(bytes.buffer, MARGIN, room / 4)
  for (let start = 0; start < code.length; start += CHUNK) {
    const chunk = code.subarray(start, start + CHUNK)
    bytes.set(chunk, MARGIN)
    // What the last chunk has too little, up to the next pair of words, is 0.
    bytes.fill(0, MARGIN + chunk.length)
    for (const column of fields) zeroFields(view, column, start, start + chunk.length)
    lanes.addPairs(words, (chunk.length + 7) >>> 3)
  }
  return lanes.finish(code.length)
}

/** Kind and offset of each site, kind with width and offset of each piece. */
function sitePairs(groups: readonly SiteGroup[], pieces: readonly SplitPiece[]): Uint32Array {
  const count = groups.reduce((sum, { offsets }) => sum + offsets.length, pieces.length)
  const pairs = new Uint32Array(2 * count)
  let at = 0
  for (const { kind, offsets } of groups)
    for (let i = 0; i < offsets.length; i++) {
      pairs[at++] = kind
      pairs[at++] = offsets[i]
    }
  for (const { offset, width } of pieces) {
    pairs[at++] = SPLIT | (width << 8)
    pairs[at++] = offset
  }
  return pairs
}

function fieldsOf(groups: readonly SiteGroup[], pieces: readonly SplitPiece[]): Fields[] {
  const fields = groups.map(({ kind, offsets }) => ({ width: KIND_ROWS[kind].width, offsets, next: 0 }))
  for (const width of new Set(pieces.map((piece) => piece.width))) {
    const same = pieces.filter((piece) => piece.width === width)
    fields.push({ width, offsets: Uint32Array.from(same, (piece) => piece.offset).sort(), next: 0 })
  }
  return fields
}

/** Zeroes the fields that begin or end in [start, end), which is at `MARGIN` of the view. */
function zeroFields(view: DataView, fields: Fields, start: number, end: number): void {
  const { width, offsets } = fields
  let i = fields.next
  for (; i < offsets.length && offsets[i] < end; i++) {
    const at = offsets[i] - start + MARGIN
    if (width === 4) view.setUint32(at, 0)
    else if (width === 8) view.setFloat64(at, 0)
    else if (width === 2) view.setUint16(at, 0)
    else view.setUint8(at, 0)
  }
  fields.next = i > 0 && offsets[i - 1] + width > end ? i - 1 : i
}

/** The same of bytes that have no sites. */
export const contentHash = (bytes: Uint8Array): string => canonicalHash(bytes, [], [])

const mix = (value: number): number => {
  let h = value ^ (value >>> 16)
  h = Math.imul(h, 0x85eb_ca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2_ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/**
 * 64 bits as 16 hex digits: two multiply-xor-rotate lanes (constants of MurmurHash3, Appleby, public domain),
 * finalised together.
 */
class Lanes {
  #a = 0x9747_b28c
  #b = 0x3c6e_f372

  /** Takes in `count` pairs of words; what the lanes hold stays in registers. */
  addPairs(words: Uint32Array, count: number): void {
    let a = this.#a
    let b = this.#b
    for (let i = 0; i < 2 * count; i += 2) {
      const even = Math.imul(a ^ words[i], 0xcc9e_2d51)
      a = (even << 15) | (even >>> 17)
      const odd = Math.imul(b ^ words[i + 1], 0x1b87_3593)
      b = (((odd << 13) | (odd >>> 19)) + a) | 0
    }
    this.#a = a
    this.#b = b
  }

  finish(length: number): string {
    const low = mix(this.#a ^ length)
    const high = mix(this.#b ^ low ^ (length / 2 ** 32))
    return (
      high.toString(16).padStart(8, '0') +
      mix(low + high)
        .toString(16)
        .padStart(8, '0')
    )
  }
}
