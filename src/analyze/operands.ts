/**
 * The address fields of one instruction: its relative field, and constants whose value lies in a covered range in
 * operands that can carry an address.
 */
import { wrapAddress } from '../core/address.ts'
import { viewOf } from '../core/bytes.ts'
import type { TableBuilder } from '../table/builder.ts'
import { ABS32, ABS32S, ABS64, EIP32, PC8, PC16, PC32 } from '../table/kinds.ts'
import { ADDRESS_ENCODING, ADDRESS_NONE, ADDRESS_RANGE, packEvidence } from '../table/site.ts'
import { Encoding, type Instruction, Memory, Prefix } from '../x86/instruction.ts'
import { Window } from './window.ts'

/** The opcode's ModRM.reg extensions of the 80-83 group that can take an address: add, sub, cmp. */
const GROUP1_ADDRESS = (1 << 0) | (1 << 5) | (1 << 7)

/** Whether the immediate operand of this instruction can be an address: mov, push, add, sub, cmp. */
export function immediateCarriesAddress(instruction: Instruction): boolean {
  const { opcode } = instruction
  if (instruction.encoding !== Encoding.legacy || instruction.map !== 0) return false
  if (opcode >= 0xb8 && opcode <= 0xbf) return true
  if (opcode === 0x81) return (GROUP1_ADDRESS & (1 << ((instruction.modrm >> 3) & 7))) !== 0
  return opcode === 0x68 || opcode === 0xc7 || opcode === 0x05 || opcode === 0x2d || opcode === 0x3d
}

const isLea = (instruction: Instruction): boolean =>
  instruction.encoding === Encoding.legacy && instruction.map === 0 && instruction.opcode === 0x8d

/** Adds an instruction's sites to a table. */
export class OperandCollector {
  readonly #view: DataView
  readonly #builder: TableBuilder
  readonly #window: Window
  readonly #span: number

  constructor(code: Uint8Array, builder: TableBuilder) {
    this.#view = viewOf(code)
    this.#builder = builder
    this.#window = new Window(builder.blob)
    this.#span = builder.blob.span
  }

  /** @param code code evidence of the instruction */
  collect(instruction: Instruction, code: number): void {
    if (instruction.branchSize !== 0) this.#branch(instruction, code)
    else if (instruction.memory === Memory.rip || instruction.memory === Memory.eip)
      this.#ipRelative(instruction, code)
    else if (instruction.displacementSize >= 4) this.#displacement(instruction, code)
    if (instruction.immediateSize >= 4 && immediateCarriesAddress(instruction))
      this.#immediate(instruction, code)
  }

  #internal(distance: number): boolean {
    return distance >= 0 && distance < this.#span
  }

  #branch(instruction: Instruction, code: number): void {
    if (instruction.branch16 !== 0) return
    const at = instruction.offset + instruction.branchOffset
    const size = instruction.branchSize
    const next = instruction.offset + instruction.length
    const value =
      size === 4
        ? this.#view.getInt32(at, true)
        : size === 1
          ? this.#view.getInt8(at)
          : this.#view.getInt16(at, true)
    const distance = next + value
    if (this.#internal(distance)) return
    const kind = size === 4 ? PC32 : size === 1 ? PC8 : PC16
    this.#builder.addRelative(at, kind, distance, packEvidence(code, ADDRESS_NONE), next - at - size, false)
  }

  #ipRelative(instruction: Instruction, code: number): void {
    const at = instruction.offset + instruction.displacementOffset
    const next = instruction.offset + instruction.length
    const distance = next + this.#view.getInt32(at, true)
    const tail = next - at - 4
    const evidence = packEvidence(code, ADDRESS_NONE)
    const isEip = instruction.memory === Memory.eip
    // An EIP-relative address is the low half of base + distance.
    const low = (this.#window.baseLow + distance) >>> 0
    if ((instruction.prefixes & (Prefix.fs | Prefix.gs)) !== 0 && !isLea(instruction)) {
      // An offset into a segment: it stays what it is, wherever it seems to point.
      const target = isEip ? BigInt(low) : wrapAddress(this.#builder.blob.base + BigInt(distance))
      this.#builder.addFixed(at, isEip ? EIP32 : PC32, target, evidence, tail)
      return
    }
    if (isEip) {
      this.#builder.addTarget(at, EIP32, BigInt(low), evidence, tail, isLea(instruction))
      return
    }
    if (this.#internal(distance)) return
    this.#builder.addRelative(at, PC32, distance, evidence, tail, isLea(instruction))
  }

  #displacement(instruction: Instruction, code: number): void {
    const lea = isLea(instruction)
    if (!lea && (instruction.prefixes & (Prefix.fs | Prefix.gs)) !== 0) return
    const at = instruction.offset + instruction.displacementOffset
    const alone = instruction.memory === Memory.absolute || instruction.memory === Memory.moffs
    const evidence = packEvidence(code, alone && !lea ? ADDRESS_ENCODING : ADDRESS_RANGE)
    if (instruction.displacementSize === 8) this.#add64(at, evidence)
    else if ((instruction.prefixes & Prefix.p67) !== 0) this.#add32(at, evidence)
    else this.#add32s(at, evidence)
  }

  #immediate(instruction: Instruction, code: number): void {
    const at = instruction.offset + instruction.immediateOffset
    const evidence = packEvidence(code, ADDRESS_RANGE)
    if (instruction.immediateSize === 8) this.#add64(at, evidence)
    else if (instruction.immediateWidth === 8) this.#add32s(at, evidence)
    else this.#add32(at, evidence)
  }

  #add32(at: number, evidence: number): void {
    const low = this.#view.getUint32(at, true)
    if (this.#window.has(low, 0)) this.#builder.addAbsolute(at, ABS32, low, 0, evidence)
  }

  #add32s(at: number, evidence: number): void {
    const value = this.#view.getInt32(at, true)
    const high = value < 0 ? 0xffff_ffff : 0
    if (this.#window.has(value >>> 0, high))
      this.#builder.addAbsolute(at, ABS32S, value >>> 0, high, evidence)
  }

  #add64(at: number, evidence: number): void {
    const low = this.#view.getUint32(at, true)
    const high = this.#view.getUint32(at + 4, true)
    if (this.#window.has(low, high)) this.#builder.addAbsolute(at, ABS64, low, high, evidence)
  }

  /** Adds the aligned 8-byte words of [start, end) that lie in a covered range. */
  collectPointers(start: number, end: number, code: number): void {
    const first = start + ((8 - ((this.#window.baseLow + start) & 7)) & 7)
    for (let at = first; at + 8 <= end; at += 8) this.#add64(at, packEvidence(code, ADDRESS_RANGE))
  }
}
