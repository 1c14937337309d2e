/** From a set of moves to how far each covered range goes; what the table does not cover is refused here. */
import { hex, wrapAddress } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { type CheckedMove, checkMoves, formatRange, type Move, sortDisjoint } from '../core/range.ts'
import type { RelocationTable } from '../table/table.ts'

/**
 * Signed delta of each covered range of `table`, in its order. Throws `bad-argument` for moves that overlap
 * one another or put one covered range over another (addresses in both would be told apart no more), and
 * `not-covered` where a move reaches outside the coverage or splits a covered range: pointers to the rest
 * would go stale.
 */
export function coveredDeltas(table: RelocationTable, moves: readonly Move[]): bigint[] {
  const checked = checkMoves(moves)
  const covered = new Map<CheckedMove, bigint>(checked.map((move) => [move, 0n]))
  const deltas = table.coverage.map((range) => {
    const move = checked.find((candidate) => range.start < candidate.end && candidate.start < range.end)
    if (move === undefined) return 0n
    if (range.start < move.start || range.end > move.end)
      throw new RelocError(
        'not-covered',
        `The move of ${formatRange(move)} splits ${formatRange(range)}, which this table takes for one piece. Move all of it, or analyse again with the pieces as separate ranges.`,
      )
    covered.set(move, covered.get(move)! + (range.end - range.start))
    return move.delta
  })
  for (const [move, bytes] of covered) {
    if (bytes !== move.end - move.start)
      throw new RelocError(
        'not-covered',
        `The move of ${formatRange(move)} (by ${hex(move.delta)}) is not covered by this table, which serves ${table.coverage.map(formatRange).join(', ')}: ` +
          'pointers to the rest were never looked for. Analyse again with that range in `moved` (command: --also).',
      )
  }
  sortDisjoint(
    table.coverage.map(({ start, end }, i) => {
      const moved = wrapAddress(start + deltas[i])
      return { start: moved, end: moved + (end - start) }
    }),
    'the places of what the table covers, after the moves',
  )
  return deltas
}
