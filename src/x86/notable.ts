/**
 * What an analysis has to know of many instructions, in columns: where control leaves the line and where it
 * goes, which relative operands leave the blob, which constants lie in a window of addresses, which
 * instructions may join constants. Most of compiled code is none of these: the sweep has left it out, and
 * what it has left in is told apart here by a few loads each. As the starts are known, none waits for
 * another's length.
 */
import { viewOf } from '../core/bytes.ts'
import type { AddressRange } from '../core/range.ts'
import { type FastTables, fastTablesFor, HEADS, isJoining, joinsWith, NO_BASE, Note } from './fast.ts'
import type { DecoderOptions } from './iced.ts'
import { Encoding, Flow, Instruction, type InstructionDecoder, Memory, Prefix } from './instruction.ts'
import { Ends, Joins, joinShape, Outside, outsideShape, Rows } from './notable-rows.ts'
import { createTableDecoder } from './scanner.ts'
import { relativeTarget } from './target.ts'
import { ValueWindow } from './value-window.ts'

export interface NotableOptions extends DecoderOptions {
  /**
   * Immediates and displacements of 4 and 8 bytes whose 64-bit value lies here or at its end make an
   * instruction notable.
   */
  readonly window: AddressRange
  /** Bytes of the moved range: relative operands that leave it are outside. */
  readonly span: number
  /**
   * Bytes behind an instruction that gives a register a label within which displacements beside a base are of
   * interest; default: everywhere.
   */
  readonly labelReach?: number | undefined
  /** Asked in place of the tables. */
  readonly decoder?: InstructionDecoder | undefined
}

/** Rows ascend by start. */
export interface Notable {
  /**
   * Instructions with operands to be decoded: with a constant in the window; prefixed branches, EIP operands
   * and others that are rare.
   */
  readonly operands: Rows
  /** Instructions that divert the flow or have a RIP- or EIP-relative operand. */
  readonly ends: Ends
  /** Those of them that jump indirectly. */
  readonly jumps: Rows
  /** Those of them whose relative operand leaves the moved range. */
  readonly outside: Outside
  /** Instructions that may join constants, or use a label. */
  readonly joins: Joins
  /** Instructions that give a register a label: `lea` of a RIP operand, a call of the next instruction. */
  readonly labels: Rows
  /** Those of the former that take the address of what is just before them, in the linear reading. */
  readonly own: Rows
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
const IMMEDIATES = IMMEDIATE_32S | IMMEDIATE_32 | IMMEDIATE_64
const CONSTANTS = DISPLACEMENT | NO_BASE_NOTE | IMMEDIATES
const [LEA, CALL] = [0x8d, 0xe8]
/** Bytes before an instruction that are just before it. */
const NEAR = 64
/** Instructions between looks at whether there is room. */
const CHUNK = 4096
/** No load of a known instruction passes the end from here. */
const MARGIN = 32

/** What is notable of the instructions in `code` that start at `starts`, ascending. */
export function findNotable(code: Uint8Array, starts: Uint32Array, options: NotableOptions): Notable {
  const finder = new NotableFinder(code, 4 * starts.length, options)
  finder.take(starts)
  return finder.finish()
}

/** Takes instructions in ascending order. */
export class NotableFinder {
  readonly #view: DataView
  /** Without tables the decoder is asked for every instruction. */
  readonly #fast: FastTables | undefined
  readonly #decoder: InstructionDecoder
  readonly #instruction = new Instruction()
  readonly #window: ValueWindow
  readonly #span: number
  readonly #operands: Rows
  readonly #ends: Ends
  readonly #jumps: Rows
  readonly #outside: Outside
  readonly #joins: Joins
  readonly #labels: Rows
  readonly #own: Rows
  readonly #all: readonly Rows[]
  readonly #labelReach: number
  /** The last instruction that gave a register a label. */
  #label = Number.NEGATIVE_INFINITY

  /** @param bytes of code, about, that it will be asked for */
  constructor(code: Uint8Array, bytes: number, options: NotableOptions) {
    this.#view = viewOf(code)
    this.#fast = options.decoder === undefined ? fastTablesFor(options.cpu ?? 'intel') : undefined
    this.#decoder = options.decoder ?? createTableDecoder(code, options)
    this.#window = new ValueWindow(options.window)
    this.#span = options.span
    // About what there is in compiled code.
    this.#operands = new Rows(bytes >>> 7)
    this.#ends = new Ends(bytes >>> 4)
    this.#jumps = new Rows(0)
    this.#outside = new Outside(bytes >>> 7)
    this.#joins = new Joins(bytes >>> 5)
    this.#labels = new Rows(bytes >>> 8)
    this.#own = new Rows(0)
    this.#all = Object.values(this.#found())
    this.#labelReach = options.labelReach ?? Number.POSITIVE_INFINITY
  }

  take(starts: Uint32Array): void {
    for (let i = 0; i < starts.length; ) {
      const end = Math.min(starts.length, i + CHUNK)
      this.#reserve(end - i)
      const fast = this.#fast
      if (fast === undefined) for (; i < end; i++) this.#ask(starts[i])
      else
        for (i = this.#findKnown(fast, starts, i, end); i < end; i = this.#findKnown(fast, starts, i, end))
          if (!this.#learns(fast, starts[i])) this.#ask(starts[i++])
    }
  }

  /** Whether the tables know the instruction at `start` from now on. */
  #learns(fast: FastTables, start: number): boolean {
    return start < this.#view.byteLength - MARGIN && fast.learn(this.#view.getInt32(start, false))
  }

  finish(): Notable {
    for (const rows of this.#all) rows.trim()
    return this.#found()
  }

  /** Makes room for so many instructions: a call of the next one makes two rows. */
  #reserve(instructions: number): void {
    for (const rows of this.#all) rows.reserve(2 * instructions)
  }

  #found(): Notable {
    return {
      operands: this.#operands,
      ends: this.#ends,
      jumps: this.#jumps,
      outside: this.#outside,
      joins: this.#joins,
      labels: this.#labels,
      own: this.#own,
    }
  }

  /**
   * Takes the instructions from index `from` on that the tables know; returns the index of the first that
   * they do not know, or `to`. All in one loop over local arrays, and as few branches as may be: which way
   * they go depends on the code at hand, and a wrong guess costs as much as all the rest.
   */
  #findKnown(tables: FastTables, starts: Uint32Array, from: number, to: number): number {
    const view = this.#view
    const { entries: fast, rows, notes } = tables
    const [length, span] = [view.byteLength, this.#span]
    const { starts: endStarts, kinds, targets } = this.#ends
    const { starts: outsideStarts, distances, fields, shapes } = this.#outside
    const { starts: joinStarts, shapes: joinShapes } = this.#joins
    let [ends, outside, joins] = [this.#ends.count, this.#outside.count, this.#joins.count]
    // What of a note asks for a closer look. No 32-bit constant lies in a high window.
    const constants = this.#window.has32 ? CONSTANTS : IMMEDIATE_64
    const last = length - MARGIN
    const reach = this.#labelReach
    let i = from
    for (; i < to; i++) {
      // Below 2^31, and the compiler is to know it.
      const start = starts[i] | 0
      if (start >= last) break
      const word = view.getInt32(start, false)
      const head = fast[H | (word >>> 16)]
      const skip = head & 0x18
      const cell = ((head >> 5) << 16) | ((word << skip) >>> 16)
      const note = notes[rows[cell >> 8] | (cell & 0xff)]
      if ((note & KNOWN) === 0) break
      const entry = fast[cell]
      const opcode = start + (skip >> 3)
      let isRare = false
      if ((note & (FLOW | IP)) !== 0) {
        const field = (entry >> 4) & 3
        const next = opcode + (entry & 15)
        const isRip = (note & IP) !== 0
        const size = isRip ? 4 : next - opcode - field
        // One byte or four.
        const shift = (4 - size) << 3
        const distance = next + ((view.getInt32(opcode + field, true) << shift) >> shift)
        const isInside = field !== 0 && distance >= 0 && distance < length
        const lea = isRip && view.getUint8(opcode) === LEA ? Ends.lea : 0
        endStarts[ends] = start
        kinds[ends] = (note & FLOW) | (isRip ? Ends.rip : 0) | lea
        targets[ends++] = isInside ? distance : -1
        if (field !== 0 && !isInside && (distance < 0 || distance >= span)) {
          outsideStarts[outside] = start
          distances[outside] = distance
          fields[outside] = opcode + field
          shapes[outside++] = outsideShape(size, next - opcode - field - size, lea !== 0)
        }
        if (lea !== 0) this.#takeLabel(start, distance)
        if ((note & FLOW) === Flow.indirectJump) this.#jumps.push(start)
        // A branch with prefix 66.
        isRare = skip !== 0 && !isRip && field !== 0 && view.getUint8(start) === 0x66
      }
      if (isRare || ((note & constants) !== 0 && this.#hasValue(fast, note, opcode, entry))) {
        this.#operands.push(start)
        if (outside > 0 && outsideStarts[outside - 1] === start) fields[outside - 1] = 0
      }
      if ((note & JOINS) === 0 && ((note & DISPLACEMENT) === 0 || start - this.#label > reach)) continue
      joinStarts[joins] = start
      joinShapes[joins++] = joinShape(skip >> 3, (note & JOINS) !== 0, (note & DISPLACEMENT) !== 0)
      if ((note & JOINS) !== 0 && view.getUint8(opcode) === CALL) {
        this.#joins.count = joins
        this.#mayPop(start, opcode)
        joins = this.#joins.count
      }
    }
    this.#ends.count = ends
    this.#outside.count = outside
    this.#joins.count = joins
    return i
  }

  /** lea gives a register the label at `distance`. */
  #takeLabel(start: number, distance: number): void {
    this.#label = start
    this.#labels.push(start)
    if (distance <= start && distance >= start - NEAR) this.#own.push(start)
  }

  /** A call of the next instruction: that pops the label, perhaps. */
  #mayPop(start: number, call: number): void {
    const view = this.#view
    if (view.getInt32(call + 1, true) !== 0) return
    this.#label = start
    this.#labels.push(start)
    const next = call + 5
    const pop = next + 1 < view.byteLength && (view.getUint8(next) & 0xf0) === 0x40 ? next + 1 : next
    if (pop < view.byteLength && (view.getUint8(pop) & 0xf8) === 0x58) this.#joins.add(next, pop, true, false)
  }

  /** Whether a constant of a known instruction lies in the window; its entry tells where they are. */
  #hasValue(fast: Uint8Array, note: number, opcode: number, entry: number): boolean {
    const view = this.#view
    const window = this.#window
    const more = (entry >> 4) & fast[N | view.getUint8(opcode + 2)]
    if ((note & DISPLACEMENT) !== 0 || more !== 0) {
      const at = opcode + ((note & (DISPLACEMENT | SIB)) === DISPLACEMENT ? 2 : 3)
      if (window.hasSigned(view.getInt32(at, true))) return true
    }
    if ((note & IMMEDIATES) === 0) return false
    const end = opcode + (entry & 15) + more
    const last = view.getInt32(end - 4, true)
    if ((note & IMMEDIATE_32S) !== 0) return window.hasSigned(last)
    return (note & IMMEDIATE_32) !== 0
      ? window.hasHalves(last >>> 0, 0)
      : window.hasHalves(view.getUint32(end - 8, true), last >>> 0)
  }

  /** Takes an instruction that the tables do not know. */
  #ask(start: number): void {
    if (this.#decoder.decode(start, this.#instruction) > 0) this.#note(this.#instruction)
  }

  #note(instruction: Instruction): void {
    const start = instruction.offset
    const { flow, memory, prefixes, branchSize } = instruction
    const isGeneral = instruction.encoding === Encoding.legacy && instruction.map === 0
    // A target cut to 16 bits is no distance.
    const distance = instruction.branch16 === 0 ? relativeTarget(this.#view, instruction) : undefined
    if (distance !== undefined) {
      const isRip = branchSize === 0
      const field = isRip ? instruction.displacementOffset : instruction.branchOffset
      const size = branchSize || 4
      const isLea = isRip && isGeneral && instruction.opcode === LEA
      const isInside = distance >= 0 && distance < this.#view.byteLength
      const kind = flow | (isRip ? Ends.rip : 0) | (isLea ? Ends.lea : 0)
      this.#ends.add(start, kind, isInside ? distance : -1)
      if (isLea) this.#takeLabel(start, distance)
      if (!isInside && (distance < 0 || distance >= this.#span))
        this.#outside.add(start, distance, start + field, size, instruction.length - field - size, isLea)
    } else if (flow !== Flow.next || memory === Memory.eip) this.#ends.add(start, flow, -1)
    if (flow === Flow.indirectJump) this.#jumps.push(start)
    // Offsets into segments stay what they are, wherever they seem to point; 66 cuts branches.
    const isOdd =
      memory === Memory.eip ||
      (memory === Memory.rip && (prefixes & (Prefix.fs | Prefix.gs)) !== 0) ||
      (branchSize !== 0 && (prefixes & Prefix.p66) !== 0)
    if (isOdd || this.#holdsValue(instruction)) {
      this.#operands.push(start)
      this.#outside.leaveToDecoder(start)
    }
    this.#askForJoins(instruction, isGeneral)
  }

  #askForJoins(instruction: Instruction, isGeneral: boolean): void {
    const { offset, opcode, modrmOffset, immediateOffset, branchOffset, length } = instruction
    const mayJoin = isGeneral && isJoining(opcode)
    const displaces = instruction.memory === Memory.base && instruction.displacementSize === 4
    if (!mayJoin && !displaces) return
    // In the one-byte map, whatever comes first behind the opcode.
    const at = offset + (modrmOffset || immediateOffset || branchOffset || length) - 1
    const next = at + 1 < this.#view.byteLength ? this.#view.getUint8(at + 1) : 0
    const joins = mayJoin && joinsWith(opcode, next, (instruction.prefixes & Prefix.w) !== 0)
    if (joins || (displaces && offset - this.#label <= this.#labelReach))
      this.#joins.add(offset, at, joins, displaces)
    if (joins && opcode === CALL) this.#mayPop(offset, at)
  }

  /** Whether a constant of an instruction that the tables do not know lies in the window. */
  #holdsValue(instruction: Instruction): boolean {
    const { offset, displacementSize, immediateSize } = instruction
    if (displacementSize < 4 && immediateSize < 4) return false
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

  #has(at: number, size: number, signed: boolean): boolean {
    if (signed) return this.#window.hasSigned(this.#view.getInt32(at, true))
    return this.#window.hasHalves(
      this.#view.getUint32(at, true),
      size === 8 ? this.#view.getUint32(at + 4, true) : 0,
    )
  }
}
