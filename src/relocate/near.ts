/**
 * Where to put a blob so that the fewest of its fields leave their reach, and what the place costs: which
 * fields do not reach, and where their veneers go, in what is free as well.
 */
import { type AddressLike, toAddress } from '../core/address.ts'
import { toBytes } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { optional, optionsRule } from '../core/options.ts'
import { type AddressRange, checkRangeList, toRange } from '../core/range.ts'
import { checkLength, type RelocationTable } from '../table/table.ts'
import { DESTINATION_RULES, moveDeltas } from './plan.ts'
import { BaseReach, type FarSite } from './reach.ts'
import { originalOf, planRelocation, type RelocateOptions, type Relocation, relocate } from './relocate.ts'

export interface NearOptions extends Omit<RelocateOptions, 'to'> {
  /** Where memory is free, for the blob and its veneers. */
  readonly free: readonly { readonly start: AddressLike; readonly length: AddressLike }[]
  /** What the new base is to be a multiple of; by default what the base is a multiple of now, up to 4096. */
  readonly align?: number | undefined
}

const checkOptions = optionsRule<NearOptions>('relocateNear', {
  free: checkRangeList,
  align: optional(toAddress),
  also: DESTINATION_RULES.also,
  veneers: DESTINATION_RULES.veneers,
  into: optional(toBytes),
})

export interface NearPlace {
  readonly to: bigint
  /** How many sites do not reach from there: each wants a veneer, and without `veneers` the move is refused. */
  readonly outOfReach: number
  /** Those sites, by offset. */
  readonly sites: readonly FarSite[]
  /**
   * Where the veneers go, and how many bytes they are; undefined where none are asked for or needed, or where
   * some site can have none.
   */
  readonly room: { readonly at: bigint; readonly length: number } | undefined
}

/** How many places are tried before the best one is taken as it is, refused sites and all. */
const TRIES = 64

/**
 * The place in free memory from which the fewest sites are out of reach, of several the one nearest to where
 * the blob is. With `veneers`, one where these have room in free memory, too, within reach of the blob, and
 * can serve every site; they may be given a place of their own (`veneers.at`). Throws `bad-argument` where no
 * range has room for the blob, and as `relocate` does for wrong moves.
 */
export function nearestPlace(code: Uint8Array, table: RelocationTable, options: NearOptions): NearPlace {
  checkLength(code, table)
  const search = new PlaceSearch(code, table, checkOptions(options))
  const best = search.best()!
  let place: bigint | undefined = best
  for (let i = 0; i < TRIES && place !== undefined; i++, place = search.best()) {
    const found = search.costAt(place)
    if (found !== undefined) return found
  }
  return { ...search.countAt(best), room: undefined }
}

/**
 * Moves to {@link nearestPlace}. Throws what that and `relocate` throw: `refused` where a site is out of
 * reach even there and nothing serves it.
 */
export function relocateNear(
  code: Uint8Array,
  table: RelocationTable,
  options: NearOptions,
): Relocation & NearPlace {
  const place = nearestPlace(code, table, options)
  const { veneers, also, into } = options
  const at = place.room?.at
  const rules = typeof veneers === 'object' ? { ...veneers, at: at ?? veneers.at } : veneers && { at }
  return { ...relocate(code, table, { to: place.to, also, veneers: rules, into }), ...place }
}

const distance = (a: bigint, b: bigint): bigint => (a < b ? b - a : a - b)
const roundUp = (value: bigint, step: bigint): bigint => ((value + step - 1n) / step) * step
const roundDown = (value: bigint, step: bigint): bigint => value - (value % step)

/** What veneers are aligned to, and how far from the blob's farther end they may be. */
const VENEER_ALIGN = 16n
const REACH = 0x7fff_ff00n

function alignmentOf(base: bigint): number {
  let step = 1
  while (step < 4096 && base % BigInt(2 * step) === 0n) step *= 2
  return step
}

function toAlignment(align: number): bigint {
  const step = toAddress(align, 'align')
  if (step === 0n || (step & (step - 1n)) !== 0n)
    throw new RelocError('bad-argument', `align is ${align}: a power of two is needed.`)
  return step
}

class PlaceSearch {
  readonly #code: Uint8Array
  readonly #table: RelocationTable
  readonly #options: NearOptions
  readonly #step: bigint
  readonly #free: readonly AddressRange[]
  /** Where the blob can begin: first and last base of each free range. */
  readonly #bases: readonly AddressRange[]
  readonly #reach: BaseReach
  readonly #tried = new Set<bigint>()
  /** Bases that leave room for veneers that a tried one did not. */
  readonly #more: bigint[] = []

  constructor(code: Uint8Array, table: RelocationTable, options: NearOptions) {
    const { free, align = alignmentOf(table.base) } = options
    this.#code = code
    this.#table = table
    this.#options = options
    this.#step = toAlignment(align)
    this.#free = free.map(({ start, length }, i) => toRange(start, length, `free[${i}]`))
    this.#bases = this.#free.flatMap(({ start, end }) => {
      const [first, last] = [roundUp(start, this.#step), end - BigInt(table.span)]
      return first <= last ? [{ start: first, end: roundDown(last, this.#step) }] : []
    })
    if (this.#bases.length === 0)
      throw new RelocError('bad-argument', `No free range has room for the ${table.span} bytes of the blob.`)
    const original = originalOf(code, table)
    const now = moveDeltas(table, { ...options, to: this.#bases[0].start })
    const since = now.map((delta, i) => delta + (table.parts.veneered?.deltas[i] ?? 0n))
    this.#reach = new BaseReach(original.code, original.table, since)
  }

  /** The best base that was not yet tried. */
  best(): bigint | undefined {
    let best: { to: bigint; count: number } | undefined
    const { base } = this.#table
    for (const to of this.#candidates()) {
      if (this.#tried.has(to)) continue
      const count = this.#reach.countAt(to)
      const isBetter =
        best === undefined ||
        count < best.count ||
        (count === best.count && distance(to, base) < distance(best.to, base))
      if (isBetter) best = { to, count }
    }
    if (best !== undefined) this.#tried.add(best.to)
    return best?.to
  }

  countAt(to: bigint): Omit<NearPlace, 'room'> {
    return { to, outOfReach: this.#reach.countAt(to), sites: this.#reach.farAt(to) }
  }

  /** What the place costs; undefined where veneers are asked for that have no room or do not serve all. */
  costAt(to: bigint): NearPlace | undefined {
    const place = this.countAt(to)
    const { veneers } = this.#options
    if (place.outOfReach === 0 || !veneers) return { ...place, room: undefined }
    const rules = typeof veneers === 'object' ? veneers : {}
    const plan = (at: bigint | undefined) =>
      planRelocation(this.#code, this.#table, { ...this.#options, to, veneers: { ...rules, at } })
    // What veneers need does not depend on where they are, but for a last displacement that the check below sees.
    const needed = BigInt(plan(undefined).veneers?.bytes.length ?? 0)
    const at = rules.at === undefined ? this.#roomFor(needed, to) : toAddress(rules.at, 'veneers.at')
    if (at === undefined) {
      this.#makeRoom(needed)
      return undefined
    }
    const { problems } = plan(at)
    if (problems.some(({ severity }) => severity === 'error')) return undefined
    return { ...place, room: { at, length: Number(needed) } }
  }

  /** The free place for `needed` bytes that is nearest behind the blob, or else before it. */
  #roomFor(needed: bigint, to: bigint): bigint | undefined {
    const end = to + BigInt(this.#table.span)
    const places = this.#free.flatMap((range) => {
      const behind = roundUp(range.start > end ? range.start : end, VENEER_ALIGN)
      const before = roundDown((range.end < to ? range.end : to) - needed, VENEER_ALIGN)
      return [behind, before].filter((at) => at >= range.start && at + needed <= range.end)
    })
    return places
      .filter((at) => at + needed - to <= REACH && end - at <= REACH)
      .sort((a, b) => Number(distance(a, end) - distance(b, end)))[0]
  }

  /** Bases at either end of each range that leave `needed` bytes before or behind the blob. */
  #makeRoom(needed: bigint): void {
    for (const { start, end } of this.#free) {
      const span = BigInt(this.#table.span)
      this.#more.push(roundUp(roundUp(start, VENEER_ALIGN) + needed, this.#step))
      this.#more.push(roundDown(roundDown(end - needed, VENEER_ALIGN) - span, this.#step))
    }
  }

  /**
   * Every base at which the number of sites in reach can be at its greatest; and the ones nearest to where the blob is.
   */
  *#candidates(): Generator<bigint> {
    const step = this.#step
    const { starts, ends } = this.#reach
    for (const { start, end } of this.#bases) {
      yield start
      yield end
      for (const edges of [starts, ends, [this.#table.base], this.#more])
        for (const edge of edges) {
          const up = roundUp(edge < 0n ? 0n : edge, step)
          for (const to of [up, up - step, up + step]) if (to >= start && to <= end) yield to
        }
    }
  }
}
