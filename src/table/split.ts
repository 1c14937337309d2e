/**
 * Addresses spread over several fields. With pieces p_i at bit s_i the program computes
 *
 *     value = sum of ext(p_i) << s_i        ext: zero-extension for `or`, sign-extension for `add`
 *
 * modulo 2^64, and `xor` pieces hold bits of `value ^ key` for a key that stays. A change of the value is
 * handed out from the lowest piece up: each takes the bits below the next piece's first, and what is carried
 * or borrowed goes on to the next. So pieces that could share a value in several ways share it as they did
 * before, and moving back restores them. What no piece can take makes the new value unwritable.
 */

import { readField, writeField } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import type { SplitPiece } from './site.ts'

/** More pieces than any address needs. */
const MOST_PIECES = 8

/**
 * The pieces in ascending order of shift, narrow before wide. Throws `bad-argument` for what is no piece of a
 * blob of `length` bytes, and where pieces that are joined without carry share bits: their sum would not be
 * what the program computes.
 */
export function checkPieces(pieces: readonly SplitPiece[], length: number, what: string): SplitPiece[] {
  const wrong = (why: string): RelocError => new RelocError('bad-argument', `${what}: ${why}.`)
  if (!Array.isArray(pieces) || pieces.length === 0 || pieces.length > MOST_PIECES)
    throw wrong(`a split site has 1 to ${MOST_PIECES} pieces`)
  for (const piece of pieces) {
    const { offset, width, shift, operation } = piece ?? {}
    const isPiece =
      [1, 2, 4, 8].includes(width) &&
      ['or', 'add', 'xor'].includes(operation) &&
      Number.isSafeInteger(offset) &&
      offset >= 0 &&
      Number.isSafeInteger(shift) &&
      shift >= 0 &&
      shift < 64
    if (!isPiece)
      throw wrong(
        `a piece is { offset, width: 1|2|4|8, shift: 0 to 63, operation: 'or'|'add'|'xor' }, not ${JSON.stringify(piece)}`,
      )
    if (offset + width > length)
      throw wrong(`the piece at offset ${offset} passes the end of the blob (${length} bytes)`)
  }
  const sorted = pieces
    .map(({ offset, width, shift, operation }): SplitPiece => ({ offset, width, shift, operation }))
    .sort((a, b) => a.shift - b.shift || a.width - b.width)
  const exclusive = sorted.filter((piece) => piece.operation !== 'add')
  for (let i = 1; i < exclusive.length; i++)
    if (exclusive[i - 1].shift + 8 * exclusive[i - 1].width > exclusive[i].shift)
      throw wrong('its `or` and `xor` pieces share bits of the value')
  return sorted
}

const extend = (piece: SplitPiece, bits: bigint): bigint =>
  piece.operation === 'add' ? BigInt.asIntN(8 * piece.width, bits) : bits

/** The 64-bit value that the pieces hold together (of `xor` pieces: of value ^ key). */
export function joinPieces(view: DataView, pieces: readonly SplitPiece[]): bigint {
  let value = 0n
  for (const piece of pieces)
    value += extend(piece, readField(view, piece.offset, piece.width)) << BigInt(piece.shift)
  return BigInt.asUintN(64, value)
}

/**
 * What the pieces must hold together for an address that goes from `address` by `delta`. Of a sum only the
 * difference matters, so an addend beside the pieces does no harm; the key of `xor` pieces is known only from
 * the old address.
 */
export function movedValue(
  joined: bigint,
  pieces: readonly SplitPiece[],
  address: bigint,
  delta: bigint,
): bigint {
  const value = pieces.some((piece) => piece.operation === 'xor')
    ? joined ^ BigInt.asUintN(64, address) ^ BigInt.asUintN(64, address + delta)
    : joined + delta
  return BigInt.asUintN(64, value)
}

/**
 * The new bits of each piece for an address that moves by `delta` from `address`, or undefined where the
 * pieces cannot hold it.
 */
export function solvePieces(
  view: DataView,
  pieces: readonly SplitPiece[],
  address: bigint,
  delta: bigint,
): readonly bigint[] | undefined {
  const joined = joinPieces(view, pieces)
  let rest = BigInt.asUintN(64, movedValue(joined, pieces, address, delta) - joined)
  const solved = pieces.map((piece, i) => {
    const old = readField(view, piece.offset, piece.width)
    const below = (pieces[i + 1]?.shift ?? 64) - piece.shift
    const taken = Math.min(below, 8 * piece.width)
    const kept = (old >> BigInt(taken)) << BigInt(taken)
    const bits = kept | BigInt.asUintN(taken, old + (rest >> BigInt(piece.shift)))
    const change = extend(piece, bits) - extend(piece, old)
    rest = BigInt.asUintN(64, rest - (change << BigInt(piece.shift)))
    return bits
  })
  return rest === 0n ? solved : undefined
}

/** Writes what `solvePieces` found. */
export function writePieces(view: DataView, pieces: readonly SplitPiece[], bits: readonly bigint[]): void {
  pieces.forEach((piece, i) => {
    writeField(view, piece.offset, piece.width, bits[i])
  })
}
