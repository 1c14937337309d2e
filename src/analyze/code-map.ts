/** Which bytes are instructions, and which may hold pointers. */
import { PROGRESS_STEP, type ProgressOptions, reportProgress } from '../core/progress.ts'
import { CODE_GIVEN, CODE_GUESS } from '../table/site.ts'
import { Instruction, type InstructionDecoder } from '../x86/instruction.ts'
import type { CheckedHints } from './hints.ts'

export interface CodeMap {
  /** Pairs of offsets, ascending: each run decodes linearly from its start to exactly its end. */
  readonly runs: Uint32Array
  /** Code evidence of each run. */
  readonly levels: Uint8Array
  /** Pairs of offsets of what is data. */
  readonly data: Uint32Array
}

/** Maps a blob by decoding linearly what may be code; a byte that starts no instruction ends a run. */
export function mapCode(
  length: number,
  hints: CheckedHints,
  decoder: InstructionDecoder,
  options: ProgressOptions,
): CodeMap {
  const runs: number[] = []
  const levels: number[] = []
  const instruction = new Instruction()
  const code = hints.ranged
    ? hints.ranges.filter((range) => range.kind === 'code')
    : [{ start: 0, end: length }]
  let report = PROGRESS_STEP
  for (const { start, end } of code) {
    let from = start
    for (let at = start; at < end; ) {
      const size = decoder.decode(at, instruction)
      if (size === 0 || at + size > end) {
        if (at > from) {
          runs.push(from, at)
          levels.push(hints.ranged ? CODE_GIVEN : CODE_GUESS)
        }
        from = ++at
      } else at += size
      if (at >= report) {
        reportProgress(options, at, length, 'code map')
        report = at + PROGRESS_STEP
      }
    }
    if (end > from) {
      runs.push(from, end)
      levels.push(hints.ranged ? CODE_GIVEN : CODE_GUESS)
    }
  }
  const data = hints.ranges
    .filter((range) => range.kind === 'data')
    .flatMap((range) => [range.start, range.end])
  return { runs: Uint32Array.from(runs), levels: Uint8Array.from(levels), data: Uint32Array.from(data) }
}
