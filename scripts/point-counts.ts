/** Counts where the true addresses of a corpus point: what `points.ts` starts from. */
import { withAnalysis } from '../src/analyze/analyze.ts'
import type { PointStatistics } from '../src/analyze/points.ts'
import type { Case, Pair } from './corpus.ts'

/** Distinct targets at each place, of operands and of words, of one origin. */
export interface PointCounts {
  readonly operand: Float64Array
  readonly word: Float64Array
}

export const emptyPoints = (): PointCounts => ({ operand: new Float64Array(8), word: new Float64Array(8) })

/** Adds where the linker's absolute fields of one case point. */
export function countPoints(one: Case, counts: PointCounts): void {
  for (const pair of one.pairs) {
    const hints = {
      ranges: pair.ranges.map(({ start, end, kind }) => ({ start, end, kind })),
      entries: pair.entries.filter((entry) => entry < pair.before.length),
    }
    withAnalysis(pair.before, { base: pair.from, span: pair.span, hints }, ({ places }) => {
      const seen = { operand: new Set<number>(), word: new Set<number>() }
      for (const { offset, distance } of absoluteFields(pair)) {
        const isCode = pair.ranges.some(
          ({ start, end, kind }) => kind === 'code' && offset >= start && offset < end,
        )
        const role = isCode ? 'operand' : 'word'
        if (seen[role].has(distance)) continue
        seen[role].add(distance)
        counts[role][places.at(distance)]++
      }
    })
  }
}

/** The absolute fields of 4 and 8 bytes that point into the moved range. */
function* absoluteFields(pair: Pair): Generator<{ offset: number; distance: number }> {
  const view = new DataView(pair.before.buffer, pair.before.byteOffset, pair.before.length)
  for (const { offset, width, changes, adj } of pair.relocs) {
    if (!changes || adj !== 1 || width < 4) continue
    const value =
      width === 8 ? view.getBigUint64(offset, true) : BigInt.asUintN(64, BigInt(view.getInt32(offset, true)))
    const distance = Number(value - pair.from)
    if (distance >= 0 && distance <= pair.span) yield { offset, distance }
  }
}

/** Shares of each place; an origin weighs with the square root of its size. */
export function pointStatistics(origins: Iterable<PointCounts>): PointStatistics {
  const sums = emptyPoints()
  for (const counts of origins)
    for (const role of ['operand', 'word'] as const) {
      const total = counts[role].reduce((a, b) => a + b, 0)
      for (const [place, count] of counts[role].entries())
        if (total > 0) sums[role][place] += count / Math.sqrt(total)
    }
  const shares = (counts: Float64Array, least: number): number[] => {
    const total = counts.reduce((a, b) => a + b, 0)
    return Array.from(counts, (count) => Math.max(count / total, least))
  }
  return { operand: shares(sums.operand, 1e-3), word: shares(sums.word, 3e-5) }
}
