/**
 * The content hash of a blob's canonical form: the bytes with every site field zeroed, and behind them where the fields are and of what
 * kind. Those fields are the only bytes that moves change, so a blob and all its relocations share one hash, and a table can
 * tell whether bytes are its own. Without the fields' places a table that has lost a site whose bytes are zero would hash the same.
 */

import type { SiteGroup, SplitSite } from './groups.ts'
import { KIND_ROWS, SPLIT } from './kinds.ts'

/** 64 bits as 16 hex digits: two multiply-xor-rotate lanes (constants of MurmurHash3, Appleby, public domain), finalised together. */
export function canonicalHash(
  code: Uint8Array,
  groups: readonly SiteGroup[],
  splits: readonly SplitSite[],
): string {
  const fields =
    groups.reduce((sum, group) => sum + group.offsets.length, 0) +
    splits.reduce((sum, split) => sum + split.pieces.length, 0)
  const size = Math.ceil(code.length / 8) * 8
  const canonical = new Uint8Array(size + 8 * fields)
  const words = new Uint32Array(canonical.buffer)
  canonical.set(code)
  let at = size / 4
  const clear = (kind: number, offset: number, width: number): void => {
    canonical.fill(0, offset, offset + width)
    words[at++] = kind | (width << 8)
    words[at++] = offset
  }
  for (const { kind, offsets } of groups)
    for (const offset of offsets) clear(kind, offset, KIND_ROWS[kind].width)
  for (const { pieces } of splits) for (const { offset, width } of pieces) clear(SPLIT, offset, width)
  return hashWords(words, code.length)
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
