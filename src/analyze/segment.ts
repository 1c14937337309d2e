/**
 * Which bytes are instructions: the best reading of a range as runs of code and stretches of data.
 *
 * Each instruction has a score, the logarithm of how much likelier its form, and where its relative field
 * points, is in code than in data; a byte of data scores 0; a change of state costs. The best reading is
 * found by dynamic programming from the end backwards:
 *
 *   code[i] = score(i) + max(code[i + length], data[i + length] - leave(i))
 *   data[i] = max(data[i + 1], code[i] - enter(i))
 *
 * so every start is weighed, and what follows decides: x86 resynchronises within a few instructions, which
 * makes all starts that lead into the same code share its score. Scores are in sixteenths of a natural
 * logarithm.
 */
import { endsFlow, Flow, type InstructionDecoder } from '../x86/instruction.ts'
import type { StartBits } from '../x86/start-bits.ts'
import { Form, flowOf, formTarget, holdsAddress, isRelative } from './forms.ts'
import { Mark } from './marks.ts'
import type { Window } from './window.ts'

// See the scanner: constants of this module are constants of the machine code.
const { given: GIVEN, entry: ENTRY, target: TARGET, data: DATA, forbidden: FORBIDDEN } = Mark
const {
  lengthMask: LENGTH,
  scoreShift: SCORE_SHIFT,
  sizeShift: SIZE_SHIFT,
  sizeMask: SIZE_MASK,
  flowShift: FLOW_SHIFT,
  flowMask: FLOW_MASK,
  rip: RIP,
} = Form
const { displacement: DISPLACEMENT, immediate32: IMMEDIATE_32, immediate64: IMMEDIATE_64 } = Form

/** Scores relative targets outside the blob. */
export interface OutsideWeights {
  /** Of a distance from the base, in sixteenths; positive where others cluster. */
  weight(distance: number): number
}

/** Of targets of which nothing is known yet. */
export const UNKNOWN_OUTSIDE: OutsideWeights = { weight: () => -4 }

export interface SegmentContext {
  readonly code: Uint8Array
  readonly view: DataView
  readonly decoder: InstructionDecoder
  /** One byte of `Mark` bits for each offset. */
  readonly marks: Uint8Array
  /** Bytes of the moved range. */
  readonly span: number
  readonly outside: OutsideWeights
  readonly window: Window
  /** Where instructions started in the first reading; undefined in that. */
  readonly earlier: StartBits | undefined
  /**
   * How given code is read: the least that a form counts for, the least that an instruction counts for, what
   * leaving and entering cost.
   */
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

/** What a byte inside of an instruction can say of it. */
const INNER = FORBIDDEN | ENTRY | TARGET | DATA

/** What a form has to say beside its score: a relative field, constants that are addresses. */
const POINTS = (SIZE_MASK << SIZE_SHIFT) | DISPLACEMENT | IMMEDIATE_32 | IMMEDIATE_64

/** By the low bits of an address: what it costs to enter code there. */
const ENTER = new Uint8Array(16).fill(WEIGHTS.enter)
ENTER[0] = WEIGHTS.enterAligned

// By flow: whether the next instruction is not reached, and what it costs to go on as data.
const ENDS = Uint8Array.from({ length: FLOW_MASK + 1 }, (_, flow) => (endsFlow(flow) ? 1 : 0))
const LEAVE = Uint8Array.from({ length: FLOW_MASK + 1 }, (_, flow) => {
  if (endsFlow(flow) || flow === Flow.int3 || flow === Flow.halt) return WEIGHTS.leaveEnded
  return flow === Flow.call || flow === Flow.indirectCall ? WEIGHTS.leaveCall : WEIGHTS.leaveOpen
})

/**
 * Whether a branch to `target`, in the instruction at `offset`, does no more than to leave out its lock
 * prefix, as single-threaded code does.
 */
export const isBehindLock = (code: Uint8Array, offset: number, target: number): boolean =>
  target === offset + 1 && code[offset] === 0xf0

/** The same of an instruction that starts before `target`. */
export const leadsBehindLock = (code: Uint8Array, starts: StartBits, target: number): boolean =>
  target > 0 && code[target - 1] === 0xf0 && starts.has(target - 1)

/**
 * The score of an instruction of `form` at `offset`, without what follows it. `marked` is the first offset
 * behind it with one of the `INNER` marks.
 */
function scoreForm(context: SegmentContext, form: number, offset: number, marked: number): number {
  const { marks } = context
  const mark = marks[offset]
  const given = (mark & GIVEN) !== 0
  let score = form >> SCORE_SHIFT
  if (given && score < context.given.form) score = context.given.form
  if ((mark & ENTRY) !== 0) score += WEIGHTS.entry
  if ((mark & TARGET) !== 0) score += WEIGHTS.target
  if ((mark & DATA) !== 0) score += WEIGHTS.data
  const end = offset + (form & LENGTH)
  for (let i = marked; i < end; i++) {
    const inner = marks[i]
    if ((inner & FORBIDDEN) !== 0) return IMPOSSIBLE
    if ((inner & ENTRY) !== 0) score -= WEIGHTS.entry
    if ((inner & TARGET) !== 0 && !isBehindLock(context.code, offset, i)) score += WEIGHTS.through
    if ((inner & DATA) !== 0) score += WEIGHTS.data
  }
  if (isRelative(form)) score += scoreTarget(context, form, formTarget(context.view, form, offset))
  if ((form & (DISPLACEMENT | IMMEDIATE_32 | IMMEDIATE_64)) !== 0) {
    if ((form & DISPLACEMENT) !== 0) score += WEIGHTS.inRange32
    if ((form & IMMEDIATE_32) !== 0) score += WEIGHTS.inRange32
    if ((form & IMMEDIATE_64) !== 0) score += WEIGHTS.inRange64
  }
  return given && score < context.given.least ? context.given.least : score
}

/** What it says for an instruction that its relative field points at `distance` from the base. */
function scoreTarget(context: SegmentContext, form: number, distance: number): number {
  const inside = distance >= 0 && distance < context.span
  if ((form & RIP) !== 0) return inside ? WEIGHTS.ripInside : context.outside.weight(distance)
  const size = (form >> SIZE_SHIFT) & SIZE_MASK
  if (!inside) {
    if (size === 1) return WEIGHTS.rel8Outside
    return context.outside.weight(distance) + (flowOf(form) === Flow.conditional ? WEIGHTS.jccOutside : 0)
  }
  const far = size === 4 ? WEIGHTS.insideFar : 0
  if (context.earlier === undefined || distance >= context.marks.length) return far
  const isStart = context.earlier.has(distance) || leadsBehindLock(context.code, context.earlier, distance)
  return far + (isStart ? WEIGHTS.toStart : WEIGHTS.toMiddle)
}

/**
 * Whether all that was learnt since the reading of `before` speaks for it too, where that has read the
 * stretch from `start`, of `forms`, as code from end to end: then it is not weighed again. Forms that look
 * like data (a row of `push 0`) before a place that branches reach would be dropped there, since it costs
 * nothing to enter it.
 */
export function isConfirmed(
  context: SegmentContext,
  before: SegmentContext,
  forms: Int32Array,
  start: number,
  alignment: number,
): boolean {
  const { marks, code, view } = context
  for (let i = 0; i < forms.length; ) {
    const form = forms[i]
    const offset = start + i
    const next = i + (form & LENGTH)
    if ((marks[offset] & (FORBIDDEN | DATA)) !== 0) return false
    for (let inside = offset + 1; inside < start + next; inside++)
      if ((marks[inside] & INNER) !== 0 && !isBehindLock(code, offset, inside)) return false
    if (isRelative(form)) {
      const target = formTarget(view, form, offset)
      if (scoreTarget(context, form, target) < scoreTarget(before, form, target)) return false
    }
    // What nothing leads to may be constants behind a function.
    if (next < forms.length && stayCost(context, flowOf(form), start + next, alignment) > 0) return false
    i = next
  }
  return true
}

/** What it costs to go on as data behind an instruction; `forced`: what follows is no instruction. */
function leaveCost(context: SegmentContext, flow: number, mark: number, forced: boolean): number {
  if ((mark & GIVEN) === 0) return LEAVE[flow]
  return forced ? context.given.leaveForced : context.given.leave
}

/** What a byte of data costs. */
const skipCost = (context: SegmentContext, mark: number): number =>
  (mark & GIVEN) !== 0 ? context.given.skip : 0

/** What it costs to go on as code. */
const stayCost = (context: SegmentContext, flow: number, next: number, alignment: number): number =>
  ENDS[flow] === 0 ? 0 : unreachedCost(context, next, alignment)

/** The same behind a jump or return, where code is what something reaches, or begins at a round address, or pads. */
function unreachedCost(context: SegmentContext, next: number, alignment: number): number {
  if (((alignment + next) & 7) === 0) return 0
  if (
    (context.marks[next] & (TARGET | ENTRY)) !== 0 ||
    context.code[next] === 0x90 ||
    context.code[next] === 0xcc ||
    context.code[next] === 0x66 ||
    context.code[next] === 0x0f
  )
    return 0
  return WEIGHTS.unreached
}

function enterCost(context: SegmentContext, mark: number, address: number): number {
  if ((mark & (ENTRY | TARGET)) !== 0) return WEIGHTS.enterTarget
  return (mark & GIVEN) === 0 ? ENTER[address & 15] : context.given.enter
}

/** Whether 8 bytes of data at `offset`, which is aligned, are a pointer. */
const isPointer = (context: SegmentContext, offset: number, end: number): boolean =>
  offset + 8 <= end && holdsAddress(context.view, context.window, offset, 8)

/** What lies at the ends of a range: code that goes on, or nothing. */
export interface Edges {
  /** Code runs into `start`, and an instruction begins there. */
  readonly before: boolean
  /** Code begins at `end`. */
  readonly behind: boolean
}

/**
 * The best reading of a stretch from `start`, of `forms`, as code runs: pairs of offsets, ascending.
 * `alignment` is the low bits of the base.
 */
export function segment(
  context: SegmentContext,
  forms: Int32Array,
  start: number,
  alignment: number,
  edges: Edges,
): number[] {
  const { marks } = context
  const size = forms.length
  const end = start + size
  const code = new Int32Array(size + 1)
  const data = new Int32Array(size + 1)
  if (edges.behind) data[size] = -WEIGHTS.enterAligned
  let marked = end
  for (let i = size - 1; i >= 0; i--) {
    const offset = start + i
    const mark = marks[offset]
    const form = forms[i]
    const next = i + (form & LENGTH)
    // Of most offsets nothing is marked: then what it costs is looked up, not asked for.
    let asCode = IMPOSSIBLE
    if (form !== 0 && next <= size && (mark & FORBIDDEN) === 0) {
      const flow = (form >> FLOW_SHIFT) & FLOW_MASK
      let stay = next < size ? code[next] : 0
      if (ENDS[flow] !== 0) stay -= unreachedCost(context, start + next, alignment)
      const leave =
        data[next] - (mark === 0 ? LEAVE[flow] : leaveCost(context, flow, mark, code[next] <= IMPOSSIBLE))
      const isPlain = mark === 0 && (form & POINTS) === 0 && marked >= start + next
      asCode =
        (isPlain ? form >> SCORE_SHIFT : scoreForm(context, form, offset, marked)) +
        (stay > leave ? stay : leave)
      if (asCode < IMPOSSIBLE) asCode = IMPOSSIBLE
    }
    code[i] = asCode
    const enter =
      asCode - (mark === 0 ? ENTER[(alignment + offset) & 15] : enterCost(context, mark, alignment + offset))
    const skip = data[i + 1] - (mark === 0 ? 0 : skipCost(context, mark))
    let asData = enter > skip ? enter : skip
    if (((alignment + offset) & 7) === 0 && isPointer(context, offset, end)) {
      const pointer = data[i + 8] + WEIGHTS.pointer
      if (pointer > asData) asData = pointer
    }
    data[i] = asData
    if ((mark & INNER) !== 0) marked = offset
  }
  return trace(context, forms, start, code, data, alignment, edges)
}

/** Walks the best reading forwards. */
function trace(
  context: SegmentContext,
  forms: Int32Array,
  start: number,
  code: Int32Array,
  data: Int32Array,
  alignment: number,
  edges: Edges,
): number[] {
  const { marks } = context
  const size = forms.length
  const runs: number[] = []
  let i = 0
  let inCode =
    code[0] > IMPOSSIBLE && code[0] >= data[0] - (edges.before ? WEIGHTS.leaveOpen : WEIGHTS.beginAsData)
  let from = 0
  while (i < size) {
    const mark = marks[start + i]
    if (!inCode) {
      if (
        data[i] > data[i + 1] &&
        ((alignment + start + i) & 7) === 0 &&
        isPointer(context, start + i, start + size) &&
        data[i] === data[i + 8] + WEIGHTS.pointer
      )
        i += 8
      else if (
        code[i] > IMPOSSIBLE &&
        code[i] - enterCost(context, mark, alignment + start + i) >= data[i + 1] - skipCost(context, mark)
      ) {
        inCode = true
        from = i
      } else i++
      continue
    }
    const flow = flowOf(forms[i])
    const next = i + (forms[i] & LENGTH)
    const stay = (next < size ? code[next] : 0) - stayCost(context, flow, start + next, alignment)
    const leave = data[next] - leaveCost(context, flow, mark, code[next] <= IMPOSSIBLE)
    i = next
    if (leave > stay || next >= size) {
      runs.push(start + from, start + next)
      inCode = false
    }
  }
  return runs
}
