/**
 * The plan of a move: by how much each group of sites changes, and what stands in the way. A plan is data;
 * nothing is written here. For every group the interval of its values tells in two comparisons whether all of
 * its sites stay in range; only where they do not is each site looked at, to name those that fail.
 */
import { type AddressLike, hex, toAddress, wrapAddress } from '../core/address.ts'
import { hexBytes, viewOf } from '../core/bytes.ts'
import type { Problem } from '../core/errors.ts'
import { type OptionRules, optional } from '../core/options.ts'
import { checkMoveList, type Move } from '../core/range.ts'
import {
  type Bounds,
  FIXED,
  groupBounds,
  type Place,
  type SiteGroup,
  type SplitSite,
  siteValue,
} from '../table/groups.ts'
import { EIP32, KIND_ROWS, type KindRow } from '../table/kinds.ts'
import { movedValue, solvePieces } from '../table/split.ts'
import type { RelocationTable } from '../table/table.ts'
import { coveredDeltas } from './deltas.ts'
import { type FarGroup, OutOfReach, targetShift } from './out-of-reach.ts'
import { checkVeneers, planVeneers, type VeneerOptions, type VeneerPlan } from './veneers.ts'

/** Where the blob shall go, and what moves with it. */
export interface Destination {
  /** New address of byte 0; by default the blob stays where it is. */
  readonly to?: AddressLike | undefined
  /** Other ranges that move at the same time. The table must cover them. */
  readonly also?: readonly Move[] | undefined
  /**
   * What to do where a field cannot hold its new value: by default the move is refused; with `true` or
   * options, veneers serve it.
   */
  readonly veneers?: boolean | VeneerOptions | undefined
}

export const DESTINATION_RULES: OptionRules<Destination> = {
  to: optional(toAddress),
  also: optional(checkMoveList),
  veneers: checkVeneers,
}

/** One group's part of a plan: add `change` to each site. */
export interface GroupPlan {
  readonly group: SiteGroup
  /** shift(target) - shift(anchor), signed 64-bit. */
  readonly change: bigint
  /** The group's bounds after the move. */
  readonly bounds: Bounds | undefined
}

export interface SplitPlan {
  readonly split: SplitSite
  /** New bits of each piece, and what they hold together. */
  readonly bits: readonly bigint[]
  readonly value: bigint
}

export interface Plan {
  readonly table: RelocationTable
  readonly to: bigint
  /** Signed delta of each covered range. */
  readonly deltas: readonly bigint[]
  /** Every group of the table, in its order; of the split sites those that change. */
  readonly groups: readonly GroupPlan[]
  readonly splits: readonly SplitPlan[]
  /** What stands in for instructions whose fields are out of reach; undefined where all are within. */
  readonly veneers: VeneerPlan | undefined
  readonly problems: readonly Problem[]
}

/** Sites named per group when a whole group is out of reach. */
const NAMED = 100

const shiftOf = (deltas: readonly bigint[], place: Place): bigint => (place === FIXED ? 0n : deltas[place])

/**
 * Plans the move of `code`. Throws `bad-argument` and `not-covered`; what the code makes impossible is in `problems`.
 */
export function planMove(code: Uint8Array, table: RelocationTable, destination: Destination): Plan {
  return planDeltas(code, table, moveDeltas(table, destination), destination.veneers)
}

/** Signed delta of each covered range. Throws `bad-argument` and `not-covered`. */
export function moveDeltas(table: RelocationTable, destination: Destination): bigint[] {
  const to = destination.to === undefined ? table.base : toAddress(destination.to, 'to')
  return coveredDeltas(table, [
    { from: table.base, to, length: BigInt(table.span) },
    ...(destination.also ?? []),
  ])
}

/** The same for covered ranges that go by `deltas`. */
export function planDeltas(
  code: Uint8Array,
  table: RelocationTable,
  deltas: readonly bigint[],
  veneers: Destination['veneers'],
): Plan {
  const to = wrapAddress(table.base + deltas[table.parts.blob.own])
  const problems: Problem[] = []
  const far: FarGroup[] = []
  const groups: GroupPlan[] = []
  const splits: SplitPlan[] = []
  const view = viewOf(code)
  for (const group of table.parts.groups) {
    const change = BigInt.asIntN(64, shiftOf(deltas, group.target) - shiftOf(deltas, group.anchor))
    const plan = { group, change, bounds: undefined }
    const bounds = checkGroup(code, table, plan, deltas, veneers ? far : undefined, problems)
    groups.push({ ...plan, bounds })
  }
  for (const split of table.parts.splits) {
    const change = BigInt.asIntN(64, shiftOf(deltas, split.target) - shiftOf(deltas, split.anchor))
    if (change === 0n) continue
    const { pieces, value } = split
    const address = splitAddress(table, split)
    const bits = solvePieces(view, pieces, address, change)
    if (bits === undefined) problems.push(splitProblem(code, table, split, change))
    else splits.push({ split, bits, value: movedValue(value, pieces, address, change) })
  }
  const plan = { table, to, deltas, groups, splits, problems }
  if (far.length === 0) return { ...plan, veneers: undefined }
  const options = typeof veneers === 'object' ? veneers : {}
  const problemOf = (group: SiteGroup, index: number): Problem => {
    const { change } = groups.find((one) => one.group === group)!
    return rangeProblem(code, table, group, index, judgedChange(KIND_ROWS[group.kind], group, change, deltas))
  }
  const fixed = { ...plan, problemOf }
  return { ...plan, veneers: planVeneers(code, fixed, new OutOfReach(view, table, far), options, problems) }
}

/** target - anchor of a split site, as they are now. */
const splitAddress = (table: RelocationTable, split: SplitSite): bigint =>
  table.now(split.targetAddress, split.target) - table.now(split.anchorAddress ?? 0n, split.anchor)

/** How far what the range rule judges goes: the value, or the target itself. */
const judgedChange = (row: KindRow, group: SiteGroup, change: bigint, deltas: readonly bigint[]): bigint =>
  row.rule === 'target' ? shiftOf(deltas, group.target) : change

/**
 * Returns the group's bounds after the move; the sites that it leaves out of range are collected where
 * veneers are wanted, else named.
 */
function checkGroup(
  code: Uint8Array,
  table: RelocationTable,
  { group, change }: GroupPlan,
  deltas: readonly bigint[],
  far: FarGroup[] | undefined,
  problems: Problem[],
): Bounds | undefined {
  const row = KIND_ROWS[group.kind]
  if (row.rule === 'any' || group.offsets.length === 0) return group.bounds
  const view = viewOf(code)
  const { kind, offsets, targets } = group
  const judged = judgedChange(row, group, change, deltas)
  const { min, max } = group.bounds ?? groupBounds(view, kind, offsets, targets, table.shiftOf(group.target))
  const bounds = { min: min + judged, max: max + judged }
  if (bounds.min >= row.min && bounds.max <= row.max) return bounds
  const failing = failingSites(view, table, group, judged, bounds)
  if (far === undefined) nameFailing(code, table, group, failing ?? [...offsets.keys()], judged, problems)
  else far.push({ group, failing, shift: targetShift(group, deltas) })
  return bounds
}

/** What the range rule judges of a site, as it is now. */
const judgedValue = (view: DataView, table: RelocationTable, group: SiteGroup, i: number): bigint =>
  KIND_ROWS[group.kind].rule === 'target'
    ? table.now(group.targets[i], group.target)
    : siteValue(view, group.kind, group.offsets[i])

/** Indexes of the sites that a change puts out of range; undefined: all of them. */
function failingSites(
  view: DataView,
  table: RelocationTable,
  group: SiteGroup,
  judged: bigint,
  bounds: Bounds,
): number[] | undefined {
  const row = KIND_ROWS[group.kind]
  if (bounds.max < row.min || bounds.min > row.max) return undefined
  const failing: number[] = []
  for (let i = 0; i < group.offsets.length; i++) {
    const value = judgedValue(view, table, group, i) + judged
    if (value < row.min || value > row.max) failing.push(i)
  }
  return failing
}

function nameFailing(
  code: Uint8Array,
  table: RelocationTable,
  group: SiteGroup,
  failing: readonly number[],
  judged: bigint,
  problems: Problem[],
): void {
  for (const i of failing.slice(0, NAMED)) problems.push(rangeProblem(code, table, group, i, judged))
  if (failing.length > NAMED) {
    const last = problems[problems.length - 1]
    problems.push({
      ...last,
      message: `and ${failing.length - NAMED} more ${KIND_ROWS[group.kind].name} sites like the one at ${hex(last.offset)}.`,
    })
  }
}

const REMEDY: Readonly<Record<string, string>> = {
  next: 'Choose a destination nearer to what the code refers to, move that along (`also`), or ask for veneers (`veneers`, --veneers).',
  none: 'Choose a destination whose addresses fit the field, ask for veneers (`veneers`, --veneers), or build the code for another code model.',
  address: 'Move both ends together (`also`), or choose a destination nearer to the end that stays.',
}

function rangeProblem(
  code: Uint8Array,
  table: RelocationTable,
  group: SiteGroup,
  i: number,
  change: bigint,
): Problem {
  const row = KIND_ROWS[group.kind]
  const now = judgedValue(viewOf(code), table, group, i)
  const offset = group.offsets[i]
  const target = table.now(group.targets[i], group.target)
  const what =
    group.kind === EIP32
      ? `the target ${hex(target)} would be ${hex(wrapAddress(target + change))}`
      : `the value ${now} would become ${now + change} (target ${hex(target)})`
  return {
    severity: 'error',
    code: 'out-of-range',
    offset,
    address: wrapAddress(table.base + BigInt(offset)),
    bytes: hexBytes(code, offset, offset + row.width),
    message: `${row.name}: ${what}; ${row.limit}.`,
    remedy: REMEDY[row.anchor],
  }
}

function splitProblem(code: Uint8Array, table: RelocationTable, split: SplitSite, change: bigint): Problem {
  const { offset } = split.pieces[0]
  return {
    severity: 'error',
    code: 'out-of-range',
    offset,
    address: wrapAddress(table.base + BigInt(offset)),
    bytes: split.pieces.map((piece) => hexBytes(code, piece.offset, piece.offset + piece.width)).join(' '),
    message: `split: the address ${hex(table.now(split.targetAddress, split.target))} moves by ${hex(change)}, which its ${split.pieces.length} pieces cannot hold.`,
    remedy: REMEDY.none,
  }
}
