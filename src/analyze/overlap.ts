/**
 * Flow into the middle of instructions. A reading gives each byte to one instruction; branches of
 * hand-written and obfuscated code land inside others (`jmp $+1`, a skipped lock prefix, an immediate that is
 * code itself). A branch of known code that leads where no instruction starts is followed until it comes upon
 * known code or the flow ends; what is decoded on the way is real code too.
 *
 * Behind a conditional branch an instruction that spans a place where branches land is not followed: the
 * branch is always taken.
 */
import { endsFlow, Flow, Instruction, type InstructionDecoder } from '../x86/instruction.ts'
import type { StartBits } from '../x86/start-bits.ts'
import { branchTarget } from '../x86/target.ts'
import { Form, type Forms } from './forms.ts'
import { Mark, markedInside } from './marks.ts'

/** Instructions that a way through the middle of others can have. */
const LONGEST = 32

export interface OverlapInput {
  readonly view: DataView
  readonly decoder: InstructionDecoder
  readonly forms: Forms
  /** Where instructions start. */
  readonly bits: StartBits
  readonly marks: Uint8Array
}

/**
 * Where the instructions start that the branches at `sources` reach outside the reading; ascending. Marks
 * what their branches reach.
 */
export function followOverlaps(input: OverlapInput, sources: Uint32Array): number[] {
  const { forms, bits, marks } = input
  const found = new Set<number>()
  const queue: number[] = []
  const targetOf = (start: number): number => {
    const form = forms.at(start)
    const target = (form & Form.rip) === 0 ? forms.target(start, form) : undefined
    return target !== undefined && target >= 0 && target < marks.length ? target : -1
  }
  const enqueue = (target: number): void => {
    if (target >= 0 && !bits.has(target)) queue.push(target)
  }
  for (let i = 0; i < sources.length; i++) enqueue(targetOf(sources[i]))
  for (let target = queue.pop(); target !== undefined; target = queue.pop()) {
    if (found.has(target)) continue
    const way = follow(input, target, found)
    for (const start of way) found.add(start)
    for (const start of way) {
      const next = targetOf(start)
      if (next >= 0) marks[next] |= Mark.target
      enqueue(next)
    }
  }
  return [...found].sort((a, b) => a - b)
}

/** The instructions from `start` until known code or the end of the flow; none where the way leads nowhere. */
function follow({ view, decoder, bits, marks }: OverlapInput, start: number, found: Set<number>): number[] {
  const way: number[] = []
  const reached = new Set<number>()
  const instruction = new Instruction()
  let behindBranch = false
  for (let at = start; way.length < LONGEST; at += instruction.length) {
    if (at >= marks.length) return []
    if (bits.has(at) || found.has(at)) return way
    const length = decoder.decode(at, instruction)
    if (length === 0 || at + length > marks.length || (marks[at] & Mark.forbidden) !== 0) return []
    if (behindBranch && (markedInside(marks, at, length) >= 0 || spansAny(reached, at, length))) return way
    way.push(at)
    const target = branchTarget(view, instruction)
    if (target > at) reached.add(target)
    if (endsFlow(instruction.flow)) return way
    behindBranch = instruction.flow === Flow.conditional
  }
  return []
}

function spansAny(targets: Set<number>, at: number, length: number): boolean {
  for (let i = at + 1; i < at + length; i++) if (targets.has(i)) return true
  return false
}

/**
 * The starts that lie in none of `runs`, as runs of their own where their bytes are free, and the others,
 * which share bytes with a run.
 */
export function placeOverlaps(
  starts: readonly number[],
  runs: readonly number[],
  decoder: InstructionDecoder,
): { readonly runs: number[]; readonly shared: number[] } {
  const instruction = new Instruction()
  const shared: number[] = []
  const free: number[] = []
  let run = 0
  let last = 0
  for (const at of starts) {
    while (run < runs.length && runs[run + 1] <= at) run += 2
    const end = at + decoder.decode(at, instruction)
    if (at < last || (run < runs.length && runs[run] < end)) shared.push(at)
    else {
      free.push(at, end)
      last = end
    }
  }
  return { runs: mergeRuns(runs, free), shared }
}

/** Two lists of disjoint runs as one; runs that touch are joined. */
function mergeRuns(a: readonly number[], b: readonly number[]): number[] {
  if (b.length === 0) return [...a]
  const merged: number[] = []
  for (let i = 0, k = 0; i < a.length || k < b.length; ) {
    const fromA = k >= b.length || (i < a.length && a[i] < b[k])
    const [start, end] = fromA ? [a[i], a[i + 1]] : [b[k], b[k + 1]]
    if (fromA) i += 2
    else k += 2
    if (merged.length > 0 && merged[merged.length - 1] === start) merged[merged.length - 1] = end
    else merged.push(start, end)
  }
  return merged
}
