/** The form of the generated tables: runs of equal numbers, `value, count, value, count ...`, and pages of them. */

/** Numbers that `runs` stand for. */
export function runLength(runs: readonly number[]): number {
  let length = 0
  for (let i = 1; i < runs.length; i += 2) length += runs[i]
  return length
}

/** Writes the numbers that `runs` stand for, each shifted left by `shift`, to the start of `into`. */
export function expandRuns(runs: readonly number[], into: Uint16Array, shift = 0): Uint16Array {
  let at = 0
  for (let i = 0; i < runs.length; i += 2) {
    const end = at + runs[i + 1]
    into.fill(runs[i] << shift, at, end)
    at = end
  }
  return into
}

/**
 * Pages of 256 cells by page number. Most code uses few of them, so that each is expanded when the first of
 * its cells is asked for: until then its cells are 0, as those are that stand for nothing. Who finds a 0
 * opens the page, and looks again if it was not open.
 */
export class CellPages {
  /** The row of each opcode, 256 a page number. */
  readonly cells: Uint16Array
  readonly #pages: readonly (readonly number[])[]
  readonly #numbers: readonly number[]
  readonly #isOpen: Uint8Array

  /**
   * @param pages runs of cells
   * @param numbers the page that each number has
   */
  constructor(pages: readonly (readonly number[])[], numbers: readonly number[]) {
    this.cells = new Uint16Array(numbers.length << 8)
    this.#pages = pages
    this.#numbers = numbers
    this.#isOpen = new Uint8Array(numbers.length)
  }

  /** Expands the page with that number. Returns false if it was already. */
  open(number: number): boolean {
    if (this.#isOpen[number] !== 0) return false
    expandRuns(this.#pages[this.#numbers[number]], this.cells.subarray(number << 8))
    this.#isOpen[number] = 1
    return true
  }
}
