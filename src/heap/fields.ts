/**
 * The sites of one object, grouped by what their two ends move with.
 *
 * In a heap every object moves on its own, so an end belongs to an owner: nothing (FIXED), the object itself
 * (SELF), or another object (LINK + i: the i-th of `links`). All sites of a group change by the same amount,
 *
 *     value = rest + place(owner of target) - place(owner of anchor)         place(FIXED) = 0
 *
 * where the rest never changes. So a move of any set of objects is one addition per site, and the interval of
 * a group's rests says in two comparisons whether all of them can take it; nothing here changes when things
 * move. Sites whose ends never move apart are not here.
 *
 * Managed targets count as fixed: moving code does not change what a root holds. Roots have columns of their
 * own (roots.ts), so that moves do not read roots, and forwarding roots does not read these.
 */
import { hex } from '../core/address.ts'
import { hexBytes, readField, viewOf } from '../core/bytes.ts'
import type { Problem } from '../core/errors.ts'
import { groupBounds } from '../table/groups.ts'
import { EIP32, KIND_ROWS, SPLIT } from '../table/kinds.ts'
import type { SplitPiece } from '../table/site.ts'
import { solvePieces, writePieces } from '../table/split.ts'
import type { CodeObject } from './object.ts'

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
  /** Its fields are `offsets[from]` up to `offsets[to - 1]`, ascending. */
  readonly from: number
  readonly to: number
  /** Least and greatest rest of what the kind's range rule judges: the value, or for `eip32` the target's address. */
  min: number
  max: number
}

export interface SplitField {
  readonly pieces: readonly SplitPiece[]
  readonly target: Owner
  readonly anchor: Owner
  /** The rest, modulo 2^64: `xor` pieces are solved with the value that they stand for. */
  readonly rest: bigint
}

export interface Fields {
  /** Field offsets of all groups, in bytes from the object's start. */
  readonly offsets: Uint16Array | Uint32Array
  readonly groups: readonly FieldGroup[]
  readonly splits: readonly SplitField[]
}

/** Bytes that one store writes. */
const WORD = 8

export const NO_FIELDS: Fields = { offsets: new Uint32Array(0), groups: [], splits: [] }

/**
 * Where an object is with its fields, and how far it goes, in bytes: numbers, since all places lie in one reservation.
 */
export interface Placed {
  /** Bytes from the reservation's start, when it is there. */
  readonly place: number
  /** By how much it goes to get there. */
  readonly shift: number
  readonly links: readonly CodeObject[]
}

const placeOf = (owner: Owner, { place, links }: Placed): number =>
  owner < SELF ? 0 : owner === SELF ? place : links[owner - LINK].place

const shiftOf = (owner: Owner, { shift, links }: Placed): number =>
  owner < SELF ? 0 : owner === SELF ? shift : links[owner - LINK].shift

interface Ends {
  readonly target: Owner
  readonly anchor: Owner
}

/** value - rest. */
export const distanceOf = ({ target, anchor }: Ends, placed: Placed): number =>
  placeOf(target, placed) - placeOf(anchor, placed)

/** By how much the value changes. */
const changeOf = ({ target, anchor }: Ends, placed: Placed): number =>
  shiftOf(target, placed) - shiftOf(anchor, placed)

/** Sets the bounds of every group to what `bytes` hold; those of `eip32` are of addresses, and known already. */
export function measureFields({ offsets, groups }: Fields, bytes: Uint8Array, placed: Placed): void {
  const view = viewOf(bytes)
  const none = new BigUint64Array(0)
  for (const group of groups) {
    if (group.kind === EIP32) continue
    const { min, max } = groupBounds(view, group.kind, offsets.subarray(group.from, group.to), none, 0n)
    const distance = distanceOf(group, placed)
    group.min = Number(min) - distance
    group.max = Number(max) - distance
  }
}

/** The range rules, as numbers. */
const LEAST = KIND_ROWS.map(({ rule, min }) => (rule === 'any' ? Number.NEGATIVE_INFINITY : Number(min)))
const GREATEST = KIND_ROWS.map(({ rule, max }) => (rule === 'any' ? Number.POSITIVE_INFINITY : Number(max)))

function groupFits(group: FieldGroup, placed: Placed): boolean {
  const { kind, target, min, max } = group
  const distance = kind === EIP32 ? placeOf(target, placed) : distanceOf(group, placed)
  return min + distance >= LEAST[kind] && max + distance <= GREATEST[kind]
}

/**
 * Whether each field of `fields` can hold its new value; `bytes` are memory with the object's, as they are,
 * at `at`. Nothing is written.
 */
export function fieldsFit(
  { groups, splits }: Fields,
  bytes: Uint8Array,
  at: number,
  placed: Placed,
): boolean {
  for (const group of groups) if (!groupFits(group, placed)) return false
  for (const field of splits)
    if (changeOf(field, placed) !== 0 && solveField(viewFrom(viewOf(bytes), at), field, placed) === undefined)
      return false
  return true
}

/** What the pieces become; `view` shows them as they are. */
function solveField(view: DataView, field: SplitField, placed: Placed): readonly bigint[] | undefined {
  const by = changeOf(field, placed)
  const now = BigInt.asUintN(64, field.rest + BigInt(distanceOf(field, placed) - by))
  return solvePieces(view, field.pieces, now, BigInt(by))
}

/** The same memory from `at` on. */
export const viewFrom = (view: DataView, at: number): DataView =>
  new DataView(view.buffer, view.byteOffset + at)

/** Writes the new values into the object's bytes, which are at `at` of `view`. All of them fit. */
export function applyFields(
  { offsets, groups, splits }: Fields,
  view: DataView,
  at: number,
  placed: Placed,
): void {
  for (const group of groups) {
    const by = changeOf(group, placed)
    if (by !== 0) addToFields(view, at, offsets, group, by)
  }
  for (const field of splits) {
    if (changeOf(field, placed) === 0) continue
    const bytes = viewFrom(view, at)
    writePieces(bytes, field.pieces, solveField(bytes, field, placed)!)
  }
}

/** Adds `by`, an integer below 2^53 in size, to each field of a group. */
export function addToFields(
  view: DataView,
  at: number,
  offsets: Fields['offsets'],
  { kind, from, to }: FieldGroup,
  by: number,
): void {
  const { width } = KIND_ROWS[kind]
  if (width === 8) {
    const high = Math.floor(by / 2 ** 32)
    for (let i = from; i < to; i++) addWord(view, at + offsets[i], by >>> 0, high)
  } else for (let i = from; i < to; i++) addNarrow(view, at + offsets[i], width, by)
}

/** Adds to a field of up to four bytes, modulo its range. */
export function addNarrow(view: DataView, offset: number, width: number, by: number): void {
  if (width === 4) view.setInt32(offset, view.getInt32(offset, true) + by, true)
  else if (width === 2) view.setInt16(offset, view.getInt16(offset, true) + by, true)
  else view.setInt8(offset, view.getInt8(offset) + by)
}

/** Adds `low + high * 2^32` to eight bytes, modulo 2^64; `low` is an unsigned number of 32 bits. */
export function addWord(view: DataView, offset: number, low: number, high: number): void {
  const sum = view.getUint32(offset, true) + low
  view.setInt32(offset, sum, true)
  const carry = sum >= 0x1_0000_0000 ? 1 : 0
  view.setInt32(offset + 4, view.getInt32(offset + 4, true) + high + carry, true)
}

/** Whether one store can write a field. */
export const isInWord = (position: number, width: number): boolean => (position % WORD) + width <= WORD

/**
 * Whether every field that changes lies in one aligned word: another thread that executes it, at `position`,
 * then sees the old or the new value.
 */
export function fieldsAreWords(
  { offsets, groups, splits }: Fields,
  position: number,
  placed: Placed,
): boolean {
  for (const group of groups) {
    if (changeOf(group, placed) === 0) continue
    const { width } = KIND_ROWS[group.kind]
    for (let i = group.from; i < group.to; i++) if (!isInWord(position + offsets[i], width)) return false
  }
  return splits.every((field) => changeOf(field, placed) === 0)
}

/** The first field that cannot hold its new value, as a problem; `address` is the object's. */
export function failingField(
  { offsets, groups, splits }: Fields,
  bytes: Uint8Array,
  address: bigint,
  placed: Placed,
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
    if (groupFits(group, placed)) continue
    const { name, width, limit } = KIND_ROWS[group.kind]
    const offset = offsets[group.from]
    const held = hex(readField(view, offset, width))
    return problem(
      offset,
      width,
      `${name} fields (${held} here) would change by ${changeOf(group, placed)}; ${limit}.`,
    )
  }
  for (const field of splits) {
    const { pieces } = field
    const by = changeOf(field, placed)
    if (by !== 0 && solveField(view, field, placed) === undefined)
      return problem(
        pieces[0].offset,
        pieces[0].width,
        `${KIND_ROWS[SPLIT].name}: its ${pieces.length} pieces cannot hold a change of ${by}.`,
      )
  }
  return undefined
}
