/**
 * Where the caller's return address is, seen from a return point: computed by following rsp and rbp through
 * an object's code.
 *
 * At an entry rsp points at the return address; `depth` counts the bytes that rsp is below it since. rbp is
 * the caller's, or points `base` bytes below the return address, or is anything. A call leaves rsp and rbp as
 * they were (System V). Where two ways meet with different numbers, and where an instruction writes rsp in
 * any other way than those below, the number is unknown: such a frame cannot be walked, and what cannot be
 * walked pins.
 */
import { viewOf } from '../core/bytes.ts'
import { fillEffects, RegisterEffects } from '../x86/effects.ts'
import {
  Encoding,
  endsFlow,
  Flow,
  Instruction,
  isRelativeBranch,
  Memory,
  Prefix,
} from '../x86/instruction.ts'
import { createTableDecoder } from '../x86/scanner.ts'

/** Not known, or not there. */
const UNKNOWN = -1
/** `base`: rbp holds what it held at entry. */
const CALLERS = -2

/** What is known at a point of the code. Distances in bytes below the slot of the return address. */
export interface FrameState {
  /** Of rsp; UNKNOWN where it may be anything. */
  readonly depth: number
  /** Of what rbp points at; CALLERS, or UNKNOWN. */
  readonly base: number
  /** Of the slot that holds the caller's rbp; UNKNOWN where it is not saved. */
  readonly saved: number
}

const ENTRY: FrameState = { depth: 0, base: CALLERS, saved: UNKNOWN }
const RSP = 4
const RBP = 5

/**
 * A frame that keeps the convention of frame pointers: rbp points at the caller's rbp, the return address is above it.
 */
export const RBP_FRAME: FrameState = { depth: UNKNOWN, base: 8, saved: 8 }

const merge = (a: number, b: number): number => (a === b ? a : UNKNOWN)

/** The states at all return points of `code` that are reached from `entries`, by offset. */
export function returnPoints(code: Uint8Array, entries: readonly number[]): Map<number, FrameState> {
  const decoder = createTableDecoder(code)
  const instruction = new Instruction()
  const view = viewOf(code)
  const states = new Map<number, FrameState>()
  const returns = new Set<number>()
  const work: number[] = []
  const reach = (offset: number, state: FrameState): void => {
    if (offset < 0 || offset >= code.length) return
    const known = states.get(offset)
    const merged =
      known === undefined
        ? state
        : {
            depth: merge(known.depth, state.depth),
            base: merge(known.base, state.base),
            saved: merge(known.saved, state.saved),
          }
    if (
      known !== undefined &&
      merged.depth === known.depth &&
      merged.base === known.base &&
      merged.saved === known.saved
    )
      return
    states.set(offset, merged)
    work.push(offset)
  }
  for (const entry of entries) reach(entry, ENTRY)
  for (let at = work.pop(); at !== undefined; at = work.pop()) {
    const state = states.get(at)!
    if (decoder.decode(at, instruction) === 0) continue
    const { flow, length } = instruction
    const next = at + length
    if (isRelativeBranch(flow)) {
      const target = next + branchDistance(view, at, instruction)
      reach(target, flow === Flow.call ? ENTRY : state)
    }
    if (flow === Flow.call || flow === Flow.indirectCall) {
      returns.add(next)
      // The last instruction: nothing is reached from here, and the frame is still there to be walked.
      if (next >= code.length) states.set(next, state)
      reach(next, state)
    } else if (!endsFlow(flow)) reach(next, step(view, instruction, state))
  }
  return new Map([...returns].map((offset) => [offset, states.get(offset)!]))
}

function branchDistance(view: DataView, at: number, { branchOffset, branchSize }: Instruction): number {
  const field = at + branchOffset
  return branchSize === 1
    ? view.getInt8(field)
    : branchSize === 2
      ? view.getInt16(field, true)
      : view.getInt32(field, true)
}

const effects = new RegisterEffects()

/** The state behind an instruction that is no branch. */
function step(view: DataView, instruction: Instruction, state: FrameState): FrameState {
  const known = stackOperation(view, instruction, state)
  if (known !== undefined) return known
  fillEffects(instruction, effects)
  return {
    depth: (effects.writes & (1 << RSP)) === 0 ? state.depth : UNKNOWN,
    base: (effects.writes & (1 << RBP)) === 0 ? state.base : UNKNOWN,
    saved: state.saved,
  }
}

/** Of the few instructions that compilers handle rsp and rbp with; undefined for any other. */
function stackOperation(view: DataView, instruction: Instruction, state: FrameState): FrameState | undefined {
  const { encoding, map, opcode, prefixes, modrm } = instruction
  if (encoding !== Encoding.legacy || map !== 0 || (prefixes & Prefix.p66) !== 0) return undefined
  const rm = (modrm & 7) | ((prefixes & Prefix.rexB) === 0 ? 0 : 8)
  const reg = ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) === 0 ? 0 : 8)
  const wide = (prefixes & Prefix.w) !== 0
  if (opcode >= 0x50 && opcode <= 0x57) return pushed(state, register(opcode, prefixes))
  if (opcode >= 0x58 && opcode <= 0x5f) return popped(state, register(opcode, prefixes))
  if (opcode === 0x68 || opcode === 0x6a || opcode === 0x9c) return pushed(state, UNKNOWN)
  if (opcode === 0xff && (modrm & 0x38) === 0x30) return pushed(state, UNKNOWN)
  if (opcode === 0x9d || (opcode === 0x8f && modrm < 0xc0)) return popped(state, UNKNOWN)
  if (opcode === 0xc9) return state.base < 0 ? lost(state) : popped({ ...state, depth: state.base }, RBP)
  if (!wide) return undefined
  if ((opcode === 0x81 || opcode === 0x83) && (modrm === 0xec || modrm === 0xc4) && rm === RSP) {
    const by = immediate(view, instruction)
    return lowered(state, modrm === 0xec ? by : -by)
  }
  if ((opcode === 0x89 || opcode === 0x8b) && modrm >= 0xc0) {
    const [to, from] = opcode === 0x89 ? [rm, reg] : [reg, rm]
    return transferred(state, to, from, 0)
  }
  if (opcode === 0x8d && instruction.memory === Memory.base) {
    const base = leaBase(instruction)
    return base < 0 ? undefined : transferred(state, reg, base, displacement(view, instruction))
  }
  return undefined
}

const register = (opcode: number, prefixes: number): number =>
  (opcode & 7) | ((prefixes & Prefix.rexB) === 0 ? 0 : 8)

const lost = (state: FrameState): FrameState => ({ ...state, depth: UNKNOWN, base: UNKNOWN })

const lowered = (state: FrameState, by: number): FrameState =>
  state.depth < 0 || state.depth + by < 0
    ? { ...state, depth: UNKNOWN }
    : { ...state, depth: state.depth + by }

function pushed(state: FrameState, what: number): FrameState {
  const after = lowered(state, 8)
  return what === RBP && state.base === CALLERS && after.depth >= 0 ? { ...after, saved: after.depth } : after
}

function popped(state: FrameState, what: number): FrameState {
  if (what === RSP) return { ...state, depth: UNKNOWN }
  const after = lowered(state, -8)
  if (what !== RBP) return after
  return { ...after, base: state.depth >= 0 && state.saved === state.depth ? CALLERS : UNKNOWN }
}

/** `to = from + distance`, where rsp or rbp is written; undefined: neither is. */
function transferred(state: FrameState, to: number, from: number, distance: number): FrameState | undefined {
  if (to !== RSP && to !== RBP) return undefined
  const of = from === RSP ? state.depth : from === RBP ? state.base : UNKNOWN
  const depth = of >= 0 && of - distance >= 0 ? of - distance : UNKNOWN
  return to === RSP ? { ...state, depth } : { ...state, base: depth }
}

function immediate(view: DataView, { offset, immediateOffset, immediateSize }: Instruction): number {
  const at = offset + immediateOffset
  return immediateSize === 1 ? view.getInt8(at) : view.getInt32(at, true)
}

function displacement(view: DataView, { offset, displacementOffset, displacementSize }: Instruction): number {
  const at = offset + displacementOffset
  return displacementSize === 0 ? 0 : displacementSize === 1 ? view.getInt8(at) : view.getInt32(at, true)
}

/** rsp or rbp where it is the base and there is no index; else -1. */
function leaBase({ modrm, sib, prefixes }: Instruction): number {
  if ((prefixes & (Prefix.rexB | Prefix.rexX | Prefix.p67)) !== 0) return -1
  if ((modrm & 7) !== 4) return (modrm & 7) === RBP ? RBP : -1
  return ((sib >> 3) & 7) === 4 && ((sib & 7) === RSP || (sib & 7) === RBP) ? sib & 7 : -1
}
