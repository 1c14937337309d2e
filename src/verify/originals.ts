/**
 * A claim about code with veneers says what the replaced instructions were: the blob and the claim as they
 * were before that move.
 */
import { readField, viewOf, writeField } from '../core/bytes.ts'
import type { CheckedMove, Move } from '../core/range.ts'
import { FIXED, movedSum, type Place } from '../table/groups.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import { movedValue, solvePieces, writePieces } from '../table/split.ts'
import { RelocationTable } from '../table/table.ts'
import { type Veneered, withReplaced } from '../table/veneered.ts'
import { CoverageShifts } from './claims.ts'

export interface Originals {
  readonly code: Uint8Array
  readonly claim: RelocationTable
  /** From there to where `moves` lead. */
  readonly moves: readonly Move[]
}

/** What `code` was before the move that made its veneers. */
export function originalsOf(
  code: Uint8Array,
  claim: RelocationTable,
  veneered: Veneered,
  moves: readonly CheckedMove[],
): Originals {
  const { parts } = claim
  const bytes = withReplaced(code, veneered)
  const view = viewOf(bytes)
  const moved = (place: Place): bigint => (place === FIXED ? 0n : veneered.deltas[place])
  const isReplaced = new Uint8Array(code.length)
  for (const { offset, bytes: old } of veneered.replaced) isReplaced.fill(1, offset, offset + old.length)
  const groups = parts.groups.map((group) => {
    const change = moved(group.target) - moved(group.anchor)
    const { width } = KIND_ROWS[group.kind]
    for (const offset of group.offsets)
      if (isReplaced[offset] === 0) writeField(view, offset, width, readField(view, offset, width) - change)
    return { ...group, bounds: undefined, sum: movedSum(group, -change) }
  })
  const splits = parts.splits.map((split) => {
    const change = moved(split.target) - moved(split.anchor)
    const address =
      claim.now(split.targetAddress, split.target) - claim.now(split.anchorAddress ?? 0n, split.anchor)
    const bits = solvePieces(view, split.pieces, address, -change)
    if (bits !== undefined) writePieces(view, split.pieces, bits)
    return { ...split, value: movedValue(split.value, split.pieces, address, -change) }
  })
  const shifts = parts.shifts.map((shift, i) => BigInt.asIntN(64, shift - veneered.deltas[i]))
  const original = RelocationTable.create({ ...parts, groups, splits, shifts, veneered: undefined })
  const { deltas } = new CoverageShifts(claim, moves)
  return {
    code: bytes,
    claim: original,
    moves: original.coverage.map(({ start, end }, i) => ({
      from: start,
      to: BigInt.asUintN(64, claim.coverage[i].start + deltas[i]),
      length: end - start,
    })),
  }
}
