/**
 * A quick look at a slice of code before its constants are followed. Nearly all slices are false alarms: a register got a constant, was
 * overwritten by something else, and only then added to. So a first walk knows no more of a register than whether it may hold a constant,
 * and lets a slice through where some instruction takes one of those and another constant.
 *
 * Invariant: at every instruction, a register of which `SliceState` knows a value that a constant went into is in the mask. So the walk lets
 * through whatever `SliceState` puts together in registers (halves that are stored are not its business).
 */
import { baseRegister, indexRegister, writtenRegisters } from '../x86/effects.ts'
import { Encoding, endsFlow, Flow, Instruction, Memory, Prefix } from '../x86/instruction.ts'
import { branchTarget } from '../x86/target.ts'
import { CALLER_SAVED } from './slice-values.ts'
import type { WalkContext } from './slice-walk.ts'

/** Bytes of the slices that are looked at; a longer one, of many that ran together, is let through. */
const LONGEST = 1 << 10
/** No mask arrives here. */
const NOTHING = -1
/** No mask: two constants are joined. */
const JOINED = -1
const RSP = 1 << 4
const XOR = 6
/** Of add to cmp: those that join what two values hold: add, or, sub, xor. */
const JOINING = 0b0110_0011

export interface ScreenContext extends WalkContext {
  /** Starts of instructions, ascending: at least those that give a register a constant. */
  readonly watched: Uint32Array
}

export class SliceScreen {
  readonly #context: ScreenContext
  readonly #instruction = new Instruction()
  /** By the distance from the slice's start: the registers that hold constants on every way by which branches of the slice lead there. */
  readonly #arriving = new Int32Array(LONGEST)
  /** Index of the first watched instruction that is not before the slice. */
  #first = 0

  constructor(context: ScreenContext) {
    this.#context = context
  }

  /** Whether constants may be joined in registers in [start, end); asked with ascending starts. */
  mayJoin(start: number, end: number): boolean {
    const { view, decoder, places, watched } = this.#context
    const arriving = this.#arriving
    const instruction = this.#instruction
    while (watched[this.#first] < start) this.#first++
    if (end - start > LONGEST) return true
    arriving.fill(NOTHING, 0, end - start)
    let next = this.#first
    let last = -1
    let mask = 0
    let isReached = true
    for (let at = start; at < end; at += instruction.length) {
      if (mask === 0 && at > last) {
        // Nothing is known until a constant comes.
        while (watched[next] < at) next++
        if (next === watched.length || watched[next] >= end) return false
        at = watched[next]
      }
      if (!places.isCode(at) || decoder.decode(at, instruction) === 0) return false
      const here = arriving[at - start]
      if (here !== NOTHING) mask = isReached ? mask & here : here
      mask = step(instruction, mask)
      if (mask === JOINED) return true
      const target = branchTarget(view, instruction)
      if (target > at && target < end && instruction.flow !== Flow.call) {
        arriving[target - start] &= mask
        if (mask !== 0 && target > last) last = target
      }
      isReached = !endsFlow(instruction.flow)
      if (!isReached) mask = 0
    }
    return false
  }
}

/** The registers that may hold constants behind an instruction, where those of `mask` may before it; or `JOINED`. */
function step(instruction: Instruction, mask: number): number {
  if (instruction.encoding === Encoding.legacy && instruction.map === 0) {
    const { opcode, modrm, prefixes } = instruction
    const b = (prefixes & Prefix.rexB) >> 5
    if ((opcode & 0xf8) === 0xb8) return mask | (1 << ((opcode & 7) | b))
    if (opcode === 0xc7 && modrm >= 0xc0) return mask | (1 << ((modrm & 7) | b))
    if (mask === 0) return 0
    if ((prefixes & Prefix.w) !== 0) {
      const joined = stepWide(instruction, mask)
      if (joined !== undefined) return joined
    }
  }
  if (mask === 0) return 0
  const { flow } = instruction
  const clobbered = flow === Flow.call || flow === Flow.indirectCall ? CALLER_SAVED : 0
  // What push and pop leave of rsp is of no importance here.
  return mask & ~((writtenRegisters(instruction) | clobbered) & ~RSP)
}

/** The same of an instruction with 64-bit registers; undefined where it overwrites what it writes. */
function stepWide(instruction: Instruction, mask: number): number | undefined {
  const { opcode, modrm, prefixes } = instruction
  if (opcode === 0x8d) return stepLea(instruction, mask)
  if (opcode < 0x40 && (opcode & 7) === 5)
    return isJoining(opcode >> 3) && (mask & 1) !== 0 ? JOINED : undefined
  if (modrm < 0xc0) return undefined
  const rm = 1 << ((modrm & 7) | ((prefixes & Prefix.rexB) >> 5))
  const reg = 1 << (((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7))
  if (opcode === 0x89) return give(mask, rm, reg)
  if (opcode === 0x8b) return give(mask, reg, rm)
  if (opcode === 0x81 || opcode === 0x83)
    return isJoining((modrm >> 3) & 7) && (mask & rm) !== 0 ? JOINED : undefined
  if (opcode === 0xc1) return (modrm & 0x38) === 0x20 ? mask : undefined
  if (opcode >= 0x40 || (opcode & 5) !== 1 || !isJoining(opcode >> 3)) return undefined
  if (rm === reg && opcode >> 3 === XOR) return mask & ~rm
  if ((mask & rm) !== 0 && (mask & reg) !== 0) return JOINED
  // The other may be a zero: then it is as it was.
  return give(mask, (opcode & 2) === 0 ? rm : reg, rm | reg)
}

/** lea: a sum of a constant and its displacement or another, or a copy. */
function stepLea(instruction: Instruction, mask: number): number | undefined {
  if (instruction.memory !== Memory.base) return undefined
  const base = 1 << baseRegister(instruction)
  const index = indexRegister(instruction)
  const from = index < 0 ? base : base | (1 << index)
  if (index >= 0 && instruction.sib >> 6 !== 0) return undefined
  const { modrm, prefixes } = instruction
  const held = mask & from
  if (held === from && (index >= 0 || instruction.displacementSize !== 0)) return JOINED
  if (held !== 0 && instruction.displacementSize !== 0) return JOINED
  return give(mask, 1 << (((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7)), from)
}

/** The mask after a register got what may be a constant if one of `from` is. */
const give = (mask: number, to: number, from: number): number =>
  (mask & from) === 0 ? mask & ~to : mask | to

const isJoining = (operation: number): boolean => ((JOINING >> operation) & 1) !== 0
