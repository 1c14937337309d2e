/**
 * Position-independent code that reaches beyond itself from a label in a register:
 *
 *     lea rb,[rip+label] ... movzx eax,byte [rb+rc+(symbol-label)]      call next; next: pop rb; add rb,symbol-next
 *     lea rb,[rip+label]; mov rc,symbol-label; add rb,rc
 *
 * The field is no address; it is a difference that changes when only one of its ends moves. What tells it
 * from the displacement of a structure is where label + field lies: on the other side of a moved range's
 * edge, among the places that this code refers to anyway. Only for those the way from the label to its use is
 * walked: nothing on it may write the register.
 */

import { wrapAddress } from '../core/address.ts'
import { viewOf } from '../core/bytes.ts'
import { rangeOfTarget } from '../core/range.ts'
import type { TableBuilder } from '../table/builder.ts'
import { DIFF32, DIFF32U, DIFF64, KIND_ROWS } from '../table/kinds.ts'
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
import { CONSTANT_REACH } from './slices.ts'

/** Bytes between a label and its use, at the most. */
export const LABEL_REACH: number = 1 << 14
/** Bytes between where code loads a label and where it lies, where that is the code's own place. */
const SELF = 16

interface LabelUse {
  /** Offset of the field, and the kind of a difference that it is. */
  readonly offset: number
  readonly kind: number
  /** Distances from the base. */
  readonly label: number
  readonly target: number
  /** Whether nobody would do this with another label: it is where the code itself runs, and only added to. */
  readonly own: boolean
  readonly register: number
  /** Where the register has the label from, and the instruction that uses it. */
  readonly from: number
  readonly at: number
  /** The register that has the field, if it is no operand of the use, and since when. */
  readonly constant: Constant | undefined
}

/** A number in a register: the field that it came from, and behind what. */
interface Constant {
  readonly register: number
  readonly offset: number
  readonly kind: number
  readonly value: number
  readonly from: number
}

export interface LabelContext {
  readonly decoder: InstructionDecoder
  readonly marks: Uint8Array
  readonly outside: OutsideTargets
  readonly places: Places
}

/** Watches the instructions of a blob go by in order; those that load constants may be told by `load` alone. */
export class LabelWatcher {
  readonly #view: DataView
  readonly #builder: TableBuilder
  readonly #uses: LabelUse[] = []
  /** Of each register: the field of the constant that it got last, -1 where it got a label since, and its kind. */
  readonly #fields = new Int32Array(16).fill(-1)
  readonly #kinds = new Uint8Array(16)
  /**
   * Of each register: the label it got last, since when (-1: never), and whether that is where the code runs:
   * by call and pop 2, by lea 1.
   */
  readonly #labels = new Float64Array(16)
  readonly #since = new Int32Array(16).fill(-1)
  readonly #own = new Uint8Array(16)
  /** Behind the last call of the next instruction. */
  #returned = -1

  constructor(code: Uint8Array, builder: TableBuilder) {
    this.#view = viewOf(code)
    this.#builder = builder
  }

  watch(instruction: Instruction): void {
    // A nop has no address.
    if (instruction.map === 1 && instruction.opcode === 0x1f) return
    if (instruction.memory === Memory.base) {
      if (instruction.opcode === 0x8d && instruction.map === 0) this.#loadSum(instruction)
      // With 67 the address is cut to 32 bits: no label and a distance.
      if (instruction.displacementSize !== 4 || (instruction.prefixes & Prefix.p67) !== 0) return
      const at = instruction.offset + instruction.displacementOffset
      this.#add(baseRegister(instruction), at, instruction)
      if (instruction.sib >> 6 === 0) this.#add(indexRegister(instruction), at, instruction)
    } else if (instruction.encoding === Encoding.legacy && instruction.map === 0) this.#general(instruction)
  }

  #general(instruction: Instruction): void {
    const { opcode, prefixes, modrm } = instruction
    const next = instruction.offset + instruction.length
    if (opcode === 0x8d && instruction.memory === Memory.rip && (prefixes & Prefix.p66) === 0)
      this.loadLabel(((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7), instruction.offset, next)
    else if (opcode === 0xe8) {
      if (instruction.branchSize === 4 && this.#view.getInt32(next - 4, true) === 0) this.#returned = next
    } else if (opcode >= 0x58 && opcode <= 0x5f) {
      if (instruction.offset === this.#returned)
        this.#set((opcode & 7) | ((prefixes & Prefix.rexB) >> 5), instruction.offset, next, 2)
    } else if (opcode >= 0xb8 && opcode <= 0xbf)
      this.#keep((opcode & 7) | ((prefixes & Prefix.rexB) >> 5), instruction)
    else if ((prefixes & Prefix.w) === 0) return
    const rm = (modrm & 7) | ((prefixes & Prefix.rexB) >> 5)
    if (opcode === 0x05 || (opcode === 0x81 && modrm >> 3 === 0x18))
      this.#add(opcode === 0x05 ? 0 : rm, instruction.offset + instruction.immediateOffset, instruction)
    else if (opcode === 0xc7 && (modrm & 0xf8) === 0xc0) this.#keep(rm, instruction)
    else if ((opcode === 0x01 || opcode === 0x03) && modrm >= 0xc0)
      this.#join(rm, ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7), instruction)
  }

  /** A register gets a constant, from a field that ends the instruction. */
  #keep(register: number, { offset, immediateOffset, immediateSize, immediateWidth }: Instruction): void {
    const kind = immediateSize === 8 ? DIFF64 : immediateWidth === 8 ? DIFF32 : DIFF32U
    // 16 bits hold no difference.
    this.load(register, immediateSize < 4 ? -1 : offset + immediateOffset, kind)
  }

  /** A register gets the label in the field that ends the lea in [start, next). */
  loadLabel(register: number, start: number, next: number): void {
    const label = next + this.#view.getInt32(next - 4, true)
    this.#set(register, label, next, label >= start - SELF && label <= next ? 1 : 0)
  }

  /** A register gets the constant of the field at `offset`, which ends its instruction. */
  load(register: number, offset: number, kind: number): void {
    this.#fields[register] = offset
    this.#kinds[register] = kind
  }

  #constantOf(register: number): Constant {
    const offset = this.#fields[register]
    const kind = this.#kinds[register]
    const low = this.#view.getUint32(offset, true)
    const high =
      kind === DIFF64 ? this.#view.getInt32(offset + 4, true) : kind === DIFF32 && low >> 31 !== 0 ? -1 : 0
    return { register, offset, kind, value: high * 2 ** 32 + low, from: offset + KIND_ROWS[kind].width }
  }

  /** lea adds two registers. */
  #loadSum(instruction: Instruction): void {
    const index = indexRegister(instruction)
    if (index >= 0 && instruction.sib >> 6 === 0 && instruction.displacementSize === 0)
      this.#join(baseRegister(instruction), index, instruction)
  }

  /** Two registers are added: a label and a constant, perhaps. */
  #join(a: number, b: number, instruction: Instruction): void {
    for (const [label, other] of [
      [a, b],
      [b, a],
    ]) {
      if (this.#fields[other] < 0 || !this.#hasLabel(label, instruction)) continue
      const constant = this.#constantOf(other)
      // Beyond 48 bits there are no addresses.
      if (Math.abs(constant.value) < 2 ** 48 && instruction.offset - constant.from <= CONSTANT_REACH)
        this.#use(label, constant, instruction, constant)
    }
  }

  /** The field at `offset` is added to a register. */
  #add(register: number, offset: number, instruction: Instruction): void {
    if (!this.#hasLabel(register, instruction)) return
    const value = this.#view.getInt32(offset, true)
    // What is an address by itself is one by the weight of the same evidence as everywhere.
    if (rangeOfTarget(this.#builder.blob.covered, wrapAddress(BigInt(value)), true) >= 0) return
    this.#use(register, { offset, kind: DIFF32, value }, instruction, undefined)
  }

  #set(register: number, label: number, since: number, own: number): void {
    this.#labels[register] = label
    this.#since[register] = since
    this.#own[register] = own
    this.#fields[register] = -1
  }

  #hasLabel(register: number, { offset }: Instruction): boolean {
    const since = register < 0 ? -1 : this.#since[register]
    return since >= 0 && offset - since <= LABEL_REACH
  }

  #use(
    register: number,
    { offset, kind, value }: Pick<Constant, 'offset' | 'kind' | 'value'>,
    instruction: Instruction,
    constant: Constant | undefined,
  ): void {
    const label = this.#labels[register]
    const target = label + value
    if (this.#place(label) === this.#place(target) || target === this.#builder.blob.span) return
    this.#uses.push({
      offset,
      kind,
      label,
      target,
      own: this.#own[register] > (instruction.memory === Memory.base && constant === undefined ? 1 : 0),
      register,
      from: this.#since[register],
      at: instruction.offset,
      constant,
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
      const { width } = KIND_ROWS[use.kind]
      if (!this.#isPlausible(use, context) || isTaken(context.marks, use.offset, width)) continue
      if (!holds(use, use.at, context.decoder)) continue
      if (use.constant !== undefined && !holds(use.constant, use.at, context.decoder)) continue
      take(context.marks, use.offset, width)
      this.#builder.addDifference(
        use.offset,
        use.kind,
        wrapAddress(base + BigInt(use.target)),
        wrapAddress(base + BigInt(use.label)),
        ADDRESS_FLOW,
      )
    }
  }

  /** Whether something is likely to be at the target. Nobody computes where he runs but to go on from there. */
  #isPlausible({ own, target }: LabelUse, { outside, places }: LabelContext): boolean {
    if (own) return true
    const place = this.#place(target)
    if (place < 0) return outside.near(target).count > 0
    if (place !== this.#builder.blob.own) return true
    const found: number = places.at(target)
    return found === Place.entry || found === Place.label || found === Place.object
  }
}

/**
 * Whether the register still holds what it got before `from` at its use: nothing between them writes it. What
 * follows a jump or return is reached from elsewhere; if there was a dispatch through a table on the way,
 * from there, with what the register held there.
 */
function holds(
  { from, register }: Pick<LabelUse, 'from' | 'register'>,
  at: number,
  decoder: InstructionDecoder,
): boolean {
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
