/**
 * Sites grouped by (kind, what the target moves with, what the anchor moves with). All sites of a group change by the
 * same amount in every move, so a move is one addition per site in a tight loop, and the interval of values that a
 * group holds (its bounds) tells in two comparisons whether any of them would leave its range.
 *
 * Invariants: `offsets` ascend strictly; all columns have the same length; no two fields overlap; target and
 * anchor differ in what they move with (a site that no move changes is not here), but for `eip32`, whose
 * target is bounded even when nothing changes.
 */
import { readField } from '../core/bytes.ts'
import { type AddressRange, rangeOfTarget } from '../core/range.ts'
import { ABS64, DIFF64, EIP32, fieldValue, KIND_ROWS } from './kinds.ts'
import type { SplitPiece } from './site.ts'

/** Index into the covered ranges, or `FIXED` for what no covered move takes along. */
export type Place = number
export const FIXED: Place = -1

export interface SiteGroup {
  /** Kind code: an index into `KIND_ROWS`; never `SPLIT`. */
  readonly kind: number
  readonly target: Place
  readonly anchor: Place
  /** Field offsets in bytes from the blob's start. */
  readonly offsets: Uint32Array
  /** Address that each site moves with, as it was when the table was built. */
  readonly targets: BigUint64Array
  /** pc kinds: bytes between the field's end and the instruction's end. */
  readonly tails: Uint8Array
  /** diff kinds: the address that each site moves against, as it was when the table was built. */
  readonly anchors: BigUint64Array | undefined
  readonly evidence: Uint8Array
  /**
   * Of what the kind's range rule judges, as it is now. Not known of a table that was read: then the bytes
   * say it at the next move.
   */
  readonly bounds: Bounds | undefined
  /**
   * Of the fields' values as they are now, modulo 2^64 (`eip32`: 2^32): says whether code is where the table
   * describes it.
   */
  readonly sum: bigint
}

/** Least and greatest of some values. */
export interface Bounds {
  readonly min: bigint
  readonly max: bigint
}

export interface SplitSite {
  readonly pieces: readonly SplitPiece[]
  readonly target: Place
  readonly anchor: Place
  readonly targetAddress: bigint
  readonly anchorAddress: bigint | undefined
  readonly evidence: number
  /** What the pieces hold together now. */
  readonly value: bigint
}

/**
 * Least and greatest value (for `eip32`: target, which has moved by `shift` since the table was built) of a
 * group's sites in `code`.
 */
export function groupBounds(
  view: DataView,
  kind: number,
  offsets: Uint16Array | Uint32Array,
  targets: BigUint64Array,
  shift: bigint,
): Bounds {
  if (kind === ABS64 || kind === DIFF64 || offsets.length === 0) return { min: 0n, max: 0n }
  if (kind === EIP32) {
    let [min, max] = [targets[0], targets[0]]
    for (const target of targets) {
      if (target < min) min = target
      if (target > max) max = target
    }
    return { min: min + shift, max: max + shift }
  }
  const { width, signed } = KIND_ROWS[kind]
  return boundsOf(measure(view, offsets, 0, width, signed))
}

/** `SiteGroup.sum` of a group's sites in `code`. */
export function groupSum(view: DataView, kind: number, offsets: Uint32Array): bigint {
  const { width, signed } = KIND_ROWS[kind]
  if (width < 8) return reduceSum(kind, sumOf(measure(view, offsets, 0, width, signed)))
  const low = measure(view, offsets, 0, 4, false)
  const high = measure(view, offsets, 4, 4, false)
  return reduceSum(kind, sumOf(low) + (sumOf(high) << 32n))
}

/** Both of a group that has sites, with one pass over fields that are small. */
export function measureGroup(
  view: DataView,
  kind: number,
  offsets: Uint32Array,
  targets: BigUint64Array,
): Pick<SiteGroup, 'bounds' | 'sum'> {
  const { width, signed } = KIND_ROWS[kind]
  if (width === 8 || kind === EIP32)
    return { bounds: groupBounds(view, kind, offsets, targets, 0n), sum: groupSum(view, kind, offsets) }
  const measured = measure(view, offsets, 0, width, signed)
  return { bounds: boundsOf(measured), sum: reduceSum(kind, sumOf(measured)) }
}

/** The sum after a move that changes each of a group's sites by `change`. */
export const movedSum = ({ kind, sum, offsets }: SiteGroup, change: bigint): bigint =>
  reduceSum(kind, sum + BigInt(offsets.length) * change)

/**
 * Values never leave their range, so their sum changes by exactly that; those of `eip32` are known modulo 2^32 only.
 */
const reduceSum = (kind: number, sum: bigint): bigint => BigInt.asUintN(kind === EIP32 ? 32 : 64, sum)

/**
 * Least and greatest of small fields, and the sums of their low 16 bits and of the bits above: exact, since
 * fewer than 2^32 values stay below 2^53.
 */
interface Measured {
  readonly min: number
  readonly max: number
  readonly low: number
  readonly high: number
}

const boundsOf = ({ min, max }: Measured): Bounds => ({ min: BigInt(min), max: BigInt(max) })
const sumOf = ({ low, high }: Measured): bigint => BigInt(low) + (BigInt(high) << 16n)

function measure(
  view: DataView,
  offsets: Uint16Array | Uint32Array,
  at: number,
  width: number,
  signed: boolean,
): Measured {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  let [low, high] = [0, 0]
  for (let i = 0; i < offsets.length; i++) {
    const value = readSmall(view, offsets[i] + at, width, signed)
    if (value < min) min = value
    if (value > max) max = value
    low += value & 0xffff
    high += Math.floor(value / 0x1_0000)
  }
  return { min, max, low, high }
}

/** A field of 1, 2 or 4 bytes as a number. */
export function readSmall(view: DataView, offset: number, width: number, signed: boolean): number {
  switch (width) {
    case 1:
      return signed ? view.getInt8(offset) : view.getUint8(offset)
    case 2:
      return signed ? view.getInt16(offset, true) : view.getUint16(offset, true)
    default:
      return signed ? view.getInt32(offset, true) : view.getUint32(offset, true)
  }
}

/**
 * Whether an address, as it was when the table was built, can be one that moves with `place`: what a table
 * that is read must say. A relative target may be fixed wherever it lies (fs:, gs:).
 */
export const canMoveWith = (
  covered: readonly AddressRange[],
  address: bigint,
  place: Place,
  relative: boolean,
): boolean =>
  rangeOfTarget(covered, address, false) === place ||
  rangeOfTarget(covered, address, true) === place ||
  (relative && place === FIXED)

/** The value of one site's field. */
export function siteValue(view: DataView, kind: number, offset: number): bigint {
  const row = KIND_ROWS[kind]
  return fieldValue(row, readField(view, offset, row.width))
}
