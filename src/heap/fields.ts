/**
 * The sites of one object, grouped by what their two ends move with.
 *
 * In a heap every object moves on its own, so an end belongs to an owner: nothing (FIXED), the object itself (SELF), or another object
 * (LINK + i: the i-th of `links`). All sites of a group change by the same amount,
 *
 *     value' = value + shift(owner of target) - shift(owner of anchor)
 *
 * so a move of any set of objects is one addition per site, and the group's interval of values says in two comparisons whether all of
 * them can take it. Sites whose ends never move apart from one another are not here.
 *
 * Managed targets count as fixed: moving code does not change what a root holds. Roots have columns of their own (roots.ts), so that
 * moves do not read roots, and forwarding roots does not read these.
 */
import { hex } from '../core/address.ts'
import { hexBytes, readField, viewOf, writeField } from '../core/bytes.ts'
import type { Problem } from '../core/errors.ts'
import { EIP32, KIND_ROWS, SPLIT } from '../table/kinds.ts'
import type { SplitPiece } from '../table/site.ts'
import { solvePieces, writePieces } from '../table/split.ts'

export const FIXED = -1
export const SELF = 0
export const LINK = 1

/** What one end of a site moves with: FIXED, SELF, or LINK + an index into the object's links. */
export type Owner = number

export interface FieldGroup {
  /** Kind code; never SPLIT. */
  readonly kind: number
  readonly target: Owner
  readonly anchor: Owner
  /** Field offsets, in bytes from the object's start, ascending. */
  readonly offsets: Uint32Array
  /** Least and greatest of what the kind's range rule judges, now: the value, or for `eip32` the target's address. */
  min: number
  max: number
}

export interface SplitField {
  readonly pieces: readonly SplitPiece[]
  readonly target: Owner
  readonly anchor: Owner
  /** target - anchor now, modulo 2^64: what `xor` pieces are solved with. */
  address: bigint
}

export interface Fields {
  readonly groups: readonly FieldGroup[]
  readonly splits: readonly SplitField[]
}

/** How far an owner goes, in bytes: a number, since all places lie in one reservation. */
export type ShiftOf = (owner: Owner) => number

/** The same columns with bounds of their own: for a copy that goes elsewhere. */
export const copyFields = ({ groups, splits }: Fields): Fields => ({
  groups: groups.map((group) => ({ ...group })),
  splits: splits.map((field) => ({ ...field })),
})

/** Whether each field of `fields` can hold its new value; `bytes` are the object's. Nothing is written. */
export function fieldsFit({ groups, splits }: Fields, bytes: Uint8Array, shift: ShiftOf): boolean {
  for (const group of groups) if (!groupFits(group, shift)) return false
  for (const field of splits) {
    const change = shift(field.target) - shift(field.anchor)
    if (change !== 0 && solvePieces(viewOf(bytes), field.pieces, field.address, BigInt(change)) === undefined)
      return false
  }
  return true
}

/** By how much what the range rule judges goes. */
const judgedChange = ({ kind, target, anchor }: FieldGroup, shift: ShiftOf): number =>
  kind === EIP32 ? shift(target) : shift(target) - shift(anchor)

function groupFits(group: FieldGroup, shift: ShiftOf): boolean {
  const row = KIND_ROWS[group.kind]
  if (row.rule === 'any') return true
  const change = judgedChange(group, shift)
  return change === 0 || (group.min + change >= row.min && group.max + change <= row.max)
}

/** Writes the new values into `bytes`, the object's at its new place. All of them fit. */
export function applyFields({ groups, splits }: Fields, bytes: Uint8Array, shift: ShiftOf): void {
  let view: DataView | undefined
  for (const { kind, target, anchor, offsets } of groups) {
    const change = shift(target) - shift(anchor)
    if (change === 0) continue
    addToFields((view ??= viewOf(bytes)), KIND_ROWS[kind].width, offsets, change)
  }
  for (const { pieces, target, anchor, address } of splits) {
    const change = shift(target) - shift(anchor)
    if (change === 0) continue
    view ??= viewOf(bytes)
    writePieces(view, pieces, solvePieces(view, pieces, address, BigInt(change))!)
  }
}

/** Brings bounds up to date, when the new values have been published. */
export function settleFields({ groups, splits }: Fields, shift: ShiftOf): void {
  for (const group of groups) {
    const change = judgedChange(group, shift)
    group.min += change
    group.max += change
  }
  for (const field of splits)
    field.address = BigInt.asUintN(64, field.address + BigInt(shift(field.target) - shift(field.anchor)))
}

/** Adds `change`, an integer below 2^53 in size, to each field. */
export function addToFields(view: DataView, width: number, offsets: Uint32Array, change: number): void {
  const low = change >>> 0
  if (width === 4)
    for (let i = 0; i < offsets.length; i++) {
      const offset = offsets[i]
      view.setInt32(offset, view.getInt32(offset, true) + low, true)
    }
  else if (width === 8) {
    const high = Math.floor(change / 2 ** 32)
    for (let i = 0; i < offsets.length; i++) {
      const offset = offsets[i]
      const sum = view.getUint32(offset, true) + low
      view.setInt32(offset, sum, true)
      view.setInt32(offset + 4, view.getInt32(offset + 4, true) + high + (sum >= 0x1_0000_0000 ? 1 : 0), true)
    }
  } else
    for (const offset of offsets)
      writeField(view, offset, width, readField(view, offset, width) + BigInt(change))
}

/** The first field that cannot hold its new value, as a problem; `address` is the object's. */
export function failingField(
  { groups, splits }: Fields,
  bytes: Uint8Array,
  address: bigint,
  shift: ShiftOf,
): Problem | undefined {
  const view = viewOf(bytes)
  const problem = (offset: number, width: number, message: string): Problem => ({
    severity: 'error',
    code: 'out-of-range',
    offset,
    address: address + BigInt(offset),
    bytes: hexBytes(bytes, offset, offset + width),
    message,
    remedy:
      'Pin what it refers to beside it, or build the code with fields that hold any distance in the heap.',
  })
  for (const group of groups) {
    if (groupFits(group, shift)) continue
    const { name, width, limit } = KIND_ROWS[group.kind]
    const change = judgedChange(group, shift)
    const [offset] = group.offsets
    const held = hex(readField(view, offset, width))
    return problem(offset, width, `${name} fields (${held} here) would change by ${change}; ${limit}.`)
  }
  for (const { pieces, target, anchor, address: value } of splits) {
    const change = BigInt(shift(target) - shift(anchor))
    if (change !== 0n && solvePieces(view, pieces, value, change) === undefined)
      return problem(
        pieces[0].offset,
        pieces[0].width,
        `${KIND_ROWS[SPLIT].name}: its ${pieces.length} pieces cannot hold a change of ${change}.`,
      )
  }
  return undefined
}
