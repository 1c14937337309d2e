/**
 * Where to put a blob so that the fewest of its fields leave their reach. Every site allows one interval of deltas; the number of intervals that
 * hold a delta changes only where one begins or has ended, so those are the only places to look at: no search, and the answer is exact.
 */
import { type AddressLike, toAddress } from '../core/address.ts'
import { viewOf } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { type AddressRange, toRange } from '../core/range.ts'
import { lowerBound } from '../core/search.ts'
import { type SiteGroup, siteValue } from '../table/groups.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import type { RelocationTable } from '../table/table.ts'
import { type RelocateOptions, type Relocation, relocate } from './relocate.ts'

export interface NearOptions extends Omit<RelocateOptions, 'to' | 'also'> {
  /** Where memory is free. */
  readonly free: readonly { readonly start: AddressLike; readonly length: AddressLike }[]
  /** What the new base is to be a multiple of; by default what the base is a multiple of now, up to 4096. */
  readonly align?: number | undefined
}

export interface NearPlace {
  readonly to: bigint
  /** Sites that do not reach from there: each wants a veneer. */
  readonly outOfReach: number
}

/**
 * The place in free memory from which the fewest sites are out of reach, of several the one nearest to where the blob is. Room for veneers is not counted.
 * Throws `bad-argument` where no range has room for the blob.
 */
export function nearestPlace(
  code: Uint8Array,
  table: RelocationTable,
  { free, align = alignmentOf(table.base) }: Pick<NearOptions, 'free' | 'align'>,
): NearPlace {
  const step = toAlignment(align)
  const ranges = free
    .map(({ start, length }, i) => toRange(start, length, `free[${i}]`))
    .map(({ start, end }) => ({ start: roundUp(start, step), end: end - BigInt(table.span) }))
    .filter(({ start, end }) => start <= end)
  if (ranges.length === 0)
    throw new RelocError('bad-argument', `No free range has room for the ${table.span} bytes of the blob.`)
  const { starts, ends } = allowedBases(code, table)
  let best: NearPlace | undefined
  for (const to of candidates(ranges, starts, ends, table.base, step)) {
    const outOfReach = starts.length - (lowerBound(starts, to + 1n) - lowerBound(ends, to))
    if (
      best === undefined ||
      outOfReach < best.outOfReach ||
      (outOfReach === best.outOfReach && distance(to, table.base) < distance(best.to, table.base))
    )
      best = { to, outOfReach }
  }
  return best!
}

/** Moves to {@link nearestPlace}. Throws what that and `relocate` throw: without `veneers`, `refused` where a site is out of reach even there. */
export function relocateNear(
  code: Uint8Array,
  table: RelocationTable,
  options: NearOptions,
): Relocation & NearPlace {
  const place = nearestPlace(code, table, options)
  return { ...relocate(code, table, { ...options, to: place.to }), ...place }
}

const distance = (a: bigint, b: bigint): bigint => (a < b ? b - a : a - b)
const roundUp = (value: bigint, step: bigint): bigint => ((value + step - 1n) / step) * step

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

/** First and last base that each site allows whose value depends on the base; each list ascending. */
function allowedBases(code: Uint8Array, table: RelocationTable): { starts: bigint[]; ends: bigint[] } {
  const view = viewOf(code)
  const { own } = table.parts.blob
  const starts: bigint[] = []
  const ends: bigint[] = []
  for (const group of table.parts.groups) {
    const row = KIND_ROWS[group.kind]
    const rises = group.target === own
    if (row.rule === 'any' || (row.rule === 'target' && !rises) || rises === (group.anchor === own)) continue
    for (let i = 0; i < group.offsets.length; i++) {
      const value = judged(view, table, group, i)
      // min <= value + (to - base) <= max, or with the sign turned.
      starts.push(table.base + (rises ? row.min - value : value - row.max))
      ends.push(table.base + (rises ? row.max - value : value - row.min))
    }
  }
  const ascending = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0)
  return { starts: starts.sort(ascending), ends: ends.sort(ascending) }
}

const judged = (view: DataView, table: RelocationTable, group: SiteGroup, i: number): bigint =>
  KIND_ROWS[group.kind].rule === 'target'
    ? table.now(group.targets[i], group.target)
    : siteValue(view, group.kind, group.offsets[i])

/** Every base at which the number of sites in reach can be at its greatest; and the ones nearest to `base`. */
function* candidates(
  ranges: readonly AddressRange[],
  starts: readonly bigint[],
  ends: readonly bigint[],
  base: bigint,
  step: bigint,
): Generator<bigint> {
  for (const { start, end } of ranges) {
    const last = end - (end % step)
    yield start
    if (last >= start) yield last
    for (const edges of [starts, ends, [base]])
      for (const edge of edges) {
        const up = roundUp(edge < 0n ? 0n : edge, step)
        for (const to of [up, up - step, up + step]) if (to >= start && to <= last) yield to
      }
  }
}
