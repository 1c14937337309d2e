/** Which blocks of a linear reading are not of the forms that code has: their first instructions tell. */
import { viewOf } from '../core/bytes.ts'
import { FAST_INDICES, type FastTables, fastTablesFor } from '../x86/fast.ts'
import { Instruction, type InstructionDecoder } from '../x86/instruction.ts'
import type { StartBits } from '../x86/start-bits.ts'
import { knownScores, opcodeScore, SCORE_BIAS } from './opcode-stats.ts'

export const BLOCK_BITS = 8
/** Instructions looked at in each block, and what they must score together, in sixteenths. */
const SAMPLE = 6
const PLAUSIBLE = 64

/** Looks at the blocks in ascending order. */
export class FormSampler {
  readonly #scores: FormScores
  readonly #bits: StartBits
  readonly #strange: Uint8Array
  /** The first that was not looked at. */
  #next = 0

  /** @param bits the starts of the reading, as far as it goes */
  constructor(code: Uint8Array, decoder: InstructionDecoder, bits: StartBits) {
    this.#scores = new FormScores(code, decoder)
    this.#bits = bits
    this.#strange = new Uint8Array((code.length >>> BLOCK_BITS) + 1)
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
      score += this.#scores.at(at)
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
      score += this.#scores.at(at)
      if (++seen < 2 * SAMPLE) continue
      if (score < 2 * PLAUSIBLE) return false
      score = seen = 0
    }
    return true
  }
}

/** Bytes from an instruction's start that its index is made of. */
const HEAD = 4

/** How likely the forms of instructions are in code: each form that the fast tables know is decoded once. */
class FormScores {
  readonly #view: DataView
  readonly #decoder: InstructionDecoder
  readonly #instruction = new Instruction()
  readonly #known: Uint8Array
  readonly #fast: FastTables = fastTablesFor('intel')

  constructor(code: Uint8Array, decoder: InstructionDecoder) {
    this.#view = viewOf(code)
    this.#decoder = decoder
    this.#known = knownScores()
  }

  /** Of the instruction at `start`, in sixteenths of a natural logarithm. */
  at(start: number): number {
    if (start + HEAD > this.#view.byteLength) return this.#decode(start)
    const word = this.#view.getInt32(start, false)
    const index = this.#fast.indexOf(word)
    if (index < 0) return this.#decode(start)
    // An entry of 0F is the same with REX.W, its score is not.
    const key = index | (isWide(word) ? FAST_INDICES : 0)
    const known = this.#known[key]
    if (known !== 0) return known - SCORE_BIAS - 1
    const score = this.#decode(start)
    this.#known[key] = score + SCORE_BIAS + 1
    return score
  }

  #decode(start: number): number {
    this.#decoder.decode(start, this.#instruction)
    return opcodeScore(this.#instruction)
  }
}

/** Whether the first of four bytes, big-endian, is a REX prefix with W. */
const isWide = (word: number): boolean => word >>> 27 === 0x48 >> 3
