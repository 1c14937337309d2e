/**
 * Given code that runs into bytes that are no instruction of a known processor: an encoding that is newer
 * than the tables, or wrong in a bit that the reader of it does not look at. Its layout may be known all the
 * same; then the code goes on where it ends. It is no part of the runs, since nobody can prove what it does;
 * its operand is told, not written.
 */
import { endsFlow, Flow, Instruction, type InstructionDecoder, MAX_LENGTH } from '../x86/instruction.ts'
import { Mark } from './marks.ts'
import { meet } from './strange.ts'

/** Bytes in [start, end) that are no instruction, though the code before them goes on to them. */
export interface Rejected {
  readonly start: number
  readonly end: number
}

export interface RejectedInput {
  readonly code: Uint8Array
  readonly decoder: InstructionDecoder
  /** What encodings would be if their every bit were right. */
  readonly layouts: InstructionDecoder
  readonly marks: Uint8Array
  /** What the runs are of: pairs of offsets, ascending. */
  readonly zones: readonly number[]
}

/** `runs` without what only seems to begin inside of such an encoding, and the encodings. */
export function passRejected(
  input: RejectedInput,
  runs: readonly number[],
): { readonly runs: readonly number[]; readonly rejected: readonly Rejected[] } {
  const { code, decoder, layouts, marks, zones } = input
  const kept: number[] = []
  const rejected: Rejected[] = []
  const instruction = new Instruction()
  for (let i = 0, zone = 0; i < runs.length; i += 2) {
    const end = runs[i + 1]
    const start = Math.max(runs[i], rejected[rejected.length - 1]?.end ?? 0)
    if (start >= end) continue
    kept.push(start, end)
    while (zones[zone + 1] < end) zone += 2
    const limit = zones[zone + 1]
    if (end >= limit || (marks[end] & (Mark.given | Mark.forbidden)) !== Mark.given) continue
    if (!goesOn(decoder, start, end)) continue
    const length = layouts.decode(end, instruction)
    const next = runs[i + 2] ?? code.length
    if (length === 0 && next < limit && next - end <= MAX_LENGTH) rejected.push({ start: end, end: next })
    if (length > 0 && end + length <= limit && resumes(decoder, end + length, runs, i + 2))
      rejected.push({ start: end, end: end + length })
  }
  return { runs: rejected.length === 0 ? runs : kept, rejected }
}

/**
 * Whether the code, if it goes on at `at`, comes upon that of `runs` from index `i` on. What begins before
 * `at` would be a part of what ends there.
 */
function resumes(decoder: InstructionDecoder, at: number, runs: readonly number[], i: number): boolean {
  while (i < runs.length && runs[i + 1] <= at) i += 2
  return i >= runs.length || runs[i] >= at || meet(decoder, at, runs[i], runs[i + 1])
}

/** Whether the last instruction of the run [start, end) goes on to what follows. */
function goesOn(decoder: InstructionDecoder, start: number, end: number): boolean {
  const instruction = new Instruction()
  for (let at = start; at < end; at += decoder.decode(at, instruction));
  const { flow } = instruction
  return !endsFlow(flow) && (flow === Flow.next || flow === Flow.conditional)
}
