import { lowestBit } from '../core/bits.ts'

/** Where instructions start: one bit for each offset. */
export class StartBits {
  /** Bit i of word w: offset 32 w + i. */
  readonly words: Uint32Array

  constructor(length: number) {
    this.words = new Uint32Array((length >>> 5) + 1)
  }

  add(starts: Uint32Array | readonly number[]): void {
    const words = this.words
    for (let i = 0; i < starts.length; i++) {
      const start = starts[i] | 0
      words[start >>> 5] |= 1 << (start & 31)
    }
  }

  addOne(offset: number): void {
    this.words[offset >>> 5] |= 1 << (offset & 31)
  }

  /** Forgets the starts in [start, end). */
  clear(start: number, end: number): void {
    const first = start >>> 5
    const last = end >>> 5
    const below = (1 << (start & 31)) - 1
    const above = -1 << (end & 31)
    if (first === last) this.words[first] &= below | above
    else {
      this.words[first] &= below
      this.words.fill(0, first + 1, last)
      this.words[last] &= above
    }
  }

  has(offset: number): boolean {
    return ((this.words[offset >>> 5] >>> (offset & 31)) & 1) !== 0
  }

  /** All starts, ascending. */
  all(): number[] {
    const starts: number[] = []
    const words = this.words
    for (let i = 0; i < words.length; i++)
      for (let word = words[i]; word !== 0; word &= word - 1) starts.push((i << 5) + lowestBit(word))
    return starts
  }

  /**
   * The first start at or behind `offset`; -1 where there is none before `end`, or before the next multiple
   * of 32 behind it.
   */
  next(offset: number, end: number = 32 * this.words.length): number {
    const words = this.words
    const last = Math.min(words.length, (end + 31) >>> 5)
    let index = offset >>> 5
    let word = words[index] & (-1 << (offset & 31))
    while (word === 0) {
      if (++index >= last) return -1
      word = words[index]
    }
    return (index << 5) + lowestBit(word)
  }

  /** The last start at or before `offset`, within 31 bytes; -1 without one. */
  lastUpTo(offset: number): number {
    if (offset < 0) return -1
    const index = offset >>> 5
    const word = this.words[index] << (31 - (offset & 31))
    if (word !== 0) return offset - Math.clz32(word)
    const before = index === 0 ? 0 : this.words[index - 1]
    const at = (index << 5) - 1 - Math.clz32(before)
    return before !== 0 && at > offset - 31 ? at : -1
  }
}
