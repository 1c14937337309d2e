/**
 * A quick look at a slice of code before its constants are followed. Nearly all slices are false alarms: a
 * register got a constant, was overwritten by something else, and only then added to; or what it got was a
 * small number. So a first walk knows no more of a register than whether it may hold a constant, and of all
 * that the slice makes how many bits it has at the most.
 *
 * Invariants, at every instruction: a register of which `SliceState` knows a value that a constant went into
 * is in the mask; all such values are in [-2^bits, 2^bits). So the walk lets through whatever address
 * `SliceState` puts together in registers (halves that are stored are not its business).
 */
import { ADDRESS_LIMIT } from '../core/address.ts'
import type { AddressRange } from '../core/range.ts'
import { baseRegister, indexRegister, writtenRegisters } from '../x86/effects.ts'
import { Encoding, endsFlow, Flow, Instruction, Memory, Prefix } from '../x86/instruction.ts'
import { branchTarget } from '../x86/target.ts'
import { CALLER_SAVED } from './slice-values.ts'
import type { WalkContext } from './slice-walk.ts'

/** Bytes of the slices that are looked at; a longer one, of many that ran together, is let through. */
const LONGEST = 1 << 10
/** No mask arrives here. */
const NOTHING = -1
const RSP = 1 << 4
const XOR = 6
/** Of add to cmp: those that join what two values hold: add, or, sub, xor. */
const JOINING = 0b0110_0011

export interface ScreenContext extends WalkContext {
  /** Starts of instructions, ascending: at least those that give a register a constant. */
  readonly watched: Uint32Array
  /** Where addresses lie. */
  readonly covered: readonly AddressRange[]
}

export class SliceScreen {
  readonly #context: ScreenContext
  readonly #instruction = new Instruction()
  /**
   * By the distance from the slice's start: the registers that hold constants on every way by which branches
   * of the slice lead there.
   */
  readonly #arriving = new Int32Array(LONGEST)
  /** Bits of the address that is nearest to 0, above or (2^64) below. */
  readonly #least: number
  /** Index of the first watched instruction that is not before the slice. */
  #first = 0
  /** Registers that may hold constants. */
  #mask = 0
  #bits = 0
  /** Whether two constants were joined. */
  #isJoined = false

  constructor(context: ScreenContext) {
    this.#context = context
    this.#least = Math.min(
      ...context.covered.flatMap(({ start, end }) => [lengthOf(start), lengthOf(ADDRESS_LIMIT - end)]),
    )
  }

  /** Whether an address may be put together in registers in [start, end); asked with ascending starts. */
  mayJoin(start: number, end: number): boolean {
    const { view, decoder, places, watched } = this.#context
    const arriving = this.#arriving
    const instruction = this.#instruction
    while (watched[this.#first] < start) this.#first++
    if (end - start > LONGEST) return true
    arriving.fill(NOTHING, 0, end - start)
    this.#mask = this.#bits = 0
    this.#isJoined = false
    let next = this.#first
    let last = -1
    let isReached = true
    for (let at = start; at < end; at += instruction.length) {
      if (this.#mask === 0 && at > last) {
        // Nothing is known until a constant comes.
        while (watched[next] < at) next++
        if (next === watched.length || watched[next] >= end) return false
        at = watched[next]
      }
      if (!places.isCode(at) || decoder.decode(at, instruction) === 0) return false
      const here = arriving[at - start]
      if (here !== NOTHING) this.#mask = isReached ? this.#mask & here : here
      this.#step(instruction)
      if (this.#isJoined && this.#bits >= this.#least) return true
      const target = branchTarget(view, instruction)
      if (target > at && target < end && instruction.flow !== Flow.call) {
        arriving[target - start] &= this.#mask
        if (this.#mask !== 0 && target > last) last = target
      }
      isReached = !endsFlow(instruction.flow)
      if (!isReached) this.#mask = 0
    }
    return false
  }

  #step(instruction: Instruction): void {
    const isGeneral = instruction.encoding === Encoding.legacy && instruction.map === 0
    if ((isGeneral && this.#stepGeneral(instruction)) || this.#mask === 0) return
    const { flow } = instruction
    const clobbered = flow === Flow.call || flow === Flow.indirectCall ? CALLER_SAVED : 0
    // What push and pop leave of rsp is of no importance here.
    this.#mask &= ~((writtenRegisters(instruction) | clobbered) & ~RSP)
  }

  /** Whether an instruction of the one-byte map is understood; others overwrite what they write. */
  #stepGeneral(instruction: Instruction): boolean {
    const { opcode, modrm, prefixes } = instruction
    const b = (prefixes & Prefix.rexB) >> 5
    if ((opcode & 0xf8) === 0xb8) return this.#load((opcode & 7) | b, instruction)
    if (opcode === 0xc7 && modrm >= 0xc0) return this.#load((modrm & 7) | b, instruction)
    return this.#mask !== 0 && (prefixes & Prefix.w) !== 0 && this.#stepWide(instruction)
  }

  #load(register: number, instruction: Instruction): true {
    this.#mask |= 1 << register
    this.#take(instruction)
    return true
  }

  /** The same with 64-bit registers, where some may hold constants. */
  #stepWide(instruction: Instruction): boolean {
    const { opcode, modrm, prefixes } = instruction
    const reg = 1 << (((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7))
    if (opcode === 0x8d) return this.#stepLea(reg, instruction)
    if (opcode < 0x40 && (opcode & 7) === 5) return this.#joinImmediate(opcode >> 3, 1, instruction)
    if (modrm < 0xc0) return false
    const rm = 1 << ((modrm & 7) | ((prefixes & Prefix.rexB) >> 5))
    if (opcode === 0x89) return this.#give(rm, reg)
    if (opcode === 0x8b) return this.#give(reg, rm)
    if (opcode === 0x81 || opcode === 0x83) return this.#joinImmediate((modrm >> 3) & 7, rm, instruction)
    if (opcode === 0xc1 && (modrm & 0x38) === 0x20) return this.#shift(rm, instruction)
    if (opcode >= 0x40 || (opcode & 5) !== 1 || !isJoining(opcode >> 3)) return false
    if (rm === reg && opcode >> 3 === XOR) return this.#give(rm, 0)
    if ((this.#mask & rm) !== 0 && (this.#mask & reg) !== 0) this.#join()
    // The other may be a zero: then it is as it was.
    return this.#give((opcode & 2) === 0 ? rm : reg, rm | reg)
  }

  /** lea: a sum of a constant and its displacement or another, or a copy. */
  #stepLea(to: number, instruction: Instruction): boolean {
    const index = indexRegister(instruction)
    if (instruction.memory !== Memory.base || (index >= 0 && instruction.sib >> 6 !== 0)) return false
    const from = (1 << baseRegister(instruction)) | (index < 0 ? 0 : 1 << index)
    const held = this.#mask & from
    if (index >= 0 && held === from) this.#join()
    if (held !== 0 && instruction.displacementSize !== 0) {
      this.#bits = Math.max(this.#bits, 8 * instruction.displacementSize - 1)
      this.#join()
    }
    return this.#give(to, from)
  }

  #joinImmediate(operation: number, register: number, instruction: Instruction): boolean {
    if (!isJoining(operation) || (this.#mask & register) === 0) return false
    this.#take(instruction)
    this.#join()
    return true
  }

  #shift(register: number, { offset, immediateOffset }: Instruction): boolean {
    if ((this.#mask & register) === 0) return false
    this.#bits += this.#context.view.getUint8(offset + immediateOffset) & 63
    return true
  }

  /** The sum, difference, or, xor of two values. */
  #join(): void {
    this.#isJoined = true
    this.#bits++
  }

  /** The immediate of an instruction is among the constants. */
  #take({ offset, immediateOffset, immediateSize, immediateWidth }: Instruction): void {
    const { view } = this.#context
    const at = offset + immediateOffset
    if (immediateSize === 4) {
      const value = view.getInt32(at, true)
      const isSigned = immediateWidth > 4
      this.#bits = Math.max(this.#bits, 32 - Math.clz32(isSigned ? value ^ (value >> 31) : value))
    } else this.#bits = Math.max(this.#bits, 8 * immediateSize)
  }

  /** A register gets what may be a constant if one of `from` is. */
  #give(to: number, from: number): true {
    this.#mask = (this.#mask & from) === 0 ? this.#mask & ~to : this.#mask | to
    return true
  }
}

/** Whether an operation joins what two values hold. */
const isJoining = (operation: number): boolean => ((JOINING >> operation) & 1) !== 0

/** The bits of a number, one of 0. */
const lengthOf = (value: bigint): number => value.toString(2).length
