/** Absolute values that may be addresses, before they are judged: one row each, in typed columns. */

/** In which kind of place a candidate stands; numbers occur in each at a rate of its own. */
export const Carrier = {
  /** mov r64,imm64. */
  wide: 0,
  /** moffs; disp32 with neither base nor index. */
  absolute: 1,
  /** mov, push imm32. */
  move: 2,
  /** cmp, add, sub r64,imm32. */
  arithmetic: 3,
  /** disp32 with an index and no base: a table. */
  table: 4,
  /** disp32 with a base. */
  field: 5,
  /** mov m32,imm32: half a pointer at best, or a 32-bit one. */
  store: 6,
  /** add, sub, cmp r32 or m32,imm32: hardly ever an address. */
  narrow: 7,
  /**
   * A non-negative immediate in a form that no assembler chooses for a number, since a shorter one does the
   * same: linkers make it of a load from the global offset table whose symbol is near (System V ABI, AMD64
   * supplement, B.2 "Optimize GOTPCRELX Relocations").
   */
  relaxed: 8,
  /** An aligned 8-byte word of data. */
  word: 9,
  /** An 8-byte word that is not aligned. */
  unaligned: 10,
  /** An aligned 4-byte word of data. */
  half: 11,
} as const

export const CARRIERS = 12

/** Whether what the carrier holds is a whole address. */
export const isWide = (carrier: number): boolean =>
  carrier === Carrier.wide || carrier === Carrier.word || carrier === Carrier.unaligned

export class Candidates {
  #count = 0
  /** offset, kind, low, high, carrier of each. */
  #rows: Uint32Array<ArrayBuffer> = new Uint32Array(5 * 256)

  get count(): number {
    return this.#count
  }

  add(offset: number, kind: number, low: number, high: number, carrier: number): void {
    const at = 5 * this.#count++
    if (at >= this.#rows.length) {
      const larger = new Uint32Array(2 * this.#rows.length)
      larger.set(this.#rows)
      this.#rows = larger
    }
    this.#rows[at] = offset
    this.#rows[at + 1] = kind
    this.#rows[at + 2] = low
    this.#rows[at + 3] = high
    this.#rows[at + 4] = carrier
  }

  offset(i: number): number {
    return this.#rows[5 * i]
  }
  kind(i: number): number {
    return this.#rows[5 * i + 1]
  }
  low(i: number): number {
    return this.#rows[5 * i + 2]
  }
  high(i: number): number {
    return this.#rows[5 * i + 3]
  }
  carrier(i: number): number {
    return this.#rows[5 * i + 4]
  }
}
