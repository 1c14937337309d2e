/**
 * Which instructions the watchers of spread addresses have to see: those that give a register a constant or a
 * label, those that store constants, and those that join what was given to a register shortly before.
 * Registers count by three bits, r8 as rax: rather too many are seen than too few.
 */
import { viewOf } from '../core/bytes.ts'
import type { AddressRange } from '../core/range.ts'
import { MAX_LENGTH } from '../x86/instruction.ts'
import { Joins } from '../x86/notable-rows.ts'
import { LABEL_REACH } from './label-operands.ts'
import { CONSTANT_REACH } from './slices.ts'

/**
 * Of the instructions that may join constants or use a label those that have something to join or use:
 * offsets, ascending.
 *
 * @param covered where addresses lie
 */
export function watchedOf(
  code: Uint8Array,
  { starts, shapes, count }: Joins,
  covered: readonly AddressRange[],
): Uint32Array {
  const registers = new WatchedRegisters(code, covered)
  const watched = new Uint32Array(count)
  let found = 0
  for (let i = 0; i < count; i++) {
    const start = starts[i] | 0
    const shape = shapes[i]
    const opcode = start + (shape & Joins.opcode)
    if (
      ((shape & Joins.joins) !== 0 && registers.joins(start, opcode)) ||
      ((shape & Joins.displaces) !== 0 && registers.displaces(start, opcode))
    )
      watched[found++] = start
  }
  return watched.subarray(0, found)
}

/** Bytes in which a label may be used behind what gives it (by a call and a pop at the most). */
export const LABEL_WINDOW: number = LABEL_REACH + 4 * MAX_LENGTH

/** Too long ago. */
const NEVER = -LABEL_REACH - MAX_LENGTH - 1

class WatchedRegisters {
  readonly #view: DataView
  /** Where a register got a constant last, and a label. */
  readonly #constants = new Int32Array(8).fill(-CONSTANT_REACH)
  readonly #labels = new Int32Array(8).fill(NEVER)
  /** Where any register got a label last. */
  #label = NEVER
  /** Whether halves of an address may be stored: below 2^32 the lower one is an address alone, but for 0. */
  readonly #hasHalves: boolean
  /** Behind the last call of the next instruction. */
  #returned = -1

  constructor(code: Uint8Array, covered: readonly AddressRange[]) {
    this.#view = viewOf(code)
    this.#hasHalves = covered.some(({ start, end }) => start === 0n || end >= 1n << 32n)
  }

  joins(start: number, at: number): boolean {
    const opcode = this.#view.getUint8(at)
    if (opcode >= 0xb8) {
      if (opcode <= 0xbf) this.#constants[opcode & 7] = start
      else if (opcode === 0xe8) return this.#calls(at)
      else if (opcode === 0xc1) return this.#isConstant(start, at)
      else if (this.#view.getUint8(at + 1) < 0xc0) return this.#hasHalves
      else this.#constants[this.#view.getUint8(at + 1) & 7] = start
      return true
    }
    if (opcode === 0x68) return this.#hasHalves
    if (opcode === 0x8d) return this.#loads(start, at)
    if ((opcode & 0xf8) === 0x58) return start === this.#returned && this.#give(opcode & 7, start)
    if ((opcode & 7) === 5) return this.#hasConstant(0, start) || this.#hasLabel(0, start)
    return (
      this.#isConstant(start, at) ||
      (opcode === 0x81 && this.#hasLabel(this.#view.getUint8(at + 1) & 7, start)) ||
      (opcode < 4 && this.#isSum(start, at))
    )
  }

  displaces(start: number, at: number): boolean {
    // Most code has no labels at all.
    if (start - this.#label > LABEL_REACH + MAX_LENGTH) return false
    // A nop has no address.
    if (this.#view.getUint8(at) === 0x1f && this.#view.getUint8(at - 1) === 0x0f) return false
    const rm = this.#view.getUint8(at + 1) & 7
    if (rm !== 4) return this.#hasLabel(rm, start)
    const sib = this.#view.getUint8(at + 2)
    return this.#hasLabel(sib & 7, start) || this.#hasLabel((sib >> 3) & 7, start)
  }

  /** lea: a label, or a sum. */
  #loads(start: number, at: number): boolean {
    const modrm = this.#view.getUint8(at + 1)
    if ((modrm & 0xc7) === 5) return this.#give((modrm >> 3) & 7, start)
    if ((modrm & 7) !== 4) return this.#hasConstant(modrm & 7, start)
    const sib = this.#view.getUint8(at + 2)
    return this.#hasConstant(sib & 7, start) || this.#hasConstant((sib >> 3) & 7, start)
  }

  #calls(at: number): boolean {
    if (this.#view.getInt32(at + 1, true) !== 0) return false
    this.#returned = at + 5
    return true
  }

  /** Whether the register operand has got a constant. */
  #isConstant(start: number, at: number): boolean {
    const modrm = this.#view.getUint8(at + 1)
    return modrm >= 0xc0 && this.#hasConstant(modrm & 7, start)
  }

  /** add of a label and a constant. */
  #isSum(start: number, at: number): boolean {
    const modrm = this.#view.getUint8(at + 1)
    return modrm >= 0xc0 && this.#hasLabel(modrm & 7, start) && this.#hasConstant((modrm >> 3) & 7, start)
  }

  #give(register: number, start: number): boolean {
    this.#labels[register] = start
    this.#label = start
    return true
  }

  #hasConstant(register: number, start: number): boolean {
    return start - this.#constants[register] < CONSTANT_REACH
  }

  #hasLabel(register: number, start: number): boolean {
    return start - this.#labels[register] <= LABEL_REACH + MAX_LENGTH
  }
}
