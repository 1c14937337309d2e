/** The form of the generated tables: runs of equal numbers, `value, count, value, count ...`. */

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
    const value = runs[i] << shift
    const end = at + runs[i + 1]
    // A call costs more than a few numbers.
    if (end - at > 8) into.fill(value, at, end)
    else for (let j = at; j < end; j++) into[j] = value
    at = end
  }
  return into
}

/** `count` pages of 256 cells by page number: `numbers` are runs of the page that each number has. */
export function expandPages(
  pages: readonly number[],
  numbers: readonly number[],
  count: number,
): Uint16Array {
  // No more pages than there are numbers; counting them first takes as long as writing them.
  const list = expandRuns(pages, new Uint16Array(count << 8))
  const byNumber = expandRuns(numbers, new Uint16Array(count))
  const cells = new Uint16Array(count << 8)
  byNumber.forEach((page, number) => {
    cells.set(list.subarray(page << 8, (page + 1) << 8), number << 8)
  })
  return cells
}
