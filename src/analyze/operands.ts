/**
 * The address fields of one instruction: its relative field, which needs no judgement, and constants in
 * operands that can carry an address, which are candidates where the value lies in a covered range and
 * background where it lies beside.
 */
import { wrapAddress } from '../core/address.ts'
import { readSigned, viewOf } from '../core/bytes.ts'
import type { TableBuilder } from '../table/builder.ts'
import { ABS32, ABS32S, ABS64, EIP32, PC8, PC16, PC32 } from '../table/kinds.ts'
import { ADDRESS_NONE } from '../table/site.ts'
import { baseRegister } from '../x86/effects.ts'
import { Encoding, type Instruction, Memory, Prefix } from '../x86/instruction.ts'
import type { Background } from './background.ts'
import { type Candidates, Carrier } from './candidates.ts'
import type { Window } from './window.ts'

const [ADD, SUB, CMP] = [0, 5, 7]
const RAX = 0
const RSP = 4

/**
 * The carrier of the immediate operand, or -1 where nobody puts addresses: mov, push, add, sub and cmp take
 * them, but not those of rsp, and whatever a linker relaxed.
 */
export function immediateCarrier(instruction: Instruction): number {
  const { opcode, modrm, immediateWidth } = instruction
  if (instruction.encoding !== Encoding.legacy || instruction.map !== 0) return -1
  if (opcode >= 0xb8 && opcode <= 0xbf) return instruction.immediateSize === 8 ? Carrier.wide : Carrier.move
  if (opcode === 0x68) return Carrier.move
  if (opcode === 0xc7) {
    if (modrm < 0xc0) return immediateWidth === 8 ? Carrier.move : Carrier.store
    return immediateWidth === 8 ? Carrier.relaxed : Carrier.move
  }
  const operation = opcode === 0x81 ? (modrm >> 3) & 7 : (opcode & 0xc7) === 0x05 ? opcode >> 3 : -1
  const takes = operation === ADD || operation === SUB || operation === CMP
  if (opcode === 0x81 && modrm >= 0xc0 && (instruction.prefixes & Prefix.rexB) === 0) {
    // rax has opcodes of its own, one byte shorter; what linkers make may be any of the eight operations.
    if ((modrm & 7) === RAX && (takes || immediateWidth === 8)) return Carrier.relaxed
    if ((modrm & 7) === RSP) return -1
  }
  if (!takes) return -1
  return immediateWidth === 8 ? Carrier.arithmetic : Carrier.narrow
}

const isLea = (instruction: Instruction): boolean =>
  instruction.encoding === Encoding.legacy && instruction.map === 0 && instruction.opcode === 0x8d

/** Whether the base register is rsp: a frame's displacement is a size. */
const isFrame = (instruction: Instruction): boolean =>
  instruction.memory === Memory.base && baseRegister(instruction) === RSP

/** Whether the operand is an offset into a segment. */
export const isSegmented = (instruction: Instruction): boolean =>
  !isLea(instruction) && (instruction.prefixes & (Prefix.fs | Prefix.gs)) !== 0

/** The carrier of a displacement of 4 or 8 bytes, or -1 where it is no address: in a segment, in a frame. */
export function displacementCarrier(instruction: Instruction): number {
  const { memory } = instruction
  if (isSegmented(instruction) || isFrame(instruction)) return -1
  if (memory === Memory.absolute || memory === Memory.moffs)
    return isLea(instruction) ? Carrier.move : Carrier.absolute
  return memory === Memory.index ? Carrier.table : Carrier.field
}

/** Takes the sites of one instruction after another. */
export class OperandCollector {
  readonly #view: DataView
  readonly #builder: TableBuilder
  readonly #window: Window
  readonly #candidates: Candidates
  readonly #background: Background
  readonly #span: number

  constructor(
    code: Uint8Array,
    builder: TableBuilder,
    window: Window,
    candidates: Candidates,
    background: Background,
  ) {
    this.#view = viewOf(code)
    this.#builder = builder
    this.#window = window
    this.#candidates = candidates
    this.#background = background
    this.#span = builder.blob.span
  }

  collect(instruction: Instruction): void {
    if (instruction.branchSize !== 0) this.#branch(instruction)
    else if (instruction.memory === Memory.rip || instruction.memory === Memory.eip)
      this.#ipRelative(instruction)
    else if (instruction.displacementSize >= 4) this.#displacement(instruction)
    if (instruction.immediateSize >= 4) this.#immediate(instruction)
  }

  #internal(distance: number): boolean {
    return distance >= 0 && distance < this.#span
  }

  #branch(instruction: Instruction): void {
    if (instruction.branch16 !== 0) return
    const at = instruction.offset + instruction.branchOffset
    const size = instruction.branchSize
    const next = instruction.offset + instruction.length
    const distance = next + readSigned(this.#view, at, size)
    if (this.#internal(distance)) return
    const kind = size === 4 ? PC32 : size === 1 ? PC8 : PC16
    this.#builder.addRelative(at, kind, distance, ADDRESS_NONE, next - at - size, false)
  }

  #ipRelative(instruction: Instruction): void {
    const at = instruction.offset + instruction.displacementOffset
    const next = instruction.offset + instruction.length
    const distance = next + this.#view.getInt32(at, true)
    const tail = next - at - 4
    const isEip = instruction.memory === Memory.eip
    // An EIP-relative address is the low half of base + distance.
    const low = (this.#window.baseLow + distance) >>> 0
    if (isSegmented(instruction)) {
      // An offset into a segment: it stays what it is, wherever it seems to point.
      const target = isEip ? BigInt(low) : wrapAddress(this.#builder.blob.base + BigInt(distance))
      this.#builder.addFixed(at, isEip ? EIP32 : PC32, target, ADDRESS_NONE, tail)
      return
    }
    if (isEip) {
      this.#builder.addTarget(at, EIP32, BigInt(low), ADDRESS_NONE, tail, isLea(instruction))
      return
    }
    if (this.#internal(distance)) return
    this.#builder.addRelative(at, PC32, distance, ADDRESS_NONE, tail, isLea(instruction))
  }

  #displacement(instruction: Instruction): void {
    const carrier = displacementCarrier(instruction)
    if (carrier < 0) return
    const at = instruction.offset + instruction.displacementOffset
    if (instruction.displacementSize === 8) this.#add64(at, carrier)
    else this.#add32(at, (instruction.prefixes & Prefix.p67) === 0, carrier)
  }

  #immediate(instruction: Instruction): void {
    const at = instruction.offset + instruction.immediateOffset
    let carrier = immediateCarrier(instruction)
    if (carrier < 0) return
    // A negative one has no shorter form.
    if (carrier === Carrier.relaxed && this.#view.getInt32(at, true) < 0) carrier = Carrier.move
    if (instruction.immediateSize === 8) this.#add64(at, carrier)
    else this.#add32(at, instruction.immediateWidth === 8, carrier)
  }

  #add32(at: number, signed: boolean, carrier: number): void {
    const low = this.#view.getUint32(at, true)
    this.#add(at, signed ? ABS32S : ABS32, low, signed && low >= 0x8000_0000 ? 0xffff_ffff : 0, carrier)
  }

  #add64(at: number, carrier: number): void {
    this.#add(at, ABS64, this.#view.getUint32(at, true), this.#view.getUint32(at + 4, true), carrier)
  }

  #add(at: number, kind: number, low: number, high: number, carrier: number): void {
    const window = this.#window
    const value = high * 2 ** 32 + low
    if (value < window.least || value > window.most) return
    this.#background.count(carrier, window.side(low, high), low)
    if (window.has(low, high)) this.#candidates.add(at, kind, low, high, carrier)
  }

  /** Takes the words of the data in [start, end): 8 bytes at every offset, 4 bytes at aligned ones. */
  collectPointers(start: number, end: number): void {
    const view = this.#view
    const { baseLow, least, most } = this.#window
    // Nearly all words are told by their upper half.
    const [leastHigh, mostHigh] = [Math.floor(least / 2 ** 32), most / 2 ** 32]
    for (let at = start; at + 4 <= end; at++) {
      const aligned = (baseLow + at) & 7
      if (at + 8 <= end) {
        const high = view.getUint32(at + 4, true)
        if (high >= leastHigh && high <= mostHigh)
          this.#add64(at, aligned === 0 ? Carrier.word : Carrier.unaligned)
      }
      if ((aligned & 3) === 0 && leastHigh <= 0) this.#add32(at, false, Carrier.half)
    }
  }
}
