/**
 * What stands in for instructions whose address fields leave their reach: planned like everything else,
 * written by apply.
 *
 * Each such instruction gets another one in its place, of the same length, so no instruction's address
 * changes; veneers and literals lie in an area of their own. An instruction that is replaced must be entered
 * at its start alone: a branch into its middle, or a second reading of its bytes, is refused.
 */
import { ADDRESS_LIMIT, type AddressLike, hex, toAddress, toOffset, wrapAddress } from '../core/address.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import {
  checkFlag,
  isRecord,
  oneOf,
  optional,
  optionsRule,
  type Rule,
  wrongArgument,
} from '../core/options.ts'
import type { Pieces } from '../table/pieces.ts'
import type { RelocationTable } from '../table/table.ts'
import type { AreaParts } from '../x86/emit-area-parts.ts'
import type { FarRules } from '../x86/emit-detour.ts'
import type { OutOfReach } from './out-of-reach.ts'
import { type Fixed, VeneerPlanner } from './veneer-planner.ts'

export interface VeneerOptions {
  /** Address of the veneers; by default the first multiple of 16 behind the blob's new place. */
  readonly at?: AddressLike | undefined
  /** Bytes that there are at `at`; by default as many as are needed. */
  readonly capacity?: number | undefined
  /**
   * Whether the 128 bytes below rsp are in use, as the System V ABI has it. Default true; Windows and kernels
   * have none.
   */
  readonly redZone?: boolean | undefined
  /** A register that is free at every indirect call and jump; needed for those without a red zone. */
  readonly scratch?: 'r11' | undefined
}

const checkOptions = optionsRule<VeneerOptions>('veneers', {
  at: optional(toAddress),
  capacity: optional(toOffset),
  redZone: optional(checkFlag),
  scratch: optional(oneOf('r11')),
})

/** For the `veneers` of a move. */
export const checkVeneers: Rule<boolean | VeneerOptions | undefined> = (value, what) => {
  if (isRecord(value)) checkOptions(value, what)
  else if (value !== undefined && typeof value !== 'boolean')
    throw wrongArgument(value, what, 'true, false or an object { at, capacity, redZone, scratch }')
}

/** Veneers and literals, to be written at `at`, executable. */
export interface VeneerBytes {
  readonly at: bigint
  readonly bytes: Uint8Array
}

/** What the plan holds of veneers. */
export interface VeneerPlan extends VeneerBytes {
  /** Instructions before and after. */
  readonly replaced: Pieces
  readonly patches: Pieces
  readonly parts: AreaParts
}

/** Plans veneers for `fields`; what cannot be served goes into `problems`. Throws `bad-argument`. */
export function planVeneers(
  code: Uint8Array,
  plan: Fixed,
  fields: OutOfReach,
  options: VeneerOptions,
  problems: Problem[],
): VeneerPlan {
  const { table } = plan
  const at = veneerPlace(table, options, plan)
  const planner = new VeneerPlanner(code, plan, fields, rulesOf(options), at, problems)
  planner.plan()
  const { area } = planner
  const bytes = finishArea(planner, plan, at, options, problems)
  const patches = planner.patches.finish()
  return { at, bytes, replaced: patches.readFrom(code), patches, parts: area.parts }
}

/** The area's bytes, if they reach the blob and have room. */
function finishArea(
  { area, patches }: VeneerPlanner,
  { table, deltas }: Fixed,
  at: bigint,
  { capacity = Number.MAX_SAFE_INTEGER }: VeneerOptions,
  problems: Problem[],
): Uint8Array {
  const wrong = (message: string): number => problems.push(areaProblem(table, message))
  const bytes = area.finish(patches.bytes)
  if (bytes === undefined) {
    wrong(`the veneers at ${hex(at)} are out of the blob's reach themselves.`)
    return new Uint8Array(0)
  }
  if (bytes.length > capacity) wrong(`the veneers need ${bytes.length} bytes, there are ${capacity}.`)
  const end = at + BigInt(bytes.length)
  if (end > ADDRESS_LIMIT)
    wrong(`the veneers at ${hex(at)} (${bytes.length} bytes) would pass the end of the address space (2^64).`)
  for (const [i, range] of table.coverage.entries()) {
    const start = wrapAddress(range.start + deltas[i])
    if (at < start + (range.end - range.start) && start < end)
      wrong(
        `the veneers at ${hex(at)} (${bytes.length} bytes) would lie on ${hex(start)}, which the table covers.`,
      )
  }
  return bytes
}

const rulesOf = ({ redZone = true, scratch }: VeneerOptions): FarRules => ({
  redZone: redZone ? 128 : 0,
  scratch,
})

function veneerPlace(table: RelocationTable, { at }: VeneerOptions, { to }: Fixed): bigint {
  if (at !== undefined) return toAddress(at, 'veneers.at')
  const end = to + BigInt(Math.max(table.length, table.span))
  if (end + 15n >= 1n << 64n)
    throw new RelocError(
      'bad-argument',
      'There is no room for veneers behind the blob: say where they shall be (`veneers.at`, --veneers-at).',
    )
  return (end + 15n) & ~15n
}

const areaProblem = (table: RelocationTable, message: string): Problem => ({
  severity: 'error',
  code: 'no-room',
  offset: 0,
  address: table.base,
  bytes: '',
  message,
  remedy:
    'Give the veneers another place (`veneers: { at, capacity }`, --veneers-at), within 2 GB of the blob.',
})
