/** relocate: a table, a destination, and the bytes as they must be there. */
import { signedDelta } from '../core/address.ts'
import { toBytes } from '../core/bytes.ts'
import { formatProblem, type Problem, RelocError } from '../core/errors.ts'
import { optional, optionsRule } from '../core/options.ts'
import { movedSum, type SiteGroup } from '../table/groups.ts'
import { checkLength, RelocationTable } from '../table/table.ts'
import type { Veneered } from '../table/veneered.ts'
import { applyPlan } from './apply.ts'
import { DESTINATION_RULES, type Destination, moveDeltas, type Plan, planDeltas, planMove } from './plan.ts'
import { PositionMap } from './positions.ts'
import type { VeneerBytes } from './veneers.ts'

export interface RelocateOptions extends Destination {
  /** Where to write, at least as long as the code; it may be the code itself. By default a new array. */
  readonly into?: Uint8Array | undefined
}

const checkOptions = optionsRule<RelocateOptions>('relocate', {
  ...DESTINATION_RULES,
  into: optional(toBytes),
})

export interface Relocation {
  /** The bytes at their new place; a view of `into` where that was given. */
  readonly bytes: Uint8Array
  /** Describes `bytes` at their new place. */
  readonly table: RelocationTable
  /** Warnings. */
  readonly problems: readonly Problem[]
  readonly positions: PositionMap
  /** What to write beside the blob, executable, before the blob runs; undefined where nothing was out of reach. */
  readonly veneers: VeneerBytes | undefined
}

/**
 * Moves `code` as `table` says. `code` is not written unless it is `into`. Throws `bad-table` when the
 * lengths differ, `bad-argument`, `not-covered`, and `refused` when a site cannot be served; then nothing was
 * written.
 */
export function relocate(code: Uint8Array, table: RelocationTable, options: RelocateOptions): Relocation {
  checkLength(code, table)
  checkInto(code, checkOptions(options).into)
  const plan = planRelocation(code, table, options)
  refuseErrors(plan.problems)
  const bytes =
    options.into === undefined ? new Uint8Array(code.length) : options.into.subarray(0, code.length)
  applyPlan(plan, plan.code, bytes)
  const { veneers, problems, to } = plan
  const positions =
    veneers === undefined
      ? PositionMap.identity(code.length)
      : PositionMap.withVeneers(code.length, Number(signedDelta(to, veneers.at)), veneers.parts)
  return {
    bytes,
    table: movedTable(plan),
    problems,
    positions,
    veneers: veneers && { at: veneers.at, bytes: veneers.bytes },
  }
}

/** The plan of a move, and the bytes that it starts from: the originals of what veneers stand in for now. */
export function planRelocation(
  code: Uint8Array,
  table: RelocationTable,
  options: Destination,
): Plan & { readonly code: Uint8Array } {
  const { veneered } = table.parts
  if (veneered === undefined) return { ...planMove(code, table, options), code }
  const deltas = moveDeltas(table, options)
  const original = restoreOriginals(code, table, veneered)
  const since = deltas.map((delta, i) => BigInt.asIntN(64, delta + veneered.deltas[i]))
  return { ...planDeltas(original.code, original.table, since, options.veneers), code: original.code }
}

/** The bytes and the table from which any move starts: those that are given, without veneers. */
export const originalOf = (
  code: Uint8Array,
  table: RelocationTable,
): { code: Uint8Array; table: RelocationTable } =>
  table.parts.veneered === undefined ? { code, table } : restoreOriginals(code, table, table.parts.veneered)

/**
 * Undoes the move that made veneers, with what the program has written meanwhile: the bytes and the table
 * from which any further move starts.
 */
function restoreOriginals(
  code: Uint8Array,
  table: RelocationTable,
  { deltas, replaced }: Veneered,
): { code: Uint8Array; table: RelocationTable } {
  const back = planDeltas(
    code,
    table,
    deltas.map((delta) => -delta),
    false,
  )
  const original = new Uint8Array(code.length)
  applyPlan(back, code, original)
  replaced.writeTo(original)
  const { parts } = movedTable(back)
  // What the plan made of replaced instructions was no field: bounds are for the next plan to find.
  const groups = parts.groups.map((group) => ({ ...group, bounds: undefined }))
  return { code: original, table: RelocationTable.create({ ...parts, groups }) }
}

/** Throws `bad-argument` unless `code` fits `into`. */
export function checkInto(code: Uint8Array, into: Uint8Array | undefined): void {
  if (into !== undefined && into.length < code.length)
    throw new RelocError(
      'bad-argument',
      `into has ${into.length} bytes, the code ${code.length}: it does not fit.`,
    )
}

/** Throws `refused` where a problem is an error. */
export function refuseErrors(problems: readonly Problem[]): void {
  if (problems.some((problem) => problem.severity === 'error')) throw refusal(problems)
}

/** The error of a move that is not made for these problems. */
export function refusal(problems: readonly Problem[]): RelocError {
  const errors = problems.filter((problem) => problem.severity === 'error')
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : ''
  return new RelocError(
    'refused',
    `The move is refused, nothing was written: ${formatProblem(errors[0])}${more}`,
    problems,
  )
}

/** The table for the new place: the same columns, other intervals, sums and shifts. */
export function movedTable(plan: Plan): RelocationTable {
  const { table, deltas, veneers } = plan
  const groups = plan.groups.map(
    ({ group, bounds, change }): SiteGroup => ({ ...group, bounds, sum: movedSum(group, change) }),
  )
  const values = new Map(plan.splits.map(({ split, value }) => [split, value]))
  const splits = table.parts.splits.map((split) => ({ ...split, value: values.get(split) ?? split.value }))
  const shifts = table.parts.shifts.map((shift, i) => BigInt.asIntN(64, shift + deltas[i]))
  const veneered = veneers && {
    deltas,
    replaced: veneers.replaced,
    at: veneers.at,
    length: veneers.bytes.length,
  }
  return RelocationTable.create({ ...table.parts, groups, splits, shifts, veneered, problems: [] })
}
