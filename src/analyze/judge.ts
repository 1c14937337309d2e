/**
 * Which candidates are addresses. A value in a covered range is one unless there is evidence that it is a number: in a class of
 * operands where values beside the range are as frequent as values in it, or at a target where no pointer points.
 *
 * log-odds(address) = log((in - by chance) / by chance) of its class in this blob + evidence of what it points at + evidence of how it looks.
 * What chance would put into the range is read off the values just above and just below it: ordinary constants thin out like 1/x.
 */
import type { TableBuilder } from '../table/builder.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import { ADDRESS_ENCODING, ADDRESS_FLOW, ADDRESS_RANGE, packEvidence } from '../table/site.ts'
import { CARRIERS, type Candidates, Carrier } from './candidates.ts'
import { Place, type Places } from './places.ts'
import { Mark } from './segment.ts'
import type { Window } from './window.ts'

/** Which values of each class lie in the blob's range, below and above; each value counts once, however often it is used. */
export class Background {
  readonly #inside = Array.from({ length: CARRIERS }, () => new Set<number>())
  readonly #below = Array.from({ length: CARRIERS }, () => new Set<number>())
  readonly #above = Array.from({ length: CARRIERS }, () => new Set<number>())
  readonly #all = new Float64Array(CARRIERS)

  /** Counts one value; `side` as `Window.side` says it. */
  count(carrier: number, side: number, value: number): void {
    this.#all[carrier]++
    if (side === 0) this.#inside[carrier].add(value)
    else if (side === -1) this.#below[carrier].add(value)
    else if (side === 1) this.#above[carrier].add(value)
  }

  /** log((in - by chance) / by chance) for a class, where the range is [base, base + span). */
  logOdds(carrier: number, base: number, span: number): number {
    const wide = carrier === Carrier.wide || carrier === Carrier.word || carrier === Carrier.unaligned
    const end = base + span
    // Of a density c / x the range takes c ln(end / base), the window above it c ln((end + span) / end).
    const inner = base > 0 ? Math.log(end / base) : 4
    const above = (this.#above[carrier].size * inner) / Math.log((end + span) / end)
    const below =
      base > 0
        ? (this.#below[carrier].size * inner) / Math.log(base / Math.max(base - span, base / 2))
        : above
    const spread = this.#all[carrier] * (span / (wide ? 2 ** 46 : 2 ** 32))
    const chance = Math.max(0.5 * (above + below), spread)
    const inside = this.#inside[carrier].size
    const floor = !wide || base < 2 ** 32 ? 0.05 : base < 2 ** 40 ? 1e-3 : 1e-6
    return Math.log((Math.max(inside - chance, 0) + 0.1) / (chance + floor))
  }
}

/** Where addresses in instructions, and in words of data, point; counted over a corpus of many origins. In the order of `Place`. */
const POINTS_INSTRUCTION = [0.26, 0.005, 0.05, 0.001, 0.58, 0.08, 0.02, 0.004]
const POINTS_WORD = [0.45, 0.17, 0.065, 0.00003, 0.27, 0.04, 0.004, 0.0007]
/** How many distinct values of the blob's own outweigh those. */
const MASS = 30

const isWord = (carrier: number): boolean => carrier >= Carrier.word

/** What it says for an address that it points at a place of each sort: learnt from where this blob's candidates point, against chance. */
function pointEvidence(
  candidates: Candidates,
  places: Places,
  window: Window,
  span: number,
  words: boolean,
): number[] {
  const seen = new Set<number>()
  const points = new Float64Array(8)
  for (let i = 0; i < candidates.count; i++) {
    const distance = window.distance(candidates.low(i), candidates.high(i))
    if (
      candidates.carrier(i) > Carrier.word ||
      isWord(candidates.carrier(i)) !== words ||
      distance < 0 ||
      distance > span ||
      seen.has(distance)
    )
      continue
    seen.add(distance)
    points[places.at(distance)]++
  }
  const census = places.census()
  const total = census.reduce((a, b) => a + b, 0)
  const prior = words ? POINTS_WORD : POINTS_INSTRUCTION
  return Array.from(
    points,
    (own, place) =>
      Math.log((own * (own / (own + 10)) + MASS * prior[place]) / (seen.size + MASS)) -
      Math.log((census[place] + 1) / (total + 8)),
  )
}

/** Evidence that a value is a number for people: a power of two, or one less, or a multiple of one. */
function roundness(low: number, high: number): number {
  if (high !== 0 || low === 0) return 0
  if (low < 0x1_0000) return 0
  if ((low & (low - 1)) === 0 || (low & (low + 1)) === 0) return low <= 0x40_0000 ? -9 : -6
  if ((low & 0xffff) === 0 || ((low + 1) & 0xffff) === 0) return -4
  return (low & 0xfff) === 0 ? -1 : 0
}

/** log-odds from which on a site counts as used as an address. */
const FLOW = 6

/** Judges all candidates and adds those that are addresses to the table. */
export function judge(
  candidates: Candidates,
  background: Background,
  places: Places,
  window: Window,
  view: DataView,
  marks: Uint8Array,
  builder: TableBuilder,
): void {
  const { span } = builder.blob
  const base = window.baseHigh * 2 ** 32 + window.baseLow
  const prior = Array.from({ length: CARRIERS }, (_, carrier) =>
    Math.max(-1, background.logOdds(carrier, base, span)),
  )
  const points = [false, true].map((words) => pointEvidence(candidates, places, window, span, words))
  // What is likelier comes first, and takes the bytes that it needs from the others.
  for (const stage of [0, Carrier.unaligned, Carrier.half]) {
    if (stage !== 0 && !isUsed(candidates, stage, places, window, span, marks)) continue
    for (let i = 0; i < candidates.count; i++) {
      const carrier = candidates.carrier(i)
      if (stage === 0 ? carrier > Carrier.word : carrier !== stage) continue
      const low = candidates.low(i)
      const high = candidates.high(i)
      const width = KIND_ROWS[candidates.kind(i)].width
      if (isTaken(marks, candidates.offset(i), width)) continue
      let odds = 100
      if (carrier !== Carrier.absolute) {
        const distance = window.distance(low, high)
        const point =
          distance >= 0 && distance <= span ? points[isWord(carrier) ? 1 : 0][places.at(distance)] : 0
        odds = prior[carrier] + point + roundness(low, high)
        if (isWord(carrier))
          odds += wordEvidence(
            view,
            window,
            candidates.offset(i),
            low,
            high,
            carrier === Carrier.half ? 4 : 8,
          )
      }
      ;(globalThis as any).HOOK?.(
        candidates.offset(i),
        odds,
        prior[candidates.carrier(i)],
        candidates.carrier(i),
        places.at(Math.min(span, Math.max(0, window.distance(candidates.low(i), candidates.high(i))))),
        candidates.low(i),
      )
      if (odds < 0) continue
      take(marks, candidates.offset(i), width)
      const level =
        carrier === Carrier.absolute ? ADDRESS_ENCODING : odds >= FLOW ? ADDRESS_FLOW : ADDRESS_RANGE
      builder.addAbsolute(
        candidates.offset(i),
        candidates.kind(i),
        low,
        high,
        packEvidence(candidates.code(i), level),
      )
    }
  }
}

/**
 * Whether a blob holds pointers in words of a sort that compilers avoid. There are many then, and nearly all of the values point where
 * pointers point; chance values point into the middle of things.
 */
function isUsed(
  candidates: Candidates,
  carrier: number,
  places: Places,
  window: Window,
  span: number,
  marks: Uint8Array,
): boolean {
  let count = 0
  let middle = 0
  for (let i = 0; i < candidates.count; i++) {
    if (
      candidates.carrier(i) !== carrier ||
      isTaken(marks, candidates.offset(i), KIND_ROWS[candidates.kind(i)].width)
    )
      continue
    const distance = window.distance(candidates.low(i), candidates.high(i))
    if (distance < 0 || distance > span) continue
    count++
    const place = places.at(distance)
    if (place === Place.inside || place === Place.instruction) middle++
  }
  return count >= 20 && middle * 10 < count
}

/** Whether a byte of the field belongs to a site already. */
export function isTaken(marks: Uint8Array, offset: number, width: number): boolean {
  for (let i = offset; i < offset + width; i++) if ((marks[i] & Mark.field) !== 0) return true
  return false
}

export function take(marks: Uint8Array, offset: number, width: number): void {
  for (let i = offset; i < offset + width; i++) marks[i] |= Mark.field
}

/** Evidence of a word's surroundings and looks: pointers stand beside pointers; text and small numbers look like themselves. */
function wordEvidence(
  view: DataView,
  window: Window,
  offset: number,
  low: number,
  high: number,
  size: number,
): number {
  let beside = 0
  for (const step of [-2 * size, -size, size, 2 * size]) {
    const at = offset + step
    if (at < 0 || at + size > view.byteLength) continue
    if (window.has(view.getUint32(at, true), size === 8 ? view.getUint32(at + 4, true) : 0)) beside += 2
  }
  let evidence = beside === 0 ? (size === 8 ? -1.5 : 0) : Math.min(beside, size === 8 ? 4 : 8)
  if (high !== 0) return high < 0x100 && low < 0x1_0000 ? evidence - 6 : evidence
  if (
    isText(low) &&
    offset > 1 &&
    isPrintable(view.getUint8(offset - 1)) &&
    isPrintable(view.getUint8(offset - 2))
  )
    evidence -= 6
  const [b0, b1, b2] = [low & 0xff, (low >>> 8) & 0xff, (low >>> 16) & 0xff]
  if (low >>> 16 === (low & 0xffff) || (b0 === b1 && b1 === b2)) evidence -= 10
  return evidence
}

const isPrintable = (byte: number): boolean => byte >= 0x20 && byte < 0x7f

/** Whether the three low bytes are printable, and the fourth is or is zero. */
function isText(low: number): boolean {
  const last = low >>> 24
  return (
    isPrintable(low & 0xff) &&
    isPrintable((low >>> 8) & 0xff) &&
    isPrintable((low >>> 16) & 0xff) &&
    (last === 0 || isPrintable(last))
  )
}
