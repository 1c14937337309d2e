/**
 * Instructions decoded ahead of verification, by another thread while the first one analyses and relocates: a word for each offset of the code.
 *
 * A word says what iced finds at its offset, whoever comes to it from wherever, so it holds in any claim; 0 says nothing, and verification
 * decodes there itself. So it does not matter how far the other thread has come, nor what it leaves out: whatever is rare.
 */
import { IcedCursor } from '../x86/iced.ts'
import type { Cpu } from '../x86/instruction.ts'

/**
 * A word: bits 0-3 the instruction's length; bits 4-7 the offset in it of its 4-byte relative field, where that points out of the code (0: it has no
 * relative field, or one that points at the code); bit 8 is set for a `lea`.
 */
export type AheadWords = Uint16Array

const FIELD = 4
const IS_LEA = 1 << 8

export const aheadLength = (word: number): number => word & 15
export const aheadField = (word: number): number => (word >> FIELD) & 15
export const aheadIsLea = (word: number): boolean => (word & IS_LEA) !== 0

/** Bytes in a stretch. */
const STRETCH = 1 << 16

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
  readonly #end: bigint

  /** `code` is copied. */
  constructor({ code, words, cpu }: AheadCode) {
    this.#words = words
    this.#cursor = new IcedCursor(code, { cpu })
    this.#length = code.length
    this.#end = BigInt(code.length)
  }

  /** Decodes all code, the last stretch first: verification goes forward, and where the two meet, all is done. */
  all(): void {
    for (let start = (this.#length - 1) & -STRETCH; start >= 0; start -= STRETCH) this.from(start)
  }

  /** Decodes from `start` to where it falls into step with what is decoded already. */
  from(start: number): void {
    const cursor = this.#cursor
    const words = this.#words
    for (let at = start; at < words.length && words[at] === 0; at += cursor.length || 1)
      if (cursor.decode(at) > 0) words[at] = wordOf(cursor, this.#end)
  }

  /** Frees iced's objects; nothing can be decoded after it. */
  dispose(): void {
    this.#cursor.dispose()
  }
}

/** The word of the instruction under the cursor, whose addresses are offsets; 0 for what is rare. */
function wordOf(cursor: IcedCursor, end: bigint): number {
  const { length, isBranch } = cursor
  if (!isBranch && !cursor.isIpRelative) return length
  if (isBranch ? cursor.isBranch16 : cursor.isEipRelative || cursor.inSegment) return 0
  if (cursor.target! < end) return length
  const [field, size] = isBranch
    ? [cursor.immediateOffset, cursor.immediateSize]
    : [cursor.displacementOffset, cursor.displacementSize]
  return size === 4 ? length | (field << FIELD) | (cursor.isLea ? IS_LEA : 0) : 0
}
