/**
 * Position-independent code that reaches beyond itself from a label in a register:
 *
 *     lea rb,[rip+label] ... movzx eax,byte [rb+rc+(symbol-label)]      call next; next: pop rb; add rb,symbol-next
 *
 * The 32-bit field is no address; it is a difference that changes when only one of its ends moves. What tells it from the displacement of a
 * structure is where label + field lies: on the other side of a moved range's edge, among the places that this code refers to anyway. Only
 * for those the way from the label to its use is walked: nothing on it may write the register.
 */

import { wrapAddress } from '../core/address.ts'
import { viewOf } from '../core/bytes.ts'
import { rangeOfTarget } from '../core/range.ts'
import type { TableBuilder } from '../table/builder.ts'
import { DIFF32 } from '../table/kinds.ts'
import { ADDRESS_FLOW } from '../table/site.ts'
import { baseRegister, fillEffects, indexRegister, RegisterEffects } from '../x86/effects.ts'
import {
  Encoding,
  endsFlow,
  Flow,
  Instruction,
  type InstructionDecoder,
  Memory,
  Prefix,
} from '../x86/instruction.ts'
import { isTaken, take } from './marks.ts'
import type { OutsideTargets } from './outside.ts'
import { Place, type Places } from './places.ts'
import { CALLER_SAVED } from './slice-values.ts'

/** Bytes between a label and its use, at the most. */
export const LABEL_REACH: number = 1 << 14

interface LabelUse {
  /** Offset of the field. */
  readonly offset: number
  /** Distances from the base. */
  readonly label: number
  readonly target: number
  /** Whether the label is the address that a call left on the stack. */
  readonly called: boolean
  readonly register: number
  /** Where the register has the label from, and the instruction that uses it. */
  readonly from: number
  readonly at: number
}

export interface LabelContext {
  readonly decoder: InstructionDecoder
  readonly marks: Uint8Array
  readonly outside: OutsideTargets
  readonly places: Places
}

/** Watches the instructions of a blob go by in order. */
export class LabelWatcher {
  readonly #view: DataView
  readonly #builder: TableBuilder
  readonly #uses: LabelUse[] = []
  /** Of each register: the label it got last, since when (-1: never), and whether by call and pop. */
  readonly #labels = new Float64Array(16)
  readonly #since = new Int32Array(16).fill(-1)
  readonly #called = new Uint8Array(16)
  /** Behind the last call of the next instruction. */
  #returned = -1

  constructor(code: Uint8Array, builder: TableBuilder) {
    this.#view = viewOf(code)
    this.#builder = builder
  }

  watch(instruction: Instruction): void {
    if (instruction.memory === Memory.base) {
      if (instruction.displacementSize !== 4) return
      const at = instruction.offset + instruction.displacementOffset
      this.#use(baseRegister(instruction), at, instruction)
      if (instruction.sib >> 6 === 0) this.#use(indexRegister(instruction), at, instruction)
    } else if (instruction.encoding === Encoding.legacy && instruction.map === 0) this.#general(instruction)
  }

  #general(instruction: Instruction): void {
    const { opcode, prefixes, modrm } = instruction
    const next = instruction.offset + instruction.length
    if (opcode === 0x8d && instruction.memory === Memory.rip) {
      const displacement = this.#view.getInt32(instruction.offset + instruction.displacementOffset, true)
      this.#set(((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7), next + displacement, next, 0)
    } else if (opcode === 0xe8) {
      if (instruction.branchSize === 4 && this.#view.getInt32(next - 4, true) === 0) this.#returned = next
    } else if (opcode >= 0x58 && opcode <= 0x5f) {
      if (instruction.offset === this.#returned)
        this.#set((opcode & 7) | ((prefixes & Prefix.rexB) >> 5), instruction.offset, next, 1)
    } else if ((prefixes & Prefix.w) !== 0 && (opcode === 0x05 || (opcode === 0x81 && modrm >> 3 === 0x18)))
      this.#use(
        opcode === 0x05 ? 0 : (modrm & 7) | ((prefixes & Prefix.rexB) >> 5),
        instruction.offset + instruction.immediateOffset,
        instruction,
      )
  }

  #set(register: number, label: number, since: number, called: number): void {
    this.#labels[register] = label
    this.#since[register] = since
    this.#called[register] = called
  }

  #use(register: number, offset: number, instruction: Instruction): void {
    if (register < 0 || this.#since[register] < 0) return
    const from = this.#since[register]
    if (instruction.offset - from > LABEL_REACH) return
    const label = this.#labels[register]
    const value = this.#view.getInt32(offset, true)
    const target = label + value
    if (this.#place(label) === this.#place(target) || target === this.#builder.blob.span) return
    // What is an address by itself is one by the weight of the same evidence as everywhere.
    if (rangeOfTarget(this.#builder.blob.covered, wrapAddress(BigInt(value)), true) >= 0) return
    const called = this.#called[register] !== 0
    this.#uses.push({
      offset,
      label,
      target,
      called,
      register,
      from,
      at: instruction.offset,
    })
  }

  /** What a place moves with: the number of its range, -1 for what stays. */
  #place(distance: number): number {
    const { span, own, covered, base } = this.#builder.blob
    if (distance >= 0 && distance < span) return own
    return covered.length === 1 ? -1 : rangeOfTarget(covered, wrapAddress(base + BigInt(distance)), false)
  }

  /** Adds the differences to the table, and takes their fields. */
  finish(context: LabelContext): void {
    const { base } = this.#builder.blob
    for (const use of this.#uses) {
      if (!this.#isPlausible(use, context) || isTaken(context.marks, use.offset, 4)) continue
      if (!holds(use, context.decoder)) continue
      take(context.marks, use.offset, 4)
      this.#builder.addDifference(
        use.offset,
        DIFF32,
        wrapAddress(base + BigInt(use.target)),
        wrapAddress(base + BigInt(use.label)),
        ADDRESS_FLOW,
      )
    }
  }

  /** Whether something is likely to be at the target. Nobody computes where he runs but to go on from there. */
  #isPlausible({ called, target }: LabelUse, { outside, places }: LabelContext): boolean {
    if (called) return true
    const place = this.#place(target)
    if (place < 0) return outside.near(target).count > 0
    if (place !== this.#builder.blob.own) return true
    const found: number = places.at(target)
    return found === Place.entry || found === Place.label || found === Place.object
  }
}

/**
 * Whether the register still holds the label at its use: nothing between them writes it. What follows a jump or return is reached from
 * elsewhere; if there was a dispatch through a table on the way, from there, with what the register held there.
 */
function holds({ from, at, register }: LabelUse, decoder: InstructionDecoder): boolean {
  const instruction = new Instruction()
  const effects = new RegisterEffects()
  const bit = 1 << register
  let held = true
  let dispatched = false
  let offset = from
  while (offset < at && (held || dispatched)) {
    const length = decoder.decode(offset, instruction)
    if (length === 0) return false
    const { flow } = instruction
    fillEffects(instruction, effects)
    const call = flow === Flow.call || flow === Flow.indirectCall
    if (((call ? effects.writes | CALLER_SAVED : effects.writes) & bit) !== 0) held = false
    if (flow === Flow.indirectJump) dispatched = held
    else if (dispatched && endsFlow(flow)) held = true
    offset += length
  }
  return held && offset === at
}
