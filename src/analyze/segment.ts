/**
 * Which bytes are instructions: the best reading of a range as runs of code and stretches of data.
 *
 * Each instruction has a score, the logarithm of how much likelier its form, and where its relative field points, is in code than
 * in data; a byte of data scores 0; a change of state costs. The best reading is found by dynamic programming from the end backwards:
 *
 *   code[i] = score(i) + max(code[i + length], data[i + length] - leave(i))
 *   data[i] = max(data[i + 1], code[i] - enter(i))
 *
 * so every start is weighed, and what follows decides: x86 resynchronises within a few instructions, which makes all starts that
 * lead into the same code share its score. Scores are in sixteenths of a natural logarithm.
 */
import { readSigned } from '../core/bytes.ts'
import { endsFlow, Flow, Instruction, type InstructionDecoder, Memory } from '../x86/instruction.ts'
import { Mark } from './marks.ts'
import { opcodeSlot } from './opcode-key.ts'
import { opcodeScores } from './opcode-stats.ts'
import type { StartBits } from './start-bits.ts'
import type { Window } from './window.ts'

export interface SegmentContext {
  readonly code: Uint8Array
  readonly view: DataView
  readonly decoder: InstructionDecoder
  /** One byte of `Mark` bits for each offset. */
  readonly marks: Uint8Array
  /** Bytes of the moved range. */
  readonly span: number
  /** Scores a relative target outside the blob (distance from the base); positive where others cluster. */
  readonly outside: (distance: number) => number
  readonly window: Window
  /** Where instructions started in the first reading; undefined in that. */
  readonly earlier: StartBits | undefined
  /** How given code is read: the least that a form counts for, the least that an instruction counts for, what leaving and entering cost. */
  readonly given: {
    readonly form: number
    readonly least: number
    readonly leave: number
    /** For each byte read as data. */
    readonly skip: number
    readonly leaveForced: number
    readonly enter: number
  }
}

const IMPOSSIBLE = -(1 << 28)

export const WEIGHTS = {
  leaveEnded: 24,
  leaveOpen: 120,
  leaveCall: 60,
  enter: 128,
  enterAligned: 64,
  enterTarget: 0,
  entry: 4000,
  target: 40,
  through: -80,
  data: -60,
  insideFar: 40,
  jccOutside: -64,
  ripInside: 30,
  rel8Outside: -16,
  inRange32: 40,
  inRange64: 64,
  pointer: 48,
  unreached: 12,
  toStart: 16,
  toMiddle: -24,
  beginAsData: 120,
}

/** The score of the instruction that was decoded into `instruction`, without what follows it. */
function scoreInstruction(context: SegmentContext, scores: Int8Array, instruction: Instruction): number {
  const score = weighInstruction(context, scores, instruction)
  const given = (context.marks[instruction.offset] & Mark.given) !== 0
  return given && score > IMPOSSIBLE && score < context.given.least ? context.given.least : score
}

function weighInstruction(context: SegmentContext, scores: Int8Array, instruction: Instruction): number {
  const { marks, span, view } = context
  const { offset, length } = instruction
  let score: number = scores[opcodeSlot(instruction)]
  const mark = marks[offset]
  if ((mark & Mark.given) !== 0 && score < context.given.form) score = context.given.form
  if ((mark & Mark.entry) !== 0) score += WEIGHTS.entry
  if ((mark & Mark.target) !== 0) score += WEIGHTS.target
  if ((mark & Mark.data) !== 0) score += WEIGHTS.data
  for (let i = offset + 1; i < offset + length; i++) {
    const inner = marks[i]
    if (inner === 0) continue
    if ((inner & Mark.forbidden) !== 0) return IMPOSSIBLE
    if ((inner & Mark.entry) !== 0) score -= WEIGHTS.entry
    if ((inner & Mark.target) !== 0) score += WEIGHTS.through
    if ((inner & Mark.data) !== 0) score += WEIGHTS.data
  }
  if (instruction.branchSize !== 0) {
    const at = offset + instruction.branchOffset
    const distance = offset + length + readSigned(view, at, instruction.branchSize)
    if (distance >= 0 && distance < span) {
      if (context.earlier !== undefined && distance < marks.length)
        score += context.earlier.has(distance) ? WEIGHTS.toStart : WEIGHTS.toMiddle
      if (instruction.branchSize === 4) score += WEIGHTS.insideFar
    } else if (instruction.branchSize === 1) score += WEIGHTS.rel8Outside
    else {
      score += context.outside(distance)
      if (instruction.flow === Flow.conditional) score += WEIGHTS.jccOutside
    }
  } else if (instruction.memory === Memory.rip) {
    const distance = offset + length + view.getInt32(offset + instruction.displacementOffset, true)
    score += distance >= 0 && distance < span ? WEIGHTS.ripInside : context.outside(distance)
  } else if (
    instruction.displacementSize >= 4 &&
    inRange(context, offset + instruction.displacementOffset, instruction.displacementSize)
  )
    score += WEIGHTS.inRange32
  if (
    instruction.immediateSize >= 4 &&
    inRange(context, offset + instruction.immediateOffset, instruction.immediateSize)
  )
    score += instruction.immediateSize === 8 ? WEIGHTS.inRange64 : WEIGHTS.inRange32
  return score
}

/** Whether the constant at `at` is an address of a covered range, read as the CPU would. */
function inRange(context: SegmentContext, at: number, size: number): boolean {
  const low = context.view.getInt32(at, true)
  return size === 8
    ? context.window.has(low >>> 0, context.view.getUint32(at + 4, true))
    : context.window.has(low >>> 0, low < 0 ? 0xffff_ffff : 0)
}

/** What it costs to go on as data behind this instruction; `forced`: what follows is no instruction. */
function leaveCost(context: SegmentContext, instruction: Instruction, mark: number, forced: boolean): number {
  if ((mark & Mark.given) !== 0) return forced ? context.given.leaveForced : context.given.leave
  const { flow } = instruction
  if (endsFlow(flow) || flow === Flow.int3 || flow === Flow.halt) return WEIGHTS.leaveEnded
  return flow === Flow.call || flow === Flow.indirectCall ? WEIGHTS.leaveCall : WEIGHTS.leaveOpen
}

/** What a byte of data costs. */
const skipCost = (context: SegmentContext, mark: number): number =>
  (mark & Mark.given) !== 0 ? context.given.skip : 0

/** What it costs to go on as code: behind a jump or return, code is what something reaches, or begins at a round address, or pads. */
function stayCost(
  context: SegmentContext,
  instruction: Instruction,
  next: number,
  alignment: number,
): number {
  if (!endsFlow(instruction.flow) || ((alignment + next) & 7) === 0) return 0
  if (
    (context.marks[next] & (Mark.target | Mark.entry)) !== 0 ||
    context.code[next] === 0x90 ||
    context.code[next] === 0xcc ||
    context.code[next] === 0x66 ||
    context.code[next] === 0x0f
  )
    return 0
  return WEIGHTS.unreached
}

function enterCost(context: SegmentContext, mark: number, address: number): number {
  if ((mark & (Mark.entry | Mark.target)) !== 0) return WEIGHTS.enterTarget
  if ((mark & Mark.given) !== 0) return context.given.enter
  return (address & 15) === 0 ? WEIGHTS.enterAligned : WEIGHTS.enter
}

/** What lies at the ends of a range: code that goes on, or nothing. */
export interface Edges {
  /** Code runs into `start`, and an instruction begins there. */
  readonly before: boolean
  /** Code begins at `end`. */
  readonly behind: boolean
}

/** The best reading of [start, end) as code runs: pairs of offsets, ascending. `alignment` is the low bits of the base. */
export function segment(
  context: SegmentContext,
  start: number,
  end: number,
  alignment: number,
  edges: Edges,
): number[] {
  const scores = opcodeScores()
  const { decoder, marks } = context
  const size = end - start
  const code = new Int32Array(size + 1)
  const data = new Int32Array(size + 1)
  if (edges.behind) data[size] = -WEIGHTS.enterAligned
  const instruction = new Instruction()
  for (let i = size - 1; i >= 0; i--) {
    const offset = start + i
    const length = (marks[offset] & Mark.forbidden) !== 0 ? 0 : decoder.decode(offset, instruction)
    if (length === 0 || i + length > size) code[i] = IMPOSSIBLE
    else {
      const leave =
        data[i + length] - leaveCost(context, instruction, marks[offset], code[i + length] <= IMPOSSIBLE)
      const stay =
        (i + length < size ? code[i + length] : 0) -
        stayCost(context, instruction, offset + length, alignment)
      code[i] = Math.max(IMPOSSIBLE, scoreInstruction(context, scores, instruction) + Math.max(stay, leave))
    }
    const enter = code[i] - enterCost(context, marks[offset], alignment + offset)
    data[i] = Math.max(data[i + 1] - skipCost(context, marks[offset]), enter)
    if (((alignment + offset) & 7) === 0 && i + 8 <= size && inRange(context, offset, 8))
      data[i] = Math.max(data[i], data[i + 8] + WEIGHTS.pointer)
  }
  return trace(context, start, size, code, data, alignment, edges)
}

/** Walks the best reading forwards. */
function trace(
  context: SegmentContext,
  start: number,
  size: number,
  code: Int32Array,
  data: Int32Array,
  alignment: number,
  edges: Edges,
): number[] {
  const { decoder, marks } = context
  const runs: number[] = []
  const instruction = new Instruction()
  let i = 0
  let inCode =
    code[0] > IMPOSSIBLE && code[0] >= data[0] - (edges.before ? WEIGHTS.leaveOpen : WEIGHTS.beginAsData)
  let from = 0
  while (i < size) {
    if (!inCode) {
      if (
        data[i] > data[i + 1] &&
        ((alignment + start + i) & 7) === 0 &&
        i + 8 <= size &&
        data[i] === data[i + 8] + WEIGHTS.pointer &&
        inRange(context, start + i, 8)
      )
        i += 8
      else if (
        code[i] - enterCost(context, marks[start + i], alignment + start + i) >=
          data[i + 1] - skipCost(context, marks[start + i]) &&
        code[i] > IMPOSSIBLE
      ) {
        inCode = true
        from = i
      } else i++
      continue
    }
    const length = decoder.decode(start + i, instruction)
    const next = i + length
    const stay = (next < size ? code[next] : 0) - stayCost(context, instruction, start + next, alignment)
    const leave = data[next] - leaveCost(context, instruction, marks[start + i], code[next] <= IMPOSSIBLE)
    i = next
    if (leave > stay || next >= size) {
      runs.push(start + from, start + next)
      inCode = false
    }
  }
  return runs
}
