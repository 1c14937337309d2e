/**
 * Which candidates are addresses. A value in a covered range is one, unless there is evidence that it is a
 * number: it belongs to a class of operands where values beside the range are as frequent as values in it, it
 * points where no pointer points, it looks like a number.
 *
 *   log-odds(address) = log((in - by chance) / by chance) of its class in this blob
 *                     + log(P(place | address) / P(place | chance)) of what it points at
 *                     + evidence of its looks and its neighbours
 *
 * What an address of this blob points at is learnt from the blob itself, on top of counts over many others.
 */
import type { TableBuilder } from '../table/builder.ts'
import { KIND_ROWS, type SiteKind } from '../table/kinds.ts'
import { ADDRESS_ENCODING, ADDRESS_FLOW, ADDRESS_RANGE } from '../table/site.ts'
import type { Background } from './background.ts'
import { CARRIERS, type Candidates, Carrier } from './candidates.ts'
import { neighbours, roundness, wordLooks } from './looks.ts'
import { isTaken, take } from './marks.ts'
import { Place, type Places } from './places.ts'
import { isWord, Points } from './points.ts'
import type { Window } from './window.ts'

/** log-odds from which on an address is corroborated: what it points at, and how its class is used here, agree. */
const CORROBORATED = 6

/**
 * Bytes of data in which chance puts about one unaligned or 4-byte value that looks like a pointer, and how
 * much denser they must be: over 320 blobs without such pointers the densest had 0.9 of them, over 11 with
 * some the sparsest 9.5.
 */
const CHANCE_STRETCH = 4096
const DENSER = 4

/** In-range values of 32-bit add, sub and cmp: none of 120 was an address. */
const NARROW = -20

/** One reason for or against, in log-odds. */
export interface Reason {
  readonly what: string
  readonly odds: number
}

/** What is known about one candidate. */
export interface Verdict {
  readonly offset: number
  readonly kind: SiteKind
  readonly target: bigint
  /** One of `Carrier`. */
  readonly carrier: number
  readonly reasons: readonly Reason[]
  /** What they come to, and what they must come to for an address. */
  readonly odds: number
  readonly least: number
  /** Whether this blob holds addresses in such words at all. */
  readonly isUsed: boolean
}

export interface JudgeInput {
  readonly candidates: Candidates
  readonly background: Background
  readonly places: Places
  readonly window: Window
  readonly view: DataView
  readonly marks: Uint8Array
  readonly builder: TableBuilder
}

export class Judge {
  readonly #in: JudgeInput
  readonly #span: number
  /** The carriers of words that hold addresses here. */
  readonly #stages = new Set<number>()
  /**
   * What evidence against an address is worth, 0 to 1: the more code there is, the surer it holds numbers
   * that look like addresses; in a few instructions that somebody wants to move, a value in the range is one.
   */
  readonly #doubt: number
  /** Of each class. */
  readonly #prior: readonly number[]
  #points: Points | undefined

  constructor(input: JudgeInput) {
    this.#in = input
    this.#span = input.builder.blob.span
    this.#doubt = Math.max(0, Math.min(1, Math.log(input.view.byteLength / 512) / Math.log(32)))
    const base = input.window.baseHigh * 2 ** 32 + input.window.baseLow
    const own = Array.from({ length: CARRIERS }, (_, carrier) =>
      Math.max(-1, input.background.logOdds(carrier, base, this.#span)),
    )
    // A blob that takes addresses in one sort of 32-bit operand takes them in the others.
    const absolute = Math.max(own[Carrier.move], own[Carrier.table])
    const pooled: readonly number[] = [Carrier.arithmetic, Carrier.store]
    this.#prior = own.map((odds, carrier) => (pooled.includes(carrier) ? (odds + absolute) / 2 : odds))
  }

  /** Learnt when the first candidate is weighed. */
  get #pointers(): Points {
    const { candidates, places, window } = this.#in
    return (this.#points ??= new Points(candidates, places, window, this.#span))
  }

  /**
   * Adds every candidate that is an address to the table. What is likelier comes first, and takes the bytes
   * that it needs from the others.
   */
  run(): void {
    const { candidates } = this.#in
    for (const stage of [Carrier.word, Carrier.unaligned, Carrier.half]) {
      if (stage !== Carrier.word && !this.#isUsed(stage)) continue
      this.#stages.add(stage)
      for (let i = 0; i < candidates.count; i++) {
        const carrier = candidates.carrier(i)
        if (Math.max(carrier, Carrier.word) === stage) this.#decide(i, carrier)
      }
    }
  }

  /** Indices of the candidates whose field holds the byte at `offset`. */
  at(offset: number): number[] {
    const { candidates } = this.#in
    const found: number[] = []
    for (let i = 0; i < candidates.count; i++) {
      const start = candidates.offset(i)
      if (offset >= start && offset < start + KIND_ROWS[candidates.kind(i)].width) found.push(i)
    }
    return found
  }

  /** Why candidate `i` is an address, or is none. */
  explain(i: number): Verdict {
    const { candidates } = this.#in
    const carrier = candidates.carrier(i)
    const reasons = carrier === Carrier.absolute ? [] : this.weigh(i)
    return {
      offset: candidates.offset(i),
      kind: KIND_ROWS[candidates.kind(i)].name,
      target: BigInt(candidates.low(i)) | (BigInt(candidates.high(i)) << 32n),
      carrier,
      reasons,
      odds: reasons.reduce((sum, { odds }) => sum + odds, 0),
      least: this.#doubt - 1,
      isUsed: this.#stages.has(Math.max(carrier, Carrier.word)),
    }
  }

  #decide(i: number, carrier: number): void {
    const { candidates, marks, builder } = this.#in
    const offset = candidates.offset(i)
    const kind = candidates.kind(i)
    if (isTaken(marks, offset, KIND_ROWS[kind].width)) return
    const odds =
      carrier === Carrier.absolute ? 0 : this.weigh(i).reduce((sum, reason) => sum + reason.odds, 0)
    if (odds < this.#doubt - 1) return
    take(marks, offset, KIND_ROWS[kind].width)
    const level =
      carrier === Carrier.absolute ? ADDRESS_ENCODING : odds >= CORROBORATED ? ADDRESS_FLOW : ADDRESS_RANGE
    builder.addAbsolute(offset, kind, candidates.low(i), candidates.high(i), level)
  }

  /** The reasons for and against candidate `i`. */
  weigh(i: number): Reason[] {
    const { candidates, places, window, view } = this.#in
    const carrier = candidates.carrier(i)
    const low = candidates.low(i)
    const high = candidates.high(i)
    const reasons: Reason[] = [
      {
        what: 'values of this sort of operand in the range, against those beside it',
        odds: this.#prior[carrier],
      },
    ]
    const distance = window.distance(low, high)
    if (distance >= 0 && distance <= this.#span)
      reasons.push({
        what: 'what it points at',
        odds: this.#pointers.atPlace(carrier, places.at(distance)),
      })
    reasons.push({ what: 'what all of this sort point at', odds: this.#pointers.ofClass(carrier) })
    if (carrier === Carrier.narrow)
      reasons.push({ what: '32-bit arithmetic, where addresses are rare', odds: NARROW })
    reasons.push({ what: 'a round number', odds: roundness(low, high) })
    if (isWord(carrier)) {
      const offset = candidates.offset(i)
      reasons.push({
        what: 'the words beside it',
        odds: neighbours(view, window, offset, carrier === Carrier.half ? 4 : 8),
      })
      reasons.push({
        what: 'text or small numbers',
        odds: wordLooks(view, offset, low, high, carrier !== Carrier.half),
      })
    }
    return reasons.map(({ what, odds }) => ({ what, odds: odds < 0 ? odds * this.#doubt : odds }))
  }

  /**
   * Whether a blob holds pointers in words of a sort that compilers avoid. Then they are much denser than
   * chance values are, and nearly all of them point where pointers point; chance values point into the middle
   * of things.
   */
  #isUsed(carrier: number): boolean {
    const { candidates, places, window, marks } = this.#in
    const plausible = new Set<number>()
    let middle = 0
    let count = 0
    for (let i = 0; i < candidates.count; i++) {
      const kind = candidates.kind(i)
      if (candidates.carrier(i) !== carrier || isTaken(marks, candidates.offset(i), KIND_ROWS[kind].width))
        continue
      const [low, high] = [candidates.low(i), candidates.high(i)]
      const distance = window.distance(low, high)
      if (distance < 0 || distance > this.#span || roundness(low, high) < 0 || (low & 0xffff) === 0) continue
      count++
      const place = places.at(distance)
      if (place === Place.inside || place === Place.instruction) middle++
      else plausible.add(distance)
    }
    return (
      plausible.size * CHANCE_STRETCH >= DENSER * places.dataBytes() &&
      plausible.size > 0 &&
      middle * 10 < count
    )
  }
}
