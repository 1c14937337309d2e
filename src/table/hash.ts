/**
 * The content hash of a blob's canonical form: the bytes with every site field zeroed. Those fields are the only bytes that
 * moves change, so a blob and all its relocations share one hash, and a table can tell whether bytes are its own.
 */

import type { SiteGroup, SplitSite } from './groups.ts'
import { KIND_ROWS } from './kinds.ts'

/** 64 bits as 16 hex digits: two multiply-xor-rotate lanes (constants of MurmurHash3, Appleby, public domain), finalised together. */
export function canonicalHash(
  code: Uint8Array,
  groups: readonly SiteGroup[],
  splits: readonly SplitSite[],
): string {
  const canonical = new Uint8Array((code.length + 7) & ~7)
  canonical.set(code)
  for (const group of groups) {
    const { width } = KIND_ROWS[group.kind]
    for (const offset of group.offsets) canonical.fill(0, offset, offset + width)
  }
  for (const split of splits)
    for (const piece of split.pieces) canonical.fill(0, piece.offset, piece.offset + piece.width)
  return hashWords(new Uint32Array(canonical.buffer), code.length)
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

function hashWords(words: Uint32Array, length: number): string {
  let a = 0x9747_b28c
  let b = 0x3c6e_f372
  for (let i = 0; i < words.length; i += 2) {
    a = Math.imul(a ^ words[i], 0xcc9e_2d51)
    a = (a << 15) | (a >>> 17)
    b = Math.imul(b ^ words[i + 1], 0x1b87_3593)
    b = ((b << 13) | (b >>> 19)) + a
  }
  const low = mix(a ^ length)
  const high = mix(b ^ low ^ (length / 2 ** 32))
  return (
    high.toString(16).padStart(8, '0') +
    mix(low + high)
      .toString(16)
      .padStart(8, '0')
  )
}
