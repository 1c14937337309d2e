/** Sorting of many numbers. */

/** Whole numbers in ascending order, as offsets from the least of them. */
export interface SortedIntegers {
  readonly least: number
  readonly offsets: Uint32Array | Float64Array
}

/**
 * Sorts whole numbers, less than 2^53 apart. Many of them, less than 2^32 apart, are sorted by the lower half
 * of their bits, then, keeping that order among equals, by the upper half: a radix sort, four times as fast
 * as comparing. Offsets, as integers are no objects on the heap where the code is not compiled yet.
 */
export function sortIntegers(values: ArrayLike<number>): SortedIntegers {
  const { least, span } = extremes(values)
  const { length } = values
  const offsets = span < 2 ** 32 ? new Uint32Array(length) : new Float64Array(length)
  for (let i = 0; i < length; i++) offsets[i] = values[i] - least
  const bits = Math.ceil(Math.log2(span + 1) / 2)
  if (offsets instanceof Float64Array || 2 ** bits > length) return { least, offsets: offsets.sort() }
  const half = new Uint32Array(length)
  distribute(offsets, half, 0, bits)
  distribute(half, offsets, bits, bits)
  return { least, offsets }
}

function extremes(values: ArrayLike<number>): { readonly least: number; readonly span: number } {
  if (values.length === 0) return { least: 0, span: 0 }
  let [min, max] = [values[0], values[0]]
  for (let i = 1; i < values.length; i++) {
    const value = values[i]
    if (value < min) min = value
    else if (value > max) max = value
  }
  return { least: min, span: max - min }
}

/** Sorts by the digit of `bits` bits from bit `shift` on. */
function distribute(from: Uint32Array, to: Uint32Array, shift: number, bits: number): void {
  const mask = (1 << bits) - 1
  const places = new Uint32Array(mask + 1)
  for (let i = 0; i < from.length; i++) places[(from[i] >>> shift) & mask]++
  for (let digit = 0, before = 0; digit <= mask; digit++) {
    before += places[digit]
    places[digit] = before - places[digit]
  }
  for (let i = 0; i < from.length; i++) to[places[(from[i] >>> shift) & mask]++] = from[i]
}
