/** Address ranges and sets of moves: which address moves with what, and how far. */
import { ADDRESS_LIMIT, type AddressLike, hex, signedDelta, toAddress } from './address.ts'
import { RelocError } from './errors.ts'
import { type Rule, recordsOf } from './options.ts'

/** `[start, end)`, `end` exclusive; `end` may be 2^64. */
export interface AddressRange {
  readonly start: bigint
  readonly end: bigint
}

/** The range `[from, from + length)` now lives at `to`. */
export interface Move {
  readonly from: AddressLike
  readonly to: AddressLike
  /** Bytes, at least 1. */
  readonly length: AddressLike
}

/** A range as callers give it. */
export interface MovedRange {
  readonly start: AddressLike
  readonly length: AddressLike
}

export const checkMoveList: Rule<readonly Move[]> = recordsOf<Move>('{ from, to, length }', {
  from: toAddress,
  to: toAddress,
  length: toAddress,
})

export const checkRangeList: Rule<readonly MovedRange[]> = recordsOf<MovedRange>('{ start, length }', {
  start: toAddress,
  length: toAddress,
})

/** A move, checked: `delta` is signed 64-bit. */
export interface CheckedMove extends AddressRange {
  readonly delta: bigint
}

/** Checks `[start, start + length)`; throws `bad-argument` where it is empty or passes 2^64. */
export function toRange(start: AddressLike, length: AddressLike, what: string): AddressRange {
  const from = toAddress(start, `${what}: start`)
  const size = toAddress(length, `${what}: length`)
  if (size === 0n) throw new RelocError('bad-argument', `${what} is empty.`)
  if (from + size > ADDRESS_LIMIT)
    throw new RelocError(
      'bad-argument',
      `${what} at ${hex(from)} with ${size} bytes passes the end of the address space (2^64).`,
    )
  return { start: from, end: from + size }
}

/** Sorts by start; throws `bad-argument` where two overlap. */
export function sortDisjoint<R extends AddressRange>(ranges: readonly R[], what: string): R[] {
  const sorted = [...ranges].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))
  for (let i = 1; i < sorted.length; i++) {
    const before = sorted[i - 1]
    const after = sorted[i]
    if (after.start < before.end)
      throw new RelocError(
        'bad-argument',
        `${what}: ${formatRange(before)} and ${formatRange(after)} overlap.`,
      )
  }
  return sorted
}

/**
 * Checks a set of moves: neither the old places nor the new ones may overlap one another
 * (an old place may overlap a new one). Sorted by old address. Throws `bad-argument`.
 */
export function checkMoves(moves: readonly Move[]): CheckedMove[] {
  const checked = moves.map((move, i) => {
    const old = toRange(move.from, move.length, `move ${i}`)
    const to = toAddress(move.to, `move ${i}: to`)
    toRange(to, move.length, `move ${i}: the new place`)
    return { ...old, delta: signedDelta(old.start, to) }
  })
  sortDisjoint(
    checked.map((move) => ({
      start: BigInt.asUintN(64, move.start + move.delta),
      end: BigInt.asUintN(64, move.start + move.delta) + (move.end - move.start),
    })),
    'the new places of the moves',
  )
  return sortDisjoint(checked, 'the moved ranges')
}

/** Index of the range that holds `address`, or -1. `ranges` sorted and disjoint. */
export function findRange(ranges: readonly AddressRange[], address: bigint): number {
  let low = 0
  let high = ranges.length - 1
  while (low <= high) {
    const middle = (low + high) >> 1
    if (address < ranges[middle].start) high = middle - 1
    else if (address >= ranges[middle].end) low = middle + 1
    else return middle
  }
  return -1
}

/**
 * Index of the range that `address` moves with, or -1: the one decision about ends. A value equal to a
 * range's end counts as inside where it may be an end pointer (`endInside`: an absolute value or a `lea`) and no other
 * range starts there; the target of a branch or of a load is never inside at the end.
 */
export function rangeOfTarget(ranges: readonly AddressRange[], address: bigint, endInside: boolean): number {
  const inside = findRange(ranges, address)
  if (inside >= 0 || !endInside || address === 0n) return inside
  const before = findRange(ranges, address - 1n)
  return before
}

/** `[0x1000, 0x2000)` */
export const formatRange = (range: AddressRange): string => `[${hex(range.start)}, ${hex(range.end)})`
