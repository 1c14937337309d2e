/**
 * Checks a claim: a table says which fields of `before` are addresses and where its code is; is `after` what
 * the moves make of it?
 *
 * 1. Every claimed field can hold its shifted old value and does, and the bytes outside claimed fields are
 * equal. 2. Each claimed field is exactly the displacement or immediate of one instruction, as iced decodes
 * it from the claimed runs, or lies outside
 *    them, in data.
 * 3. Every relative operand in claimed code whose two ends move apart is claimed.
 *
 * By 1 and 2 `after` decodes as `before` does, so one decode is enough. Relative fields and the bytes kept
 * are proved by this; that an absolute value is an address, and that the claimed code is code, rests on the
 * claim's evidence, which the verdict counts. Nothing is imported from the scanner, the analysis, the plan or
 * the apply: only the table's columns and iced.
 */
import { toBytes } from '../core/bytes.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import { optional, optionsRule } from '../core/options.ts'
import { PROGRESS_RULES, type ProgressOptions, reportProgress } from '../core/progress.ts'
import { type CheckedMove, checkMoveList, checkMoves, formatRange, type Move } from '../core/range.ts'
import { addressLevel, codeLevel } from '../table/site.ts'
import { type RelocationTable, toTable } from '../table/table.ts'
import { type Cpu, DECODING_RULES } from '../x86/instruction.ts'
import type { Ahead } from './ahead.ts'
import { checkBytes } from './bytes.ts'
import { ClaimedFields, CoverageShifts } from './claims.ts'
import { checkCode } from './code.ts'
import { Findings } from './findings.ts'
import { originalsOf } from './originals.ts'
import { checkVeneerOptions, type VerifyVeneers } from './veneers.ts'

export interface VerifyOptions extends ProgressOptions {
  /** The moves that made `after` of `before`; one of them moves the blob itself, unless it stays. */
  readonly moves: readonly Move[]
  /** The table of `before`. */
  readonly claim: RelocationTable
  readonly cpu?: Cpu | undefined
  /** The veneers that the move made, and what it allowed them. */
  readonly veneers?: VerifyVeneers | undefined
}

const checkOptions = optionsRule<VerifyOptions>('verify', {
  moves: checkMoveList,
  claim: toTable,
  cpu: DECODING_RULES.cpu,
  veneers: optional(checkVeneerOptions),
  ...PROGRESS_RULES,
})

export interface Verdict {
  /** No problem of severity `error`. */
  readonly ok: boolean
  readonly problems: readonly Problem[]
  readonly proved: {
    /** Bytes outside claimed fields, all equal. */
    readonly bytes: number
    /** Claimed relative fields that are operands of claimed code and hold the right value. */
    readonly relative: number
    /** Instructions of claimed code that were decoded. */
    readonly instructions: number
    /** Instructions that others stand in for: followed to their end, these do the same. */
    readonly veneers: number
  }
  /** Absolute and difference sites by address evidence: what the result rests on. */
  readonly rests: {
    readonly exact: number
    readonly encoding: number
    readonly flow: number
    readonly range: number
  }
  /** All sites by code evidence. */
  readonly code: { readonly given: number; readonly flow: number; readonly guess: number }
}

/**
 * Checks that `after` is `before` after `moves`, as far as `claim` says what is an address. What is wrong is
 * in the verdict's problems. Throws `bad-argument` for moves or lengths that make no sense, `stopped`.
 */
export const verify = (before: Uint8Array, after: Uint8Array, options: VerifyOptions): Verdict =>
  verifyAhead(before, after, checkOptions(options), undefined)

/** @internal The same, with what is known of the instructions of `before` already. */
export function verifyAhead(
  before: Uint8Array,
  after: Uint8Array,
  options: VerifyOptions,
  ahead: Ahead | undefined,
): Verdict {
  const { claim } = options
  if (toBytes(before, 'before').length !== claim.length)
    throw new RelocError(
      'bad-table',
      `The claim describes ${claim.length} bytes, before has ${before.length}: it belongs to another blob.`,
    )
  const findings = new Findings(before, claim.base)
  const moves = checkMoves(options.moves)
  if (toBytes(after, 'after').length !== before.length) {
    findings.error(
      'length',
      0,
      0,
      `before has ${before.length} bytes, after ${after.length}: a move keeps the length.`,
      'Compare the whole blob.',
    )
    return verdictOf(claim, findings, { bytes: 0, relative: 0, instructions: 0, veneers: 0 })
  }
  checkCoverage(claim, moves, findings)
  const { veneered } = claim.parts
  if (veneered !== undefined && findings.errors === 0) {
    const { code, ...originals } = originalsOf(before, claim, veneered, moves)
    return verify(code, after, { ...options, ...originals })
  }
  const shifts = new CoverageShifts(claim, moves)
  const { bytes, veneers } = checkBytes(before, after, claim, shifts, options.veneers, findings)
  reportProgress(options, 0, before.length, 'verify')
  const code = checkCode(before, claim, new ClaimedFields(claim), shifts, findings, {
    ...options,
    ahead,
  })
  return verdictOf(claim, findings, { bytes, ...code, veneers })
}

/**
 * Each move takes whole covered ranges and nothing else: of what only partly moves, or was never looked at,
 * nothing can be said.
 */
function checkCoverage(claim: RelocationTable, moves: readonly CheckedMove[], findings: Findings): void {
  for (const move of moves) {
    let rest = move.end - move.start
    for (const range of claim.coverage) {
      if (range.start >= move.end || move.start >= range.end) continue
      rest -= range.end - range.start
      if (range.start < move.start || range.end > move.end)
        findings.error(
          'not-covered',
          0,
          0,
          `the move of ${formatRange(move)} splits the covered range ${formatRange(range)}.`,
          'Verify with a table made for these moves.',
        )
    }
    if (rest > 0n)
      findings.error(
        'not-covered',
        0,
        0,
        `the claim does not cover all of the move of ${formatRange(move)}: pointers to the rest were never looked for.`,
        'Verify with a table made for these moves.',
      )
  }
}

function verdictOf(claim: RelocationTable, findings: Findings, proved: Verdict['proved']): Verdict {
  const address = [0, 0, 0, 0, 0]
  const code = [0, 0, 0]
  const count = (evidence: number): void => {
    address[addressLevel(evidence)]++
    code[codeLevel(evidence)]++
  }
  for (const group of claim.parts.groups) group.evidence.forEach(count)
  for (const split of claim.parts.splits) count(split.evidence)
  const [guess, flow, given] = code
  return {
    ok: findings.errors === 0,
    problems: findings.listed,
    proved,
    rests: { exact: address[4], encoding: address[3], flow: address[2], range: address[1] },
    code: { given, flow, guess },
  }
}
