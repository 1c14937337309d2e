/** What a verification finds wrong. */
import { wrapAddress } from '../core/address.ts'
import { hexBytes } from '../core/bytes.ts'
import type { Problem } from '../core/errors.ts'

/** Problems listed; the rest is counted in the last one. */
const LISTED = 100

/** Collects problems of one verification. */
export class Findings {
  readonly problems: Problem[] = []
  #errors = 0
  readonly #code: Uint8Array
  readonly #base: bigint

  constructor(code: Uint8Array, base: bigint) {
    this.#code = code
    this.#base = base
  }

  /** Says what is wrong with the `length` bytes at `offset`. */
  error(code: string, offset: number, length: number, message: string, remedy: string): void {
    if (this.#errors++ < LISTED) this.#add('error', code, offset, length, message, remedy)
  }

  warning(code: string, offset: number, length: number, message: string, remedy: string): void {
    this.#add('warning', code, offset, length, message, remedy)
  }

  #add(
    severity: Problem['severity'],
    code: string,
    offset: number,
    length: number,
    message: string,
    remedy: string,
  ): void {
    const address = wrapAddress(this.#base + BigInt(offset))
    this.problems.push({
      severity,
      code,
      offset,
      address,
      bytes: hexBytes(this.#code, offset, offset + length),
      message,
      remedy,
    })
  }

  /** Number of errors, listed or not. */
  get errors(): number {
    return this.#errors
  }

  /** All that was found; the last one counts what is not listed. */
  get listed(): readonly Problem[] {
    const more = this.#errors - LISTED
    const last = this.problems.findLast((problem) => problem.severity === 'error')
    return more <= 0 || last === undefined
      ? this.problems
      : [...this.problems, { ...last, message: `and ${more} more errors behind this place.` }]
  }
}
