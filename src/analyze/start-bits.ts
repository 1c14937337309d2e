/** Where instructions start: one bit for each offset. */
export class StartBits {
  readonly #words: Uint32Array

  constructor(length: number) {
    this.#words = new Uint32Array((length >>> 5) + 1)
  }

  add(starts: Uint32Array | readonly number[]): void {
    const words = this.#words
    for (let i = 0; i < starts.length; i++) {
      const start = starts[i] | 0
      words[start >>> 5] |= 1 << (start & 31)
    }
  }

  addOne(offset: number): void {
    this.#words[offset >>> 5] |= 1 << (offset & 31)
  }

  /** Forgets the starts in [start, end). */
  clear(start: number, end: number): void {
    for (let at = start; at < end; at++) this.#words[at >>> 5] &= ~(1 << (at & 31))
  }

  has(offset: number): boolean {
    return ((this.#words[offset >>> 5] >>> (offset & 31)) & 1) !== 0
  }

  /** The last start at or before `offset`, within 31 bytes; -1 without one. */
  lastUpTo(offset: number): number {
    for (let at = offset; at >= 0 && at > offset - 31; at--) if (this.has(at)) return at
    return -1
  }
}
