/**
 * What it says for a value that it points where it points. Addresses point at functions, labels and objects;
 * chance values are spread like the offsets of the blob, most of them into the middle of instructions. Where
 * this blob's addresses point is learnt from its own candidates, on top of counts over many others; and a
 * class of operands whose values all together are spread like chance holds numbers, such as the offsets of
 * large structures.
 */
import { CARRIERS, type Candidates, Carrier, isWide } from './candidates.ts'
import type { Places } from './places.ts'
import type { Window } from './window.ts'

/** Shares of each `Place` among the distinct targets of addresses in operands, and in words of data. */
export interface PointStatistics {
  readonly operand: readonly number[]
  readonly word: readonly number[]
}

/** Over the programs of a corpus of many origins, by scripts/point-counts.ts. */
let statistics: PointStatistics = {
  operand: [0.356, 0.0032, 0.071, 0.0039, 0.522, 0.0375, 0.006, 0.001],
  word: [0.4127, 0.0519, 0.0719, 0.00027, 0.4094, 0.039, 0.0149, 0.00003],
}

/** For leave-one-out trials. */
export function usePointStatistics(others: PointStatistics): void {
  statistics = others
}

/** How many distinct values of the blob's own weigh as much as those. */
const MASS = 30
/** Shares of addresses among a class's values that are tried against there being none. */
const SHARES = [0.2, 0.5, 1]
/** The most that a whole class's spread says against one value. */
const MOST_AGAINST = -12

/** Whether the carrier is a word of data, not an operand. */
export const isWord = (carrier: number): boolean => carrier >= Carrier.word

export class Points {
  /** log-odds of each place: for operands, for words. */
  readonly #places: readonly (readonly number[])[]
  /** log-odds of each carrier. */
  readonly #classes: readonly number[]

  /** @param span bytes of the moved range */
  constructor(candidates: Candidates, places: Places, window: Window, span: number) {
    const counts = countPlaces(candidates, places, window, span)
    const census = places.census()
    const total = census.reduce((a, b) => a + b, 0)
    const chance = Array.from(census, (count) => (count + 1) / (total + 8))
    const sum = (list: readonly number[][]): number[] =>
      chance.map((_, place) => list.reduce((all, one) => all + one[place], 0))
    this.#places = [
      learn(sum(counts.slice(0, Carrier.word)), statistics.operand, chance),
      learn(counts[Carrier.word], statistics.word, chance),
    ]
    // Sizes and offsets are below 2^32; up there nothing is in the range by chance, wherever it points.
    this.#classes = counts.map((own, carrier) =>
      window.baseHigh !== 0 && isWide(carrier)
        ? 0
        : spread(own, isWord(carrier) ? statistics.word : statistics.operand, chance),
    )
  }

  /** log-odds for a value of this carrier that points at this place. */
  atPlace(carrier: number, place: number): number {
    return this.#places[isWord(carrier) ? 1 : 0][place]
  }

  /** log-odds, 0 or less, for every value of this carrier: whether they all are spread like chance. */
  ofClass(carrier: number): number {
    return this.#classes[carrier]
  }
}

/** How many distinct values of each carrier point at each place. */
function countPlaces(candidates: Candidates, places: Places, window: Window, span: number): number[][] {
  const counts = Array.from({ length: CARRIERS }, () => new Array<number>(8).fill(0))
  const seen = Array.from({ length: CARRIERS }, () => new Set<number>())
  for (let i = 0; i < candidates.count; i++) {
    const carrier = candidates.carrier(i)
    const distance = window.distance(candidates.low(i), candidates.high(i))
    if (carrier > Carrier.word || distance < 0 || distance > span || seen[carrier].has(distance)) continue
    seen[carrier].add(distance)
    counts[carrier][places.at(distance)]++
  }
  return counts
}

/** log(P(place | address) / P(place | chance)), of the blob's own counts and those of others. */
function learn(own: readonly number[], others: readonly number[], chance: readonly number[]): number[] {
  const total = own.reduce((a, b) => a + b, 0)
  // A few of a sort may be chance themselves: own counts below ten are damped.
  return own.map(
    (count, place) =>
      Math.log((count * (count / (count + 10)) + MASS * others[place]) / (total + MASS)) -
      Math.log(chance[place]),
  )
}

/** log(P(counts | some are addresses) / P(counts | all are chance)), at most 0. */
function spread(own: readonly number[], others: readonly number[], chance: readonly number[]): number {
  const odds = SHARES.map((share) =>
    own.reduce(
      (sum, count, place) => sum + count * Math.log(1 - share + (share * others[place]) / chance[place]),
      0,
    ),
  )
  return Math.max(MOST_AGAINST, Math.min(0, Math.max(...odds)))
}
