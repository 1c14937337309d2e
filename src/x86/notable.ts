/**
 * Which of many instructions an analysis has to look at: those that divert the flow or have a relative operand, those with a constant in a
 * window of addresses, those that may join constants. Most of compiled code is none of these, and is passed over for
 * a few loads each; as the starts are known, none waits for another's length.
 */
import { ADDRESS_LIMIT } from '../core/address.ts'
import { viewOf } from '../core/bytes.ts'
import type { AddressRange } from '../core/range.ts'
import {
  type FastTables,
  fastTablesFor,
  HEADS,
  isWorthFastTables,
  JOINING,
  joinsWith,
  NO_BASE,
  Note,
  notesFor,
} from './fast.ts'
import type { DecoderOptions } from './iced.ts'
import { Encoding, Flow, Instruction, type InstructionDecoder, Memory, Prefix } from './instruction.ts'
import { createTableDecoder } from './scanner.ts'

/** Chooses among the instructions that may join constants; asked in ascending order. `opcode` is the offset of the opcode byte. */
export interface Watch {
  /** Whether to watch one of the one-byte map with a `JOINING` opcode that `joinsWith` what follows. */
  joins(start: number, opcode: number): boolean
  /** Whether to watch one with a 4-byte displacement beside a base register. */
  displaces(start: number, opcode: number): boolean
}

export interface NotableOptions extends DecoderOptions {
  /** Immediates and displacements of 4 and 8 bytes whose 64-bit value lies here or at its end make an instruction notable. */
  readonly window: AddressRange
  readonly watch: Watch
}

/** Offsets of instructions, ascending. */
export interface Notable {
  /** With a constant in the window. */
  readonly constants: Uint32Array
  /** With a flow that is not to go on, or a RIP- or EIP-relative operand. */
  readonly ends: Uint32Array
  /** Wanted by `watch`. */
  readonly watched: Uint32Array
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
  joins: JOINS,
} = Note
const CONSTANTS = DISPLACEMENT | NO_BASE_NOTE | IMMEDIATE_32S | IMMEDIATE_32 | IMMEDIATE_64
/** Every flow but going on. */
const DIVERTS = 0x1fff & ~(1 << Flow.next)
/** For code that the tables do not pay for: then the decoder is asked for every instruction. */
const NO_TABLES = new Uint8Array(0)
const NO_NOTES = new Uint16Array(0)
/** No load of a known instruction passes the end from here. */
const MARGIN = 32

/** What is notable of the instructions in `code` that start at `starts`. */
export function findNotable(code: Uint8Array, starts: Uint32Array, options: NotableOptions): Notable {
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
  readonly #window: ValueWindow
  readonly #watch: Watch

  constructor(code: Uint8Array, fast: FastTables, notes: Uint16Array, options: NotableOptions) {
    this.#view = viewOf(code)
    this.#fast = fast
    this.#notes = notes
    this.#decoder = createTableDecoder(code, options)
    this.#window = new ValueWindow(options.window)
    this.#watch = options.watch
  }

  find(starts: Uint32Array): Notable {
    const view = this.#view
    const fast = this.#fast
    const notes = this.#notes
    const watch = this.#watch
    // What of a note asks for a closer look. No 32-bit constant lies in a high window.
    const constants = this.#window.has32 ? CONSTANTS : IMMEDIATE_64
    const look = constants | DISPLACEMENT | JOINS
    const end = fast.length === 0 ? 0 : view.byteLength - MARGIN
    const found = new Uint32Array(starts.length)
    const ends = new Uint32Array(starts.length)
    const watched = new Uint32Array(starts.length)
    let [count, endCount, watchedCount] = [0, 0, 0]
    for (let i = 0; i < starts.length; i++) {
      // Below 2^31, and the compiler is to know it.
      const start = starts[i] | 0
      let isKnown = start < end
      if (isKnown) {
        const word = view.getInt32(start, false)
        const head = fast[H | (word >>> 16)]
        const skip = head & 0x18
        const index = ((head >> 5) << 16) | ((word << skip) >>> 16)
        const note = notes[index]
        ends[endCount] = start
        endCount += ((DIVERTS >>> (note & FLOW)) | ((note & IP) >> 4)) & 1
        if (((note & look) | (~note & KNOWN)) === 0) continue
        isKnown = (note & KNOWN) !== 0
        if (isKnown) {
          const opcode = start + (skip >> 3)
          if ((note & constants) !== 0 && this.#hasValue(note, opcode, fast[index])) found[count++] = start
          if (
            ((note & JOINS) !== 0 && watch.joins(start, opcode)) ||
            ((note & DISPLACEMENT) !== 0 && watch.displaces(start, opcode))
          )
            watched[watchedCount++] = start
        }
      }
      if (isKnown) continue
      const instruction = this.#instruction
      if (this.#decoder.decode(start, instruction) === 0) continue
      if (instruction.flow !== Flow.next || instruction.memory >= Memory.rip) ends[endCount++] = start
      if (this.#holdsValue(instruction)) found[count++] = start
      if (this.#isWatched(instruction)) watched[watchedCount++] = start
    }
    return {
      constants: found.subarray(0, count),
      ends: ends.subarray(0, endCount),
      watched: watched.subarray(0, watchedCount),
    }
  }

  /** Whether a constant of a known instruction lies in the window; its entry tells where they are. */
  #hasValue(note: number, opcode: number, entry: number): boolean {
    const view = this.#view
    const window = this.#window
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

  /** Whether a constant of an instruction that the tables do not know lies in the window. */
  #holdsValue(instruction: Instruction): boolean {
    const { offset, displacementSize, immediateSize } = instruction
    if (displacementSize >= 4 && instruction.memory < Memory.rip) {
      const signed = displacementSize === 4 && (instruction.prefixes & Prefix.p67) === 0
      if (this.#has(offset + instruction.displacementOffset, displacementSize, signed)) return true
    }
    if (immediateSize < 4) return false
    return this.#has(
      offset + instruction.immediateOffset,
      immediateSize,
      instruction.immediateWidth > immediateSize,
    )
  }

  /** Whether an instruction is watched that the tables do not know. */
  #isWatched(instruction: Instruction): boolean {
    const { offset, encoding, map } = instruction
    const { modrmOffset, immediateOffset, branchOffset, length } = instruction
    // In the one-byte map, whatever comes first behind the opcode.
    const opcode = offset + (modrmOffset || immediateOffset || branchOffset || length) - 1
    const isWide = (instruction.prefixes & Prefix.w) !== 0
    const joins =
      encoding === Encoding.legacy &&
      map === 0 &&
      JOINING.includes(instruction.opcode) &&
      joinsWith(
        instruction.opcode,
        opcode + 1 < this.#view.byteLength ? this.#view.getUint8(opcode + 1) : 0,
        isWide,
      )
    if (joins && this.#watch.joins(offset, opcode)) return true
    const isDisplaced = instruction.memory === Memory.base && instruction.displacementSize === 4
    return isDisplaced && this.#watch.displaces(offset, opcode)
  }

  #has(at: number, size: number, signed: boolean): boolean {
    if (signed) return this.#window.hasSigned(this.#view.getInt32(at, true))
    return this.#window.hasHalves(
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
  /** Whether a 32-bit constant, zero- or sign-extended, can lie in it. */
  readonly has32: boolean

  constructor({ start, end }: AddressRange) {
    this.#low = Number(start & 0xffff_ffffn)
    this.#high = Number(start >> 32n)
    this.#span = Number(end - start)
    this.has32 = start < 1n << 32n || end >= ADDRESS_LIMIT - (1n << 31n)
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
