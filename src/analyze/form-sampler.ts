/** Which blocks of a linear reading are not of the forms that code has: their first instructions tell. */
import type { StartBits } from '../x86/start-bits.ts'
import type { FormReader } from './forms.ts'

export const BLOCK_BITS = 8
/** Instructions looked at in each block, and what they must score together, in sixteenths. */
const SAMPLE = 6
const PLAUSIBLE = 64

/** Looks at the blocks in ascending order. */
export class FormSampler {
  readonly #reader: FormReader
  readonly #bits: StartBits
  readonly #strange: Uint8Array
  /** The first that was not looked at. */
  #next = 0

  /** @param bits the starts of the reading, as far as it goes */
  constructor(reader: FormReader, bits: StartBits) {
    this.#reader = reader
    this.#bits = bits
    this.#strange = new Uint8Array((reader.view.byteLength >>> BLOCK_BITS) + 1)
  }

  /** Looks at the blocks before the one that holds `upTo`. */
  advance(upTo: number): void {
    for (const end = upTo >>> BLOCK_BITS; this.#next < end; this.#next++) this.#look(this.#next)
  }

  /** By block: 1 where its forms are not those of code. */
  finish(): Uint8Array {
    for (; this.#next < this.#strange.length; this.#next++) this.#look(this.#next)
    return this.#strange
  }

  #look(block: number): void {
    const start = block << BLOCK_BITS
    const end = start + (1 << BLOCK_BITS)
    const bits = this.#bits
    let seen = 0
    let score = 0
    let at = bits.next(start, end)
    for (; at >= 0 && at < end && seen < SAMPLE; at = bits.next(at + 1, end)) {
      score += this.#reader.scoreAt(at)
      seen++
    }
    if (score >= (seen === SAMPLE ? PLAUSIBLE : 0)) return
    if (score < 0 || !this.#isPlausible(at, end)) this.#strange[block] = 1
  }

  /** Whether all that follows up to `end` is of the forms that code has. */
  #isPlausible(from: number, end: number): boolean {
    const bits = this.#bits
    let score = 0
    let seen = 0
    for (let at = from; at >= 0 && at < end; at = bits.next(at + 1, end)) {
      score += this.#reader.scoreAt(at)
      if (++seen < 2 * SAMPLE) continue
      if (score < 2 * PLAUSIBLE) return false
      score = seen = 0
    }
    return true
  }
}
