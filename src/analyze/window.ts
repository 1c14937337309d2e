/** Which 64-bit values lie in a covered range, asked of two 32-bit halves: no bigint per question. */
import type { Blob } from '../table/builder.ts'

export class Window {
  readonly #low: readonly number[]
  readonly #high: readonly number[]
  readonly #spans: readonly number[]
  /** Address of byte 0, as two halves. */
  readonly baseLow: number
  readonly baseHigh: number

  constructor(blob: Blob) {
    const { covered } = blob
    this.#low = covered.map((range) => Number(range.start & 0xffff_ffffn))
    this.#high = covered.map((range) => Number(range.start >> 32n))
    this.#spans = covered.map((range) => Number(range.end - range.start))
    this.baseLow = this.#low[blob.own]
    this.baseHigh = this.#high[blob.own]
  }

  /** Whether the address lies in a covered range or at its very end (an end pointer). Halves unsigned. */
  has(low: number, high: number): boolean {
    for (let i = 0; i < this.#low.length; i++) {
      const distance = (high - this.#high[i]) * 2 ** 32 + (low - this.#low[i])
      if (distance >= 0 && distance <= this.#spans[i]) return true
    }
    return false
  }
}
