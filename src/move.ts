/** move: analyze, relocate and verify in one call; what comes back is right, or nothing does. */
import { type AnalyzeOptions, analyze } from './analyze/analyze.ts'
import { type AddressLike, toAddress } from './core/address.ts'
import { toBytes } from './core/bytes.ts'
import { formatProblem, type Problem, RelocError } from './core/errors.ts'
import { checkedLater, checkFlag, oneOf, optional, optionsRule } from './core/options.ts'
import { PROGRESS_RULES } from './core/progress.ts'
import type { Move } from './core/range.ts'
import { DESTINATION_RULES } from './relocate/plan.ts'
import { checkInto, type Relocation, refusal, relocate } from './relocate/relocate.ts'
import type { VeneerOptions } from './relocate/veneers.ts'
import { keepEvidence } from './table/filter.ts'
import { BLOB_RULES } from './table/rules.ts'
import { type AddressEvidence, addressLevelOf } from './table/site.ts'
import { type RelocationTable, toTable } from './table/table.ts'
import type { Ahead } from './verify/ahead.ts'
import { type Verdict, verifyAhead } from './verify/verify.ts'
import { DECODING_RULES } from './x86/instruction.ts'
import { withText } from './x86/locate.ts'

export interface MoveOptions extends Omit<AnalyzeOptions, 'base' | 'moved'> {
  /** Address of byte 0 before and after. */
  readonly from: AddressLike
  readonly to: AddressLike
  /** The table of `code`; then nothing is inferred. By default the code is analysed. */
  readonly table?: RelocationTable | undefined
  /** Other ranges that move at the same time. */
  readonly also?: readonly Move[] | undefined
  /**
   * The weakest address evidence that is written, default `range`; sites below it are left and reported as one warning.
   */
  readonly evidence?: AddressEvidence | undefined
  /**
   * What to do where a field cannot hold its new value: by default the move is refused; with `true` or
   * options, veneers serve it.
   */
  readonly veneers?: boolean | VeneerOptions | undefined
  /** Where to write, at least as long as the code. */
  readonly into?: Uint8Array | undefined
  /** Default true. */
  readonly verify?: boolean | undefined
}

const checkOptions = optionsRule<MoveOptions>('move', {
  from: toAddress,
  ...DESTINATION_RULES,
  to: toAddress,
  table: optional(toTable),
  evidence: optional(oneOf('exact', 'encoding', 'flow', 'range')),
  into: optional(toBytes),
  verify: optional(checkFlag),
  span: BLOB_RULES.span,
  hints: checkedLater,
  ...DECODING_RULES,
  ...PROGRESS_RULES,
})

export interface MoveResult extends Relocation {
  /** What was checked; undefined with `verify: false`. */
  readonly verdict: Verdict | undefined
}

/**
 * Moves `code` from one base to another. `code` is never written (unless it is `into`). Throws `RelocError`:
 * `refused` where a site cannot be served (before a byte is written), `not-verified` where the result does
 * not pass, and what analyze and relocate throw.
 */
export function move(code: Uint8Array, options: MoveOptions): MoveResult {
  const { from: base, span, hints, decoder, cpu, onProgress, signal } = checkOptions(options)
  const from = toAddress(base, 'from')
  const moved = (options.also ?? []).map((other) => ({ start: other.from, length: other.length }))
  const table =
    options.table ?? analyze(code, { base: from, span, moved, hints, decoder, cpu, onProgress, signal })
  if (options.table !== undefined) {
    table.check(code)
    if (table.base !== from)
      throw new RelocError(
        'bad-table',
        `The table describes the code at 0x${table.base.toString(16)}, not at 0x${from.toString(16)}.`,
      )
  }
  return moveWith(code, table, options)
}

/**
 * @internal The same with `code`'s own table, which nobody checks again, and with what is known of the instructions already, which
 * verification then takes for granted.
 */
export function moveWith(
  code: Uint8Array,
  whole: RelocationTable,
  options: Omit<MoveOptions, 'from' | 'table'>,
  ahead?: Ahead,
): MoveResult {
  const { table, withheld } = filterTable(whole, code, options.evidence)
  const destination = { to: options.to, also: options.also, veneers: options.veneers }
  if (options.verify === false) {
    const result = named(code, table, () => relocate(code, table, { ...destination, into: options.into }))
    return { ...result, problems: [...table.problems, ...withheld, ...result.problems], verdict: undefined }
  }
  // Into a new array first: `into` may be the code itself, and nothing is written to it before the result has passed.
  checkInto(code, options.into)
  const result = named(code, table, () => relocate(code, table, destination))
  const move = { from: table.base, to: options.to, length: BigInt(table.span) }
  const moves = [move, ...(options.also ?? [])]
  const { cpu, onProgress, signal } = options
  const veneers = result.veneers && { ...veneerRules(options.veneers), ...result.veneers }
  const claimed = { moves, claim: table, veneers, cpu, onProgress, signal }
  const verdict = verifyAhead(code, result.bytes, claimed, ahead)
  if (!verdict.ok)
    throw new RelocError(
      'not-verified',
      `The result does not pass verification, nothing was written: ${formatProblem(verdict.problems.find((problem) => problem.severity === 'error')!)}`,
      verdict.problems,
    )
  options.into?.set(result.bytes)
  const bytes = options.into?.subarray(0, code.length) ?? result.bytes
  const problems = [...table.problems, ...withheld, ...result.problems, ...verdict.problems]
  return { ...result, bytes, problems, verdict }
}

/** What veneers were allowed. */
const veneerRules = (veneers: MoveOptions['veneers']): Pick<VeneerOptions, 'redZone' | 'scratch'> =>
  typeof veneers === 'object' ? { redZone: veneers.redZone, scratch: veneers.scratch } : {}

/**
 * Does `work`; where it is refused, the problems get the text of their instructions: the table alone knows fields only.
 */
function named(code: Uint8Array, table: RelocationTable, work: () => Relocation): Relocation {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof RelocError) || error.code !== 'refused') throw error
    throw refusal(withText(error.problems, code, table.base, table.code()))
  }
}

/** Leaves out what rests on evidence weaker than `level`, and says so. */
export function filterTable(
  table: RelocationTable,
  code: Uint8Array,
  level: AddressEvidence | undefined,
): { table: RelocationTable; withheld: Problem[] } {
  if (level === undefined) return { table, withheld: [] }
  const kept = keepEvidence(table, code, addressLevelOf(level))
  if (kept === table) return { table, withheld: [] }
  const withheld: Problem = {
    severity: 'warning',
    code: 'withheld',
    offset: 0,
    address: table.base,
    bytes: '',
    message: `${table.size - kept.size} sites whose evidence is weaker than ${level} are left as they are.`,
    remedy: 'Look at them with `scan`; ask for a weaker level to have them written.',
  }
  return { table: kept, withheld: [withheld] }
}
