/** Which 64-bit values lie in or beside a covered range, asked of two 32-bit halves: no bigint per question. */
import { ADDRESS_LIMIT } from '../core/address.ts'
import type { AddressRange } from '../core/range.ts'
import type { Blob } from '../table/builder.ts'

/** By how much a number of 64 bits can be off. */
const ROUNDING = 2 ** 12

function neighbourhoodOf({ covered, own }: Blob): AddressRange {
  const { start, end } = covered[own]
  const span = end - start
  const beside = [start - span > start / 2n ? start - span : start / 2n, end + span]
  const low = [...covered.map((range) => range.start), beside[0]].reduce((a, b) => (a < b ? a : b))
  const high = [
    ...covered.map((range) => range.end),
    beside[1] > ADDRESS_LIMIT ? ADDRESS_LIMIT : beside[1],
  ].reduce((a, b) => (a > b ? a : b))
  return { start: low, end: high }
}

export class Window {
  readonly #low: readonly number[]
  readonly #high: readonly number[]
  readonly #spans: readonly number[]
  readonly #own: number
  /** The covered ranges and what `side` calls beside the blob's own, as one range. */
  readonly neighbourhood: AddressRange
  /** No address below or above lies there. Numbers, rounded outwards. */
  readonly least: number
  readonly most: number
  /** Address of byte 0, as two halves. */
  readonly baseLow: number
  readonly baseHigh: number

  constructor(blob: Blob) {
    const { covered } = blob
    this.#low = covered.map((range) => Number(range.start & 0xffff_ffffn))
    this.#high = covered.map((range) => Number(range.start >> 32n))
    this.#spans = covered.map((range) => Number(range.end - range.start))
    this.#own = blob.own
    this.baseLow = this.#low[blob.own]
    this.baseHigh = this.#high[blob.own]
    this.neighbourhood = neighbourhoodOf(blob)
    const { start, end } = this.neighbourhood
    this.least = Number(start) - ROUNDING
    this.most = Number(end) + ROUNDING
  }

  /** Whether the address lies in a covered range or at its very end (an end pointer). Halves unsigned. */
  has(low: number, high: number): boolean {
    for (let i = 0; i < this.#low.length; i++) {
      const distance = (high - this.#high[i]) * 2 ** 32 + (low - this.#low[i])
      if (distance >= 0 && distance <= this.#spans[i]) return true
    }
    return false
  }

  /** Distance from the blob's base; exact below 2^53. */
  distance(low: number, high: number): number {
    return (high - this.baseHigh) * 2 ** 32 + (low - this.baseLow)
  }

  /**
   * Where a value lies relative to the blob's own range: 0 inside, 1 within one span above, -1 within one
   * span below (but not below base / 2), 2 elsewhere.
   */
  side(low: number, high: number): number {
    const span = this.#spans[this.#own]
    const distance = this.distance(low, high)
    if (distance >= 0) return distance <= span ? 0 : distance <= 2 * span ? 1 : 2
    return distance >= -span && distance >= -(this.baseHigh * 2 ** 32 + this.baseLow) / 2 ? -1 : 2
  }
}
