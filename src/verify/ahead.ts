/**
 * Instructions decoded ahead of verification, by another thread while the first one analyses and relocates: a
 * word for each offset of the code.
 *
 * A word says what iced finds at its offset, whoever comes to it from wherever, so it holds in any claim; 0
 * says nothing, and verification decodes there itself. So it does not matter what the other thread leaves
 * out: whatever is rare. Where it is still at work, waiting for it takes less time than loading iced here.
 */
import { IcedCursor } from '../x86/iced.ts'
import type { Cpu } from '../x86/instruction.ts'

/**
 * A word: bits 0-3 the instruction's length; bits 4-7 its relative field, where that points out of the code:
 * the offset in it of a field of four bytes, `LEA` or `SHORT`; 0: it has no relative field, or one that
 * points at the code.
 */
export type AheadWords = Uint8Array

const FIELD = 4
/** The four bytes at the end of a `lea`. */
const LEA = 14
/** One byte, at the end. */
const SHORT = 15

export const aheadLength = (word: number): number => word & 15
export const aheadSize = (word: number): number => (word >> FIELD === SHORT ? 1 : 4)
export const aheadIsLea = (word: number): boolean => word >> FIELD === LEA
export const aheadField = (word: number): number =>
  word >> FIELD < LEA ? word >> FIELD : aheadLength(word) - aheadSize(word)

/** Bytes between two reports of how far decoding has come. */
const STRETCH = 1 << 16

/** What is known, and what may still become known. */
export interface Ahead {
  readonly words: AheadWords
  /** Waits for the word at `offset`, as long as another thread may write it. */
  wait?(offset: number): void
}

/** Code, and a word for each of its bytes. */
export interface AheadCode {
  readonly code: Uint8Array
  readonly words: AheadWords
  readonly cpu?: Cpu | undefined
}

/** Fills words. */
export class AheadDecoder {
  readonly #words: AheadWords
  readonly #cursor: IcedCursor
  readonly #length: number

  /** `code` is copied. */
  constructor({ code, words, cpu }: AheadCode) {
    this.#words = words
    this.#cursor = new IcedCursor(code, { cpu })
    this.#length = code.length
  }

  /** Decodes all code; tells `report` how far it is, again and again. */
  all(report: (done: number) => void = () => {}): void {
    for (let at = 0, end = STRETCH; at < this.#length; end += STRETCH) {
      // Memory that is read before it is written is mapped twice.
      this.#words.fill(0, at, end)
      report((at = this.#decode(at, end)))
    }
  }

  /** Decodes from `start` to where it falls into step with what is decoded already. */
  from(start: number): void {
    this.#decode(start, this.#length)
  }

  #decode(start: number, end: number): number {
    const cursor = this.#cursor
    const words = this.#words
    const stop = Math.min(end, words.length)
    let at = start
    for (; at < stop && words[at] === 0; at += cursor.length || 1)
      if (cursor.decode(at) > 0) words[at] = wordOf(cursor, this.#length)
    return at
  }

  /** Frees iced's objects; nothing can be decoded after it. */
  dispose(): void {
    this.#cursor.dispose()
  }
}

/** The word of the instruction under the cursor, whose addresses are offsets; 0 for what is rare. */
function wordOf(cursor: IcedCursor, end: number): number {
  const { length, isBranch } = cursor
  if (!isBranch && !cursor.isIpRelative) return length
  if (isBranch ? cursor.isBranch16 : cursor.isEipRelative || cursor.inSegment) return 0
  // Offsets are below 2^31, and no field reaches beyond 2^32: the low half tells.
  if (cursor.targetLow! < end) return length
  const [field, size] = isBranch
    ? [cursor.immediateOffset, cursor.immediateSize]
    : [cursor.displacementOffset, cursor.displacementSize]
  const place = size === 1 ? SHORT : cursor.isLea ? LEA : field
  const word = length | (place << FIELD)
  return aheadField(word) === field && aheadSize(word) === size ? word : 0
}
