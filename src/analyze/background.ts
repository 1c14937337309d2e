/**
 * Which values of each class of operand lie in the blob's range and beside it: what chance would put into it
 * is read off what it puts beside it.
 */
import { CARRIERS, isWide } from './candidates.ts'

/**
 * Added to the expected number of chance values: below it, nothing is known. 64-bit values at high bases are
 * never chance.
 */
function floorOf(wide: boolean, base: number): number {
  if (!wide || base < 2 ** 32) return 0.05
  return base < 2 ** 40 ? 1e-3 : 1e-6
}

export class Background {
  // A value counts once, however often it is used: constants repeat.
  readonly #inside = Array.from({ length: CARRIERS }, () => new Set<number>())
  readonly #below = Array.from({ length: CARRIERS }, () => new Set<number>())
  readonly #above = Array.from({ length: CARRIERS }, () => new Set<number>())
  readonly #all = new Float64Array(CARRIERS)

  /** Counts one value by its low half; `side` as `Window.side` says it. */
  count(carrier: number, side: number, low: number): void {
    if (side === 2) return
    this.#all[carrier]++
    const values = side === 0 ? this.#inside : side < 0 ? this.#below : this.#above
    values[carrier].add(low)
  }

  /** log((in - by chance) / by chance) for a class, where the range is [base, base + span). */
  logOdds(carrier: number, base: number, span: number): number {
    const wide = isWide(carrier)
    const end = base + span
    // Constants thin out like 1/x: of a density c/x the range takes c ln(end / base), the window above it c
    // ln((end + span) / end).
    const inner = base > 0 ? Math.log(end / base) : 4
    const above = (this.#above[carrier].size * inner) / Math.log((end + span) / end)
    const below =
      base > 0
        ? (this.#below[carrier].size * inner) / Math.log(base / Math.max(base - span, base / 2))
        : above
    const spread = this.#all[carrier] * (span / (wide ? 2 ** 46 : 2 ** 32))
    const chance = Math.max((above + below) / 2, spread)
    return Math.log((Math.max(this.#inside[carrier].size - chance, 0) + 0.1) / (chance + floorOf(wide, base)))
  }
}
