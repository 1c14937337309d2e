/**
 * Checks a claim: a table says which fields of `before` are addresses and where its code is; is `after` what the moves make of it?
 *
 * 1. Every claimed field can hold its shifted old value and does, and the bytes outside claimed fields are equal.
 * 2. Each claimed field is exactly the displacement or immediate of one instruction, as iced decodes it from the claimed runs, or lies outside
 *    them, in data.
 * 3. Every relative operand in claimed code whose two ends move apart is claimed.
 *
 * By 1 and 2 `after` decodes as `before` does, so one decode is enough. Relative fields and the bytes kept are proved by this; that an absolute value is
 * an address, and that the claimed code is code, rests on the claim's evidence, which the verdict counts. Nothing is imported from the scanner, the analysis,
 * the plan or the apply: only the table's columns and iced.
 */
import { hex, wrapAddress } from '../core/address.ts'
import { hexBytes, readField, toBytes, viewOf, writeField } from '../core/bytes.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import { optional, optionsRule } from '../core/options.ts'
import { PROGRESS_RULES, type ProgressOptions, reportProgress } from '../core/progress.ts'
import { type CheckedMove, checkMoveList, checkMoves, formatRange, type Move } from '../core/range.ts'
import type { SiteGroup, SplitSite } from '../table/groups.ts'
import { fieldValue, KIND_ROWS, type KindRow } from '../table/kinds.ts'
import { addressLevel, codeLevel } from '../table/site.ts'
import { joinPieces, movedValue } from '../table/split.ts'
import { type RelocationTable, toTable } from '../table/table.ts'
import { type Cpu, DECODING_RULES } from '../x86/instruction.ts'
import type { Ahead } from './ahead.ts'
import { ClaimedFields, CoverageShifts } from './claims.ts'
import { checkCode } from './code.ts'
import { originalsOf } from './originals.ts'
import { checkVeneerOptions, checkVeneers, type FarField, farTarget, type VerifyVeneers } from './veneers.ts'

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

/** Problems listed; the rest is counted in the last one. */
const LISTED = 100

/** Collects problems of one verification. */
export class Findings {
  readonly problems: Problem[] = []
  #errors = 0
  readonly #code: Uint8Array
  readonly #base: bigint

  constructor(code: Uint8Array, base: bigint) {
    this.#code = code
    this.#base = base
  }

  /** Says what is wrong with the `length` bytes at `offset`. */
  error(code: string, offset: number, length: number, message: string, remedy: string): void {
    if (this.#errors++ < LISTED) this.#add('error', code, offset, length, message, remedy)
  }

  warning(code: string, offset: number, length: number, message: string, remedy: string): void {
    this.#add('warning', code, offset, length, message, remedy)
  }

  #add(
    severity: Problem['severity'],
    code: string,
    offset: number,
    length: number,
    message: string,
    remedy: string,
  ): void {
    const address = wrapAddress(this.#base + BigInt(offset))
    this.problems.push({
      severity,
      code,
      offset,
      address,
      bytes: hexBytes(this.#code, offset, offset + length),
      message,
      remedy,
    })
  }

  /** Number of errors, listed or not. */
  get errors(): number {
    return this.#errors
  }

  /** All that was found; the last one counts what is not listed. */
  get listed(): readonly Problem[] {
    const more = this.#errors - LISTED
    const last = this.problems.findLast((problem) => problem.severity === 'error')
    return more <= 0 || last === undefined
      ? this.problems
      : [...this.problems, { ...last, message: `and ${more} more errors behind this place.` }]
  }
}

/**
 * Checks that `after` is `before` after `moves`, as far as `claim` says what is an address. What is wrong is in the verdict's problems.
 * Throws `bad-argument` for moves or lengths that make no sense, `stopped`.
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

/** Each move takes whole covered ranges and nothing else: of what only partly moves, or was never looked at, nothing can be said. */
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

/**
 * Restores every claimed field of a copy of `after`, and every instruction that a veneer stands in for, and compares: what still differs was not claimed. Returns
 * how many bytes were kept, and how many instructions replaced.
 */
function checkBytes(
  before: Uint8Array,
  after: Uint8Array,
  claim: RelocationTable,
  shifts: CoverageShifts,
  veneers: VerifyVeneers | undefined,
  findings: Findings,
): { bytes: number; veneers: number } {
  const restored = new Uint8Array(after)
  const [old, now, restore] = [viewOf(before), viewOf(after), viewOf(restored)]
  let claimed = 0
  const far: FarField[] = []
  const wrong: { readonly offset: number; readonly width: number; readonly message: string }[] = []
  for (const group of claim.parts.groups) {
    const { width } = KIND_ROWS[group.kind]
    const change = shifts.change(group.target, group.anchor)
    const isRight = wordCheck(KIND_ROWS[group.kind], change)
    for (let i = 0; i < group.offsets.length; i++) {
      const offset = group.offsets[i]
      if (isRight?.(old.getInt32(offset, true), now.getInt32(offset, true))) {
        restore.setInt32(offset, old.getInt32(offset, true), true)
        continue
      }
      const was = readField(old, offset, width)
      const is = readField(now, offset, width)
      const expected = BigInt.asUintN(8 * width, was + change)
      const isFar = !fits(claim, group, i, was, shifts)
      if (isFar && veneers !== undefined)
        far.push({ offset, target: farTarget(claim, group, i, was, shifts.of(group.target)) })
      else if (isFar)
        findings.error(
          'out-of-range',
          offset,
          width,
          `the ${KIND_ROWS[group.kind].name} field cannot hold its moved value: ${KIND_ROWS[group.kind].limit}.`,
          'Choose another destination.',
        )
      else if (is !== expected)
        wrong.push({
          offset,
          width,
          message: `the field holds ${hex(is)}; moved it must hold ${hex(expected)}.`,
        })
      writeField(restore, offset, width, was)
    }
    claimed += width * group.offsets.length
  }
  for (const split of claim.parts.splits) {
    checkSplit(before, after, claim, split, shifts.change(split.target, split.anchor), findings)
    for (const piece of split.pieces) {
      writeField(restore, piece.offset, piece.width, readField(old, piece.offset, piece.width))
      claimed += piece.width
    }
  }
  const { instructions, replaced } =
    veneers === undefined
      ? { instructions: 0, replaced: [] }
      : checkVeneers(before, after, claim, shifts, far, veneers, findings)
  for (const { start, end } of replaced) restored.set(before.subarray(start, end), start)
  // In a replaced instruction there is no field any more.
  for (const { offset, width, message } of wrong)
    if (!replaced.some(({ start, end }) => offset >= start && offset < end))
      findings.error('wrong-value', offset, width, message, 'Relocate again from the original bytes.')
  let run = -2
  for (let i = firstDifference(restore, old); i < restored.length; i++) {
    if (restored[i] === before[i]) continue
    if (i !== run + 1)
      findings.error(
        'byte-changed',
        i,
        1,
        `a byte that no claimed field holds changed from ${hexBytes(before, i, i + 1)} to ${hexBytes(after, i, i + 1)}.`,
        'Relocate again from the original bytes, with this table.',
      )
    run = i
  }
  return { bytes: before.length - claimed, veneers: instructions }
}

/**
 * Tells whether a field of 4 bytes, signed as they were and are now, can hold the moved value and does. Most fields do, and that takes no bigint;
 * undefined where it would.
 */
function wordCheck(row: KindRow, change: bigint): ((was: number, is: number) => boolean) | undefined {
  if (row.width !== 4 || row.rule !== 'value') return undefined
  // A change beyond 2^53 is rounded, and out of every range all the same.
  const [by, min, max] = [Number(change), Number(row.min), Number(row.max)]
  return (was, is) => {
    const moved = (row.signed ? was : was >>> 0) + by
    return moved >= min && moved <= max && is === (moved | 0)
  }
}

/** Offset of the first byte that differs, or the length of both; by words, as most often none does. */
function firstDifference(one: DataView, other: DataView): number {
  const { byteLength } = one
  let at = 0
  while (at + 4 <= byteLength && one.getInt32(at) === other.getInt32(at)) at += 4
  while (at < byteLength && one.getUint8(at) === other.getUint8(at)) at++
  return at
}

/** Whether site `i` of a group, whose field holds the bits `was`, can be moved. */
function fits(
  claim: RelocationTable,
  group: SiteGroup,
  i: number,
  was: bigint,
  shifts: CoverageShifts,
): boolean {
  const row = KIND_ROWS[group.kind]
  if (row.rule === 'any') return true
  const moved =
    row.rule === 'target'
      ? claim.now(group.targets[i], group.target) + shifts.of(group.target)
      : fieldValue(row, was) + shifts.change(group.target, group.anchor)
  return moved >= row.min && moved <= row.max
}

function checkSplit(
  before: Uint8Array,
  after: Uint8Array,
  claim: RelocationTable,
  split: SplitSite,
  change: bigint,
  findings: Findings,
): void {
  const was = joinPieces(viewOf(before), split.pieces)
  const is = joinPieces(viewOf(after), split.pieces)
  const address =
    claim.now(split.targetAddress, split.target) - claim.now(split.anchorAddress ?? 0n, split.anchor)
  const expected = movedValue(was, split.pieces, address, change)
  if (is === expected) return
  const { offset } = split.pieces[0]
  findings.error(
    'wrong-value',
    offset,
    split.pieces[0].width,
    `the pieces hold ${hex(is)} together; moved they must hold ${hex(expected)}.`,
    'Relocate again from the original bytes.',
  )
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
