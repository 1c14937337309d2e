/**
 * Where relative fields point outside the blob. Real ones cluster, because what is outside is a few sections,
 * stubs or libraries; those of data read as code are spread over 4 GiB. The score of a target is how much
 * denser its neighbourhood is than chance would have it.
 */

import { lowerBound } from '../core/search.ts'
import { sortIntegers } from '../core/sort.ts'

/** Half of the neighbourhood's width, in bytes. */
const NEAR = 1 << 16
/** How many magnitudes there are, by natural logarithm, from the next page to 2 GiB. */
const MAGNITUDES = Math.log(2 ** 31 / 2 ** 12)
/** Added to both counts: below this, density says nothing. */
const PRIOR = 0.02

/**
 * How much likelier code points to this one distance than chance does, a natural logarithm: code points to
 * each magnitude alike, to a section beside it as to a library far away, chance to each address of 4 GiB
 * alike. Never below 0: what is far away is no evidence.
 */
function nearness(distance: number, span: number): number {
  const away = Math.max(NEAR, distance < 0 ? -distance : distance - span)
  return Math.max(0, Math.log(2 ** 32 / (2 * away * MAGNITUDES)))
}

export class OutsideTargets {
  /** Offsets from `#least`. */
  readonly #sorted: Uint32Array | Float64Array
  readonly #least: number
  /** What a target without any other near it is worth: the fewer there are of them, the less. */
  readonly #lonely: number

  /** @param targets distances from the base, one for each relative field that points outside */
  constructor(targets: ArrayLike<number>) {
    const { least, offsets: sorted } = sortIntegers(targets)
    const { length } = sorted
    let alone = 0
    // Far from the one before, that is; and when the next is far too, it was alone.
    let isFar = true
    for (let i = 0; i < length; i++) {
      const wasFar = isFar
      isFar = i === length - 1 || sorted[i + 1] - sorted[i] >= NEAR
      if (wasFar && isFar) alone++
    }
    this.#sorted = sorted
    this.#least = least
    this.#lonely = -Math.log(1 + length / (1 + alone))
  }

  /** Number of targets near `distance`, and whether it is one of them. */
  near(distance: number): { readonly count: number; readonly exact: boolean } {
    const offset = distance - this.#least
    return { count: this.#near(offset), exact: this.#sorted[lowerBound(this.#sorted, offset)] === offset }
  }

  #near(offset: number): number {
    return lowerBound(this.#sorted, offset + NEAR) - lowerBound(this.#sorted, offset - NEAR)
  }

  /** Natural-logarithmic score of a field that points at `distance`; it may be among the targets itself. */
  score(distance: number): number {
    return this.#scoreOf(this.#near(distance - this.#least) - 1)
  }

  /** The score of something else that points at `distance`, and is not among the targets. */
  scoreOfOther(distance: number): number {
    return this.#scoreOf(this.#near(distance - this.#least))
  }

  /** The score in sixteenths, from -64 to 64. */
  weight(distance: number): number {
    return Math.max(-64, Math.min(64, Math.round(16 * this.score(distance))))
  }

  /** Of a field with so many others near its target. */
  #scoreOf(others: number): number {
    if (others <= 0) return this.#lonely
    const chance = (this.#sorted.length * 2 * NEAR) / 2 ** 32
    return Math.log((others + PRIOR) / (chance + PRIOR))
  }

  /**
   * The targets themselves that score less than `least`, though what is lonely be the likelier the nearer it
   * is to a blob of `span` bytes.
   */
  below(least: number, span: number): Set<number> {
    const sorted = this.#sorted
    const found = new Set<number>()
    const enough = this.#enough(least)
    for (let i = 0, first = 0, end = 0; i < sorted.length; i++) {
      while (sorted[first] < sorted[i] - NEAR) first++
      while (end < sorted.length && sorted[end] < sorted[i] + NEAR) end++
      const others = end - first - 1
      const distance = this.#least + sorted[i]
      const isBelow = others === 0 ? this.#lonely + nearness(distance, span) < least : others < enough
      if (isBelow) found.add(distance)
    }
    return found
  }

  /**
   * The least number of others, 1 or more, with which a target scores `least`: they score the more the more they are.
   */
  #enough(least: number): number {
    let others = 1
    while (others < this.#sorted.length && this.#scoreOf(others) < least) others++
    return others
  }
}
