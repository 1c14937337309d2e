/** Which instruction holds a byte: code runs decode linearly from their starts, so finding one is a walk. */
import type { Problem } from '../core/errors.ts'
import { lowerBound } from '../core/search.ts'
import type { CodeRun } from '../table/table.ts'
import { formatInstruction, IcedCursor } from './iced.ts'

/**
 * The instruction that holds each of `offsets` (bytes from the start of `code`), as `[start, end)`; offsets
 * outside `runs` are not in the result. Where runs overlap, the instruction of the first one counts.
 * @param fits whether the instruction under the cursor counts for an offset; by default any that holds it
 */
export function findInstructions(
  code: Uint8Array,
  runs: readonly CodeRun[],
  offsets: Iterable<number>,
  fits: (cursor: IcedCursor, offset: number) => boolean = () => true,
): Map<number, CodeRun> {
  const wanted = Uint32Array.from(new Set(offsets)).sort()
  const found = new Map<number, CodeRun>()
  if (wanted.length === 0 || runs.length === 0) return found
  const cursor = new IcedCursor(code)
  try {
    for (const run of runs) {
      let n = lowerBound(wanted, run.start)
      for (let at = run.start; n < wanted.length && wanted[n] < run.end; ) {
        const length = cursor.decode(at)
        if (length === 0) break
        for (; n < wanted.length && wanted[n] < at + length; n++)
          if (!found.has(wanted[n]) && fits(cursor, wanted[n]))
            found.set(wanted[n], { start: at, end: at + length })
        at += length
      }
    }
  } finally {
    cursor.dispose()
  }
  return found
}

/** Whether a displacement or an immediate of the instruction under the cursor begins at `offset`. */
export const isOperand = (cursor: IcedCursor, offset: number): boolean => {
  const at = offset - cursor.offset
  return (
    (at === cursor.displacementOffset && cursor.displacementSize > 0) ||
    (at === cursor.immediateOffset && cursor.immediateSize > 0)
  )
}

/**
 * `problems` with the text of the instruction that each is about, where `runs` hold one. `base` is the
 * address of byte 0.
 */
export function withText(
  problems: readonly Problem[],
  code: Uint8Array,
  base: bigint,
  runs: readonly CodeRun[],
): Problem[] {
  const bare = problems.filter((problem) => problem.text === undefined && problem.bytes !== '')
  const places = findInstructions(
    code,
    runs,
    bare.map((problem) => problem.offset),
  )
  return problems.map((problem) => {
    const place = places.get(problem.offset)
    if (place === undefined || !bare.includes(problem)) return problem
    const text = formatInstruction(code, place.start, BigInt.asUintN(64, base + BigInt(place.start)))
    return { ...problem, text }
  })
}
