/** Which bytes of an area stand for which instruction, in columns: a large blob has tens of thousands of veneers. */
export class AreaParts {
  #starts: number[] = []
  #ends: number[] = []
  #offsets: number[] = []
  #isAscending = true

  /** Bytes [start, end) of the area stand for the instruction at `offset` of the blob; no byte for two. */
  add(start: number, end: number, offset: number): void {
    const last = this.#starts.length - 1
    if (last >= 0 && start < this.#starts[last]) this.#isAscending = false
    this.#starts.push(start)
    this.#ends.push(end)
    this.#offsets.push(offset)
  }

  /** The instruction that byte `at` of the area stands for; undefined where there is none. */
  servedAt(at: number): number | undefined {
    if (!this.#isAscending) this.#sort()
    let low = 0
    let high = this.#starts.length - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      if (at < this.#starts[middle]) high = middle - 1
      else if (at >= this.#ends[middle]) low = middle + 1
      else return this.#offsets[middle]
    }
    return undefined
  }

  #sort(): void {
    const starts = this.#starts
    const order = [...starts.keys()].sort((a, b) => starts[a] - starts[b])
    const sorted = (column: readonly number[]): number[] => order.map((i) => column[i])
    this.#ends = sorted(this.#ends)
    this.#offsets = sorted(this.#offsets)
    this.#starts = sorted(starts)
    this.#isAscending = true
  }
}
