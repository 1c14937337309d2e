/**
 * Addresses: unsigned 64-bit, `bigint` at the public edge. Differences of addresses (deltas, displacements)
 * are signed 64-bit: the CPU computes modulo 2^64, so a move across the wrap is a short one.
 */
import { given, RelocError } from './errors.ts'

/** Addresses are accepted as bigint, or as a number where that is exact. */
export type AddressLike = bigint | number

/** One past the last address. */
export const ADDRESS_LIMIT: bigint = 1n << 64n

/** `value` as an address; throws `bad-argument` unless it is an integer in [0, 2^64). */
export function toAddress(value: AddressLike, what: string): bigint {
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RelocError(
        'bad-argument',
        `${what} is ${value}: an address is a bigint, or a whole number up to 2^53.`,
      )
    return BigInt(value)
  }
  if (typeof value !== 'bigint' || value < 0n || value >= ADDRESS_LIMIT)
    throw new RelocError(
      'bad-argument',
      `${what} is ${given(value)}: an address is a bigint in [0, 2^64), or a whole number up to 2^53.`,
    )
  return value
}

/** `value` as a count or an offset in bytes; throws `bad-argument` unless it is a whole number in [0, limit]. */
export function toOffset(value: number, what: string, limit: number = Number.MAX_SAFE_INTEGER): number {
  if (!Number.isSafeInteger(value) || value < 0 || value > limit)
    throw new RelocError(
      'bad-argument',
      `${what} is ${given(value)}: a whole number from 0 to ${limit} is needed.`,
    )
  return value
}

/** The address `value` reduced modulo 2^64. */
export const wrapAddress = (value: bigint): bigint => BigInt.asUintN(64, value)

/** `to - from` as the CPU sees it: modulo 2^64, signed. */
export const signedDelta = (from: bigint, to: bigint): bigint => BigInt.asIntN(64, to - from)

/** `0x…` in lower case. */
export const hex = (value: bigint | number): string =>
  value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`
