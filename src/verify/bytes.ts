/**
 * The part of verification that compares bytes: every claimed field of `after` holds its moved value, and
 * everything else is as it was before.
 *
 * The fields of a copy of `after` get their old values back, and the instructions that veneers stand in for
 * their old bytes; what still differs from `before` was not claimed.
 */
import { hex } from '../core/address.ts'
import { hexBytes, readField, viewOf, writeField } from '../core/bytes.ts'
import type { SiteGroup, SplitSite } from '../table/groups.ts'
import { fieldValue, KIND_ROWS, type KindRow } from '../table/kinds.ts'
import { joinPieces, movedValue } from '../table/split.ts'
import type { RelocationTable } from '../table/table.ts'
import type { CoverageShifts } from './claims.ts'
import type { Findings } from './findings.ts'
import { checkVeneers, type FarField, farTarget, type VerifyVeneers } from './veneers.ts'

/** A field that holds something else than its moved value. */
interface WrongField {
  readonly offset: number
  readonly width: number
  readonly message: string
}

const AGAIN = 'Relocate again from the original bytes.'

/** Says what is wrong. Returns how many bytes were kept, and how many instructions replaced. */
export function checkBytes(
  before: Uint8Array,
  after: Uint8Array,
  claim: RelocationTable,
  shifts: CoverageShifts,
  veneers: VerifyVeneers | undefined,
  findings: Findings,
): { bytes: number; veneers: number } {
  const restored = new Uint8Array(after)
  const fields = new FieldRestorer(
    before,
    after,
    viewOf(restored),
    claim,
    shifts,
    veneers !== undefined,
    findings,
  )
  for (const group of claim.parts.groups) fields.group(group)
  for (const split of claim.parts.splits) fields.split(split)
  const { instructions, replaced } =
    veneers === undefined
      ? { instructions: 0, replaced: [] }
      : checkVeneers(before, after, claim, shifts, fields.far, veneers, findings)
  for (const { start, end } of replaced) restored.set(before.subarray(start, end), start)
  // In a replaced instruction there is no field any more.
  for (const { offset, width, message } of fields.wrong)
    if (!replaced.some(({ start, end }) => offset >= start && offset < end))
      findings.error('wrong-value', offset, width, message, AGAIN)
  compare(before, restored, after, findings)
  return { bytes: before.length - fields.claimed, veneers: instructions }
}

/** Gives fields their old values back where they hold the moved ones. */
class FieldRestorer {
  /** Bytes of the fields. */
  claimed = 0
  /** What only veneers can serve. */
  readonly far: FarField[] = []
  readonly wrong: WrongField[] = []
  readonly #old: DataView
  readonly #now: DataView
  readonly #restore: DataView
  readonly #claim: RelocationTable
  readonly #shifts: CoverageShifts
  readonly #hasVeneers: boolean
  readonly #findings: Findings

  constructor(
    before: Uint8Array,
    after: Uint8Array,
    restore: DataView,
    claim: RelocationTable,
    shifts: CoverageShifts,
    hasVeneers: boolean,
    findings: Findings,
  ) {
    this.#old = viewOf(before)
    this.#now = viewOf(after)
    this.#restore = restore
    this.#claim = claim
    this.#shifts = shifts
    this.#hasVeneers = hasVeneers
    this.#findings = findings
  }

  group(group: SiteGroup): void {
    const [old, now, restore] = [this.#old, this.#now, this.#restore]
    const { offsets } = group
    const row = KIND_ROWS[group.kind]
    const change = this.#shifts.change(group.target, group.anchor)
    const isRight = wordCheck(row, change)
    for (let i = 0; i < offsets.length; i++) {
      const offset = offsets[i]
      if (isRight?.(old.getInt32(offset, true), now.getInt32(offset, true)))
        restore.setInt32(offset, old.getInt32(offset, true), true)
      else this.#field(group, i, change)
    }
    this.claimed += row.width * offsets.length
  }

  /** Any field, by number in its group. */
  #field(group: SiteGroup, i: number, change: bigint): void {
    const offset = group.offsets[i]
    const { width, name, limit } = KIND_ROWS[group.kind]
    const was = readField(this.#old, offset, width)
    const is = readField(this.#now, offset, width)
    const expected = BigInt.asUintN(8 * width, was + change)
    if (!this.#fits(group, i, was)) {
      if (this.#hasVeneers)
        this.far.push({
          offset,
          target: farTarget(this.#claim, group, i, was, this.#shifts.of(group.target)),
        })
      else
        this.#findings.error(
          'out-of-range',
          offset,
          width,
          `the ${name} field cannot hold its moved value: ${limit}.`,
          'Choose another destination.',
        )
    } else if (is !== expected) {
      const message = `the field holds ${hex(is)}; moved it must hold ${hex(expected)}.`
      this.wrong.push({ offset, width, message })
    }
    writeField(this.#restore, offset, width, was)
  }

  /** Whether site `i` of a group, whose field holds the bits `was`, can be moved. */
  #fits(group: SiteGroup, i: number, was: bigint): boolean {
    const row = KIND_ROWS[group.kind]
    const { target, anchor } = group
    if (row.rule === 'any') return true
    const moved =
      row.rule === 'target'
        ? this.#claim.now(group.targets[i], target) + this.#shifts.of(target)
        : fieldValue(row, was) + this.#shifts.change(target, anchor)
    return moved >= row.min && moved <= row.max
  }

  split(split: SplitSite): void {
    const { pieces, target, anchor } = split
    const was = joinPieces(this.#old, pieces)
    const is = joinPieces(this.#now, pieces)
    const claim = this.#claim
    const address = claim.now(split.targetAddress, target) - claim.now(split.anchorAddress ?? 0n, anchor)
    const expected = movedValue(was, pieces, address, this.#shifts.change(target, anchor))
    if (is !== expected)
      this.#findings.error(
        'wrong-value',
        pieces[0].offset,
        pieces[0].width,
        `the pieces hold ${hex(is)} together; moved they must hold ${hex(expected)}.`,
        AGAIN,
      )
    for (const { offset, width } of pieces) {
      writeField(this.#restore, offset, width, readField(this.#old, offset, width))
      this.claimed += width
    }
  }
}

/**
 * Tells whether a field of 4 bytes, signed as they were and are now, can hold the moved value and does. Most
 * fields do, and that takes no bigint; undefined where it would.
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

/** Says where the restored bytes are not those of before: one error for each run of them. */
function compare(before: Uint8Array, restored: Uint8Array, after: Uint8Array, findings: Findings): void {
  let run = -2
  for (let i = firstDifference(viewOf(restored), viewOf(before)); i < restored.length; i++) {
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
}

/** Offset of the first byte that differs, or the length of both; by words, as most often none does. */
function firstDifference(one: DataView, other: DataView): number {
  const { byteLength } = one
  let at = 0
  while (at + 4 <= byteLength && one.getInt32(at) === other.getInt32(at)) at += 4
  while (at < byteLength && one.getUint8(at) === other.getUint8(at)) at++
  return at
}
