/**
 * Position-independent code of the large model. Every function computes the address of the global offset table,
 *
 *     L: lea rb,[rip+L]; movabs r,GOT-L; add rb,r
 *
 * and reaches everything else by 64-bit differences to it: movabs r,symbol-GOT. None of these constants is an
 * address; each is a difference that changes when only one of its ends moves. The table's address is what
 * most `lea`/`movabs`/`add` triples agree on; then every other movabs whose sum with it lies where addresses
 * of this blob lie is such a difference.
 */

import { wrapAddress } from '../core/address.ts'
import { readField, viewOf } from '../core/bytes.ts'
import { type AddressRange, findRange } from '../core/range.ts'
import type { TableBuilder } from '../table/builder.ts'
import { DIFF64 } from '../table/kinds.ts'
import { ADDRESS_FLOW } from '../table/site.ts'
import { type Instruction, Memory, Prefix } from '../x86/instruction.ts'
import { isTaken } from './marks.ts'

/** Instructions between the parts of a triple, at the most. */
const REACH = 12
/** Outside targets this near to one another are of one section. */
const NEAR = 1n << 16n

/**
 * Whether the `lea r,[rip+x]` in [start, next) takes an address just before itself and a movabs follows: how
 * position-independent code of the large model finds the table.
 */
export function isSelfLabelAt(code: Uint8Array, start: number, next: number, target: number): boolean {
  if (target > start || target < start - 16) return false
  for (let at = next; at < next + 12; at++)
    if ((code[at] & 0xfe) === 0x48 && (code[at + 1] & 0xf8) === 0xb8) return true
  return false
}

interface WideConstant {
  /** Offset of the imm64. */
  readonly offset: number
  readonly register: number
  readonly order: number
  /** Added to another register soon after: as a number it would be compared, masked or stored. */
  added: boolean
}

interface Triple {
  readonly constant: WideConstant
  /** Distance of the label from the base. */
  readonly label: number
}

/** Watches the instructions of a blob go by in order. */
export class GotWatcher {
  readonly #view: DataView
  readonly #constants: WideConstant[] = []
  readonly #triples: Triple[] = []
  /** The last `lea r,[rip+x]` into each register: label and when. */
  readonly #labels = new Float64Array(16)
  readonly #labelOrder = new Int32Array(16).fill(-REACH - 1)
  readonly #lastConstant: (WideConstant | undefined)[] = new Array<WideConstant | undefined>(16).fill(
    undefined,
  )
  #order = 0

  constructor(code: Uint8Array) {
    this.#view = viewOf(code)
  }

  watch(instruction: Instruction): void {
    this.#order++
    if (instruction.modrmOffset !== 0 && (instruction.modrm & 7) === 4 && instruction.modrm < 0xc0)
      this.#address(instruction)
    if (instruction.map !== 0 || (instruction.prefixes & Prefix.w) === 0) return
    const { opcode, prefixes, modrm } = instruction
    if (opcode === 0x8d && instruction.memory === Memory.rip) {
      const register = ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) !== 0 ? 8 : 0)
      this.#labels[register] =
        instruction.offset +
        instruction.length +
        this.#view.getInt32(instruction.offset + instruction.displacementOffset, true)
      this.#labelOrder[register] = this.#order
    } else if (opcode >= 0xb8 && opcode <= 0xbf) {
      const register = (opcode & 7) | ((prefixes & Prefix.rexB) !== 0 ? 8 : 0)
      const constant = {
        offset: instruction.offset + instruction.immediateOffset,
        register,
        order: this.#order,
        added: false,
      }
      this.#constants.push(constant)
      this.#lastConstant[register] = constant
    } else if ((opcode === 0x01 || opcode === 0x03) && modrm >= 0xc0) {
      const reg = ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) !== 0 ? 8 : 0)
      const rm = (modrm & 7) | ((prefixes & Prefix.rexB) !== 0 ? 8 : 0)
      this.#sum(reg, rm)
      this.#sum(rm, reg)
    }
  }

  /** An address that adds two registers adds what they hold. */
  #address(instruction: Instruction): void {
    const sib = this.#view.getUint8(instruction.offset + instruction.modrmOffset + 1)
    if (sib >> 6 !== 0) return
    this.#add(((sib >> 3) & 7) | ((instruction.prefixes & Prefix.rexX) !== 0 ? 8 : 0))
    this.#add((sib & 7) | ((instruction.prefixes & Prefix.rexB) !== 0 ? 8 : 0))
  }

  /** The constant that `register` got lately, if it is added now. */
  #add(register: number): WideConstant | undefined {
    const constant = this.#lastConstant[register]
    if (constant === undefined || this.#order - constant.order > REACH) return undefined
    constant.added = true
    return constant
  }

  /** A label's register and a constant's are added. */
  #sum(labelled: number, register: number): void {
    const constant = this.#add(register)
    if (constant === undefined || this.#order - this.#labelOrder[labelled] > REACH) return
    this.#triples.push({ constant, label: this.#labels[labelled] })
    this.#lastConstant[register] = undefined
    // The sum is the table's address; what is added to it next is an offset in it.
    this.#labelOrder[labelled] = -REACH - 1
  }

  /** Adds the differences to the table, but for what belongs to a site already. */
  finish(builder: TableBuilder, marks: Uint8Array): void {
    const { base, covered } = builder.blob
    const value = (constant: WideConstant): bigint => readField(this.#view, constant.offset, 8)
    const sums = this.#triples.map((triple) =>
      wrapAddress(base + BigInt(triple.label) + value(triple.constant)),
    )
    const got = mostFrequent(sums)
    if (got === undefined) return
    const anchors = new Map(
      this.#triples.filter((_, i) => sums[i] === got).map((triple) => [triple.constant, triple.label]),
    )
    const targets = this.#constants.map((constant) => wrapAddress(got + value(constant)))
    const others = this.#constants.filter((constant) => !anchors.has(constant))
    const outside = BigUint64Array.from(offsetsOf(others, value), (offset) => wrapAddress(got + offset))
    this.#constants.forEach((constant, i) => {
      if (isTaken(marks, constant.offset, 8)) return
      const label = anchors.get(constant)
      if (label !== undefined)
        builder.addDifference(constant.offset, DIFF64, got, wrapAddress(base + BigInt(label)), ADDRESS_FLOW)
      else if (isTarget(targets[i], got, covered, outside))
        builder.addDifference(constant.offset, DIFF64, targets[i], got, ADDRESS_FLOW)
    })
  }
}

/**
 * The values that are offsets by their use: nearly always added to a register soon. A number may be, too, but
 * is compared, masked and stored as well; and a run of one bits is a mask.
 */
function offsetsOf(
  constants: readonly WideConstant[],
  value: (constant: WideConstant) => bigint,
): Set<bigint> {
  const surplus = new Map<bigint, number>()
  for (const constant of constants) {
    const one = value(constant)
    surplus.set(one, (surplus.get(one) ?? 0) + (constant.added ? 1 : -1))
  }
  return new Set([...surplus].filter(([one, count]) => count > 0 && !isMask(one)).map(([one]) => one))
}

/** Whether the ones of `value` stand together. */
function isMask(value: bigint): boolean {
  const above = BigInt.asUintN(64, value + (value & -value))
  return (above & (above - 1n)) === 0n
}

/** The sum that most triples agree on; undefined without one. */
function mostFrequent(sums: readonly bigint[]): bigint | undefined {
  const counts = new Map<bigint, number>()
  for (const sum of sums) counts.set(sum, (counts.get(sum) ?? 0) + 1)
  let best: bigint | undefined
  for (const [sum, count] of counts) if (best === undefined || count > counts.get(best)!) best = sum
  return best !== undefined && counts.get(best)! * 2 > sums.length ? best : undefined
}

/**
 * Whether GOT + constant is where an address lies: in a covered range, or outside among others that are added
 * to a register.
 */
function isTarget(
  target: bigint,
  got: bigint,
  covered: readonly AddressRange[],
  added: BigUint64Array,
): boolean {
  if (findRange(covered, target) >= 0) return true
  // Hash constants are all over the 64 bits; addresses are in this code's half of the 48-bit space.
  if (findRange(covered, got) < 0 || target >> 47n !== got >> 47n) return false
  return added.some((other) => other - target < NEAR && target - other < NEAR)
}
