/**
 * Which of many instructions an analysis has to look at: those that divert the flow, those with a relative operand,
 * those with a constant in a window of addresses. Most of compiled code is none of these, and is passed over for
 * a few loads each; as the starts are known, none waits for another's length.
 */
import { viewOf } from '../core/bytes.ts'
import type { AddressRange } from '../core/range.ts'
import { type FastTables, fastTablesFor, HEADS, isWorthFastTables, NO_BASE, Note, notesFor } from './fast.ts'
import type { DecoderOptions } from './iced.ts'
import { Instruction, type InstructionDecoder, Memory, Prefix } from './instruction.ts'
import { createTableDecoder } from './scanner.ts'

export interface NotableOptions extends DecoderOptions {
  /** Wanted classes of `Flow`: bit n is class n. Default none. */
  readonly flows?: number | undefined
  /** RIP- and EIP-relative operands are wanted. Default no. */
  readonly ipRelative?: boolean | undefined
  /** Wanted: immediates and displacements of 4 and 8 bytes whose 64-bit value lies in the window or at its end. */
  readonly window?: AddressRange | undefined
}

// See the scanner: constants of this module are constants of the machine code.
const H = HEADS
const N = NO_BASE
const { flowMask: FLOW, ip: IP, displacement: DISPLACEMENT, sib: SIB, noBase: NO_BASE_NOTE } = Note
const {
  immediate32s: IMMEDIATE_32S,
  immediate32: IMMEDIATE_32,
  immediate64: IMMEDIATE_64,
  known: KNOWN,
} = Note
const CONSTANTS = DISPLACEMENT | NO_BASE_NOTE | IMMEDIATE_32S | IMMEDIATE_32 | IMMEDIATE_64
/** For code that the tables do not pay for: then the decoder is asked for every instruction. */
const NO_TABLES = new Uint8Array(0)
const NO_NOTES = new Uint16Array(0)
/** No load of a known instruction passes the end from here. */
const MARGIN = 32

/** The starts among `starts` (offsets of instructions in `code`) of the instructions that are wanted, in the same order. */
export function findNotable(code: Uint8Array, starts: Uint32Array, options: NotableOptions): Uint32Array {
  const cpu = options.cpu ?? 'intel'
  // Four bytes are an instruction, near enough.
  const isFast = isWorthFastTables(cpu, 4 * starts.length)
  const [fast, notes] = isFast ? [fastTablesFor(cpu), notesFor(cpu)] : [NO_TABLES, NO_NOTES]
  return new Finder(code, fast, notes, options).find(starts)
}

class Finder {
  readonly #view: DataView
  readonly #fast: FastTables
  readonly #notes: Uint16Array
  readonly #decoder: InstructionDecoder
  readonly #instruction = new Instruction()
  readonly #flows: number
  readonly #ip: number
  readonly #window: ValueWindow | undefined

  constructor(code: Uint8Array, fast: FastTables, notes: Uint16Array, options: NotableOptions) {
    this.#view = viewOf(code)
    this.#fast = fast
    this.#notes = notes
    this.#decoder = createTableDecoder(code, options)
    this.#flows = options.flows ?? 0
    this.#ip = options.ipRelative === true ? IP : 0
    this.#window = options.window === undefined ? undefined : new ValueWindow(options.window)
  }

  find(starts: Uint32Array): Uint32Array {
    const view = this.#view
    const fast = this.#fast
    const notes = this.#notes
    const flows = this.#flows
    const ip = this.#ip
    const constants = this.#window === undefined ? 0 : CONSTANTS
    const end = fast.length === 0 ? 0 : view.byteLength - MARGIN
    const found = new Uint32Array(starts.length)
    let count = 0
    for (let i = 0; i < starts.length; i++) {
      // Below 2^31, and the compiler is to know it.
      const start = starts[i] | 0
      found[count] = start
      if (start >= end) {
        if (this.#ask(start)) count++
        continue
      }
      const word = view.getInt32(start, false)
      const head = fast[H | (word >>> 16)]
      const skip = head & 0x18
      const index = ((head >> 5) << 16) | ((word << skip) >>> 16)
      const note = notes[index]
      const hit = ((flows >>> (note & FLOW)) | ((note & ip) >> 4)) & 1
      count += hit
      if (hit !== 0 || ((note & constants) | (~note & KNOWN)) === 0) continue
      if ((note & KNOWN) === 0 ? this.#ask(start) : this.#hasValue(note, start + (skip >> 3), fast[index]))
        count++
    }
    return found.subarray(0, count)
  }

  /** Whether a constant of a known instruction lies in the window; its entry tells where they are. */
  #hasValue(note: number, opcode: number, entry: number): boolean {
    const view = this.#view
    const window = this.#window!
    const more = (entry >> 4) & this.#fast[N | view.getUint8(opcode + 2)]
    if ((note & DISPLACEMENT) !== 0) {
      if (window.hasSigned(view.getInt32(opcode + ((note & SIB) === 0 ? 2 : 3), true))) return true
    } else if (more !== 0 && window.hasSigned(view.getInt32(opcode + 3, true))) return true
    const end = opcode + (entry & 15) + more
    if ((note & IMMEDIATE_32S) !== 0) return window.hasSigned(view.getInt32(end - 4, true))
    if ((note & IMMEDIATE_32) !== 0) return window.hasHalves(view.getUint32(end - 4, true), 0)
    if ((note & IMMEDIATE_64) === 0) return false
    return window.hasHalves(view.getUint32(end - 8, true), view.getUint32(end - 4, true))
  }

  /** Whether an instruction is wanted that the tables do not know. */
  #ask(start: number): boolean {
    const instruction = this.#instruction
    if (this.#decoder.decode(start, instruction) === 0) return false
    if (((this.#flows >>> instruction.flow) & 1) !== 0) return true
    if (instruction.memory >= Memory.rip) {
      if (this.#ip !== 0) return true
    } else if (instruction.displacementSize >= 4) {
      const signed = instruction.displacementSize === 4 && (instruction.prefixes & Prefix.p67) === 0
      if (this.#has(start + instruction.displacementOffset, instruction.displacementSize, signed)) return true
    }
    const { immediateSize: size } = instruction
    return (
      size >= 4 && this.#has(start + instruction.immediateOffset, size, instruction.immediateWidth > size)
    )
  }

  #has(at: number, size: number, signed: boolean): boolean {
    const window = this.#window
    if (window === undefined) return false
    if (signed) return window.hasSigned(this.#view.getInt32(at, true))
    return window.hasHalves(
      this.#view.getUint32(at, true),
      size === 8 ? this.#view.getUint32(at + 4, true) : 0,
    )
  }
}

/** Which values lie in `[start, end]`, without a bigint per question. */
class ValueWindow {
  readonly #low: number
  readonly #high: number
  readonly #span: number

  constructor({ start, end }: AddressRange) {
    this.#low = Number(start & 0xffff_ffffn)
    this.#high = Number(start >> 32n)
    this.#span = Number(end - start)
  }

  /** Of the value in two unsigned halves. */
  hasHalves(low: number, high: number): boolean {
    const distance = (high - this.#high) * 2 ** 32 + (low - this.#low)
    return distance >= 0 && distance <= this.#span
  }

  /** Of a signed 32-bit value, sign-extended to 64. */
  hasSigned(value: number): boolean {
    return this.hasHalves(value >>> 0, value < 0 ? 0xffff_ffff : 0)
  }
}
