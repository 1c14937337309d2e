import { ADDRESS_LIMIT } from '../core/address.ts'
import type { AddressRange } from '../core/range.ts'

/** No value is between. */
const NONE: [number, number] = [0, -(2 ** 31)]

/** Which values lie in `[start, end]`, without a bigint per question. */
export class ValueWindow {
  readonly #low: number
  readonly #high: number
  readonly #span: number
  /**
   * The signed 32-bit values that lie in it, sign-extended: the least and the greatest that are not negative,
   * and those that are.
   */
  readonly #least: number
  readonly #greatest: number
  readonly #leastNegative: number
  readonly #greatestNegative: number
  /** Whether a 32-bit constant, zero- or sign-extended, can lie in it. */
  readonly has32: boolean

  constructor({ start, end }: AddressRange) {
    this.#low = Number(start & 0xffff_ffffn)
    this.#high = Number(start >> 32n)
    this.#span = Number(end - start)
    const part = (first: bigint, last: bigint, shift: bigint): [number, number] => {
      const [least, greatest] = [start > first ? start : first, end < last ? end : last]
      return least > greatest ? NONE : [Number(least - shift), Number(greatest - shift)]
    }
    ;[this.#least, this.#greatest] = part(0n, (1n << 31n) - 1n, 0n)
    ;[this.#leastNegative, this.#greatestNegative] = part(
      ADDRESS_LIMIT - (1n << 31n),
      ADDRESS_LIMIT - 1n,
      ADDRESS_LIMIT,
    )
    this.has32 = start < 1n << 32n || end >= ADDRESS_LIMIT - (1n << 31n)
  }

  /** Of the value in two unsigned halves. */
  hasHalves(low: number, high: number): boolean {
    const distance = (high - this.#high) * 2 ** 32 + (low - this.#low)
    return distance >= 0 && distance <= this.#span
  }

  /** Of a signed 32-bit value, sign-extended to 64. */
  hasSigned(value: number): boolean {
    return value < 0
      ? value >= this.#leastNegative && value <= this.#greatestNegative
      : value >= this.#least && value <= this.#greatest
  }
}
