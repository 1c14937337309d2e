/**
 * Addresses spread over several fields. With pieces p_i at bit s_i the program computes
 *
 *     value = sum of ext(p_i) << s_i        ext: zero-extension for `or`, sign-extension for `add`
 *
 * modulo 2^64, and `xor` pieces hold bits of `value ^ key` for a key that stays. Solving from the lowest piece up gives
 * every piece of a new value; what no piece can hold makes the new value unwritable.
 */
import { readField, writeField } from '../core/bytes.ts'
import type { SplitPiece } from './site.ts'

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
 * The new bits of each piece for a value that moves by `delta` from `old` (the address value; for
 * sums the joined value itself), or undefined where the pieces cannot hold the new one.
 */
export function solvePieces(
  view: DataView,
  pieces: readonly SplitPiece[],
  old: bigint,
  delta: bigint,
): readonly bigint[] | undefined {
  const joined = joinPieces(view, pieces)
  const xored = pieces.some((piece) => piece.operation === 'xor')
  // Of a sum only the difference matters, so an addend beside the pieces does no harm; a key is known only from the old value.
  const wanted = xored ? joined ^ old ^ BigInt.asUintN(64, old + delta) : BigInt.asUintN(64, joined + delta)
  let rest = wanted
  const solved: bigint[] = []
  for (const piece of pieces) {
    const bits = BigInt.asUintN(8 * piece.width, rest >> BigInt(piece.shift))
    solved.push(bits)
    rest = BigInt.asUintN(64, rest - (extend(piece, bits) << BigInt(piece.shift)))
  }
  return rest === 0n ? solved : undefined
}

/** Writes what `solvePieces` found. */
export function writePieces(view: DataView, pieces: readonly SplitPiece[], bits: readonly bigint[]): void {
  pieces.forEach((piece, i) => {
    writeField(view, piece.offset, piece.width, bits[i])
  })
}
