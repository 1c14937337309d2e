/** Binary search in ascending lists. */

/** Index of the first of the ascending `values` that is not below `least`: how many are below it. */
export function lowerBound<T extends number | bigint>(values: ArrayLike<T>, least: T): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (values[middle] < least) low = middle + 1
    else high = middle
  }
  return low
}
