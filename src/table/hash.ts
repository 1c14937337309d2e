/**
 * The content hash of a blob's canonical form: where the site fields are and of what kind, and the bytes with those fields zeroed.
 * Those fields are the only bytes that moves change, so a blob and all its relocations share one hash, and a table can
 * tell whether bytes are its own. Without the fields' places a table that has lost a site whose bytes are zero would hash the same.
 */

import type { SiteGroup, SplitSite } from './groups.ts'
import { KIND_ROWS, SPLIT } from './kinds.ts'

export function canonicalHash(
  code: Uint8Array,
  groups: readonly SiteGroup[],
  splits: readonly SplitSite[],
): string {
  const canonical = new Uint8Array((code.length + 7) & ~7)
  canonical.set(code)
  const lanes = new Lanes()
  for (const { kind, offsets } of groups) {
    const { width } = KIND_ROWS[kind]
    for (const offset of offsets) {
      canonical.fill(0, offset, offset + width)
      lanes.add(kind, offset)
    }
  }
  for (const { pieces } of splits)
    for (const { offset, width } of pieces) {
      canonical.fill(0, offset, offset + width)
      lanes.add(SPLIT | (width << 8), offset)
    }
  const words = new Uint32Array(canonical.buffer)
  lanes.addAll(words)
  return lanes.finish(code.length)
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

/** 64 bits as 16 hex digits: two multiply-xor-rotate lanes (constants of MurmurHash3, Appleby, public domain), finalised together. */
class Lanes {
  #a = 0x9747_b28c
  #b = 0x3c6e_f372

  add(even: number, odd: number): void {
    const a = Math.imul(this.#a ^ even, 0xcc9e_2d51)
    this.#a = (a << 15) | (a >>> 17)
    const b = Math.imul(this.#b ^ odd, 0x1b87_3593)
    this.#b = (((b << 13) | (b >>> 19)) + this.#a) | 0
  }

  /** The same for pair after pair; what the lanes hold stays in registers. */
  addAll(words: Uint32Array): void {
    let a = this.#a
    let b = this.#b
    for (let i = 0; i < words.length; i += 2) {
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
