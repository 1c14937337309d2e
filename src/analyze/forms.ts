/**
 * What an instruction at each offset of a stretch would be: told once for several readings, one word each. What
 * the fast tables know is not decoded: entry and note say all that a form does.
 */
import { readSigned } from '../core/bytes.ts'
import { lowerBound } from '../core/search.ts'
import { type FastTables, HEADS, NO_BASE, Note, PAGES } from '../x86/fast.ts'
import { Instruction, type InstructionDecoder, MAX_LENGTH, Memory, Prefix } from '../x86/instruction.ts'
import { NO_MODRM, slotOf } from './opcode-key.ts'
import { knownScores, opcodeScore, SCORE_BIAS, slotScore } from './opcode-stats.ts'
import type { Window } from './window.ts'

/** Bits of a form. A form without length is no instruction. */
export const Form = {
  lengthMask: 15,
  /** One of `Flow`, 4 bits. */
  flowShift: 4,
  flowMask: 15,
  /**
   * The relative field of a branch or RIP operand: from the instruction's start, 4 bits; bytes, 3 bits, 0:
   * there is none.
   */
  fieldShift: 8,
  fieldMask: 15,
  sizeShift: 12,
  sizeMask: 7,
  /** The relative field is a RIP operand's; of a lea. */
  rip: 0x8000,
  lea: 0x8_0000,
  /** A displacement, an immediate of 4 bytes, of 8, that lies in a covered range. */
  displacement: 0x1_0000,
  immediate32: 0x2_0000,
  immediate64: 0x4_0000,
  /** How much likelier such instructions are in code than in data: signed, in sixteenths of a natural logarithm. */
  scoreShift: 24,
} as const

/** Whether the constant at `at` is an address of a covered range, read as the CPU would. */
export function holdsAddress(view: DataView, window: Window, at: number, size: number): boolean {
  const low = view.getInt32(at, true)
  return size === 8
    ? window.has(low >>> 0, view.getUint32(at + 4, true))
    : window.has(low >>> 0, low < 0 ? 0xffff_ffff : 0)
}

const LEA = 0x8d

function formOf(view: DataView, window: Window, instruction: Instruction): number {
  const { offset, branchSize, displacementSize, immediateSize } = instruction
  let form =
    instruction.length | (instruction.flow << Form.flowShift) | (opcodeScore(instruction) << Form.scoreShift)
  if (branchSize !== 0) form |= (instruction.branchOffset << Form.fieldShift) | (branchSize << Form.sizeShift)
  else if (instruction.memory === Memory.rip) {
    form |= (instruction.displacementOffset << Form.fieldShift) | (4 << Form.sizeShift) | Form.rip
    if (instruction.opcode === LEA && instruction.map === 0) form |= Form.lea
  } else if (
    displacementSize >= 4 &&
    holdsAddress(view, window, offset + instruction.displacementOffset, displacementSize)
  )
    form |= Form.displacement
  if (immediateSize >= 4 && holdsAddress(view, window, offset + instruction.immediateOffset, immediateSize))
    form |= immediateSize === 8 ? Form.immediate64 : Form.immediate32
  return form
}

export interface FormInput {
  readonly view: DataView
  readonly decoder: InstructionDecoder
  readonly window: Window
  /** Without them the decoder is asked for every instruction. */
  readonly fast: FastTables | undefined
}

const NO_SCORES = new Uint8Array(0)
const CONSTANTS = Note.displacement | Note.noBase | Note.immediate32s | Note.immediate32 | Note.immediate64

/**
 * What entry and note say of a known instruction whose opcode (0F left out) is `skip` bytes behind its start:
 * its form without score and constants.
 */
function relativeForm(skip: number, cell: number, entry: number, note: number): number {
  const form = (skip + (entry & 15)) | ((note & Note.flowMask) << Form.flowShift)
  const field = (entry >> 4) & 3
  if (field === 0) return form
  const relative = form | ((skip + field) << Form.fieldShift)
  if ((note & Note.ip) === 0) return relative | (((entry & 15) - field) << Form.sizeShift)
  const lea = ((cell >> 8) & 0xff) === LEA ? Form.lea : 0
  return relative | (4 << Form.sizeShift) | Form.rip | lea
}

/** Whether the first of four bytes, big-endian, is a REX prefix with W. */
const isWide = (word: number): boolean => word >>> 27 === 0x48 >> 3

/** The score of a known instruction's form. */
function knownScore(word: number, cell: number, note: number): number {
  const page = PAGES[cell >> 16]
  const modrm = (note & Note.modrm) === 0 ? NO_MODRM : cell & 0xff
  return slotScore(slotOf(page >> 4, (cell >> 8) & 0xff, (page & 7) | (isWide(word) ? Prefix.w : 0), modrm))
}

/** Tells forms. */
export class FormReader {
  readonly view: DataView
  readonly #decoder: InstructionDecoder
  readonly #window: Window
  readonly #instruction = new Instruction()
  readonly #fast: FastTables | undefined
  readonly #scores: Uint8Array
  /** From here on the decoder is asked. */
  readonly #end: number

  constructor({ view, decoder, window, fast }: FormInput) {
    this.view = view
    this.#decoder = decoder
    this.#window = window
    this.#fast = fast
    this.#scores = fast === undefined ? NO_SCORES : knownScores(fast)
    this.#end = fast === undefined ? 0 : view.byteLength - MAX_LENGTH
  }

  /** The form at `offset`; 0 where there is no instruction. */
  at(offset: number): number {
    if (offset >= this.#end) return this.#decode(offset)
    const fast = this.#fast!
    const { entries } = fast
    const word = this.view.getInt32(offset, false)
    const head = entries[HEADS | (word >>> 16)]
    const cell = ((head >> 5) << 16) | ((word << (head & 0x18)) >>> 16)
    // Most offsets that no instruction starts at are met once: their entries would be learnt for nothing.
    if (entries[cell] === 0) return this.#decode(offset)
    const place = fast.rows[cell >> 8] | (cell & 0xff)
    const note = fast.notes[place]
    const skip = (head & 0x18) >> 3
    // What a missing base adds to an entry is at the ModRM byte's SIB byte, if at all.
    const more = (entries[cell] >> 4) & entries[NO_BASE | this.view.getUint8(offset + skip + 2)]
    const form = relativeForm(skip, cell, entries[cell], note) + more
    const score = this.#score(word, cell, place, note) << Form.scoreShift
    if ((note & CONSTANTS) === 0) return form | score
    return form | score | this.#addresses(offset + skip, offset + (form & Form.lengthMask), note, more)
  }

  /** The score of the form at `offset`, where an instruction starts. */
  scoreAt(offset: number): number {
    if (offset >= this.#end) return this.#decode(offset) >> Form.scoreShift
    const { entries, rows, notes } = this.#fast!
    const word = this.view.getInt32(offset, false)
    const head = entries[HEADS | (word >>> 16)]
    const cell = ((head >> 5) << 16) | ((word << (head & 0x18)) >>> 16)
    if (entries[cell] === 0) return this.#decode(offset) >> Form.scoreShift
    const place = rows[cell >> 8] | (cell & 0xff)
    return this.#score(word, cell, place, notes[place])
  }

  /** The score of a known instruction, whose note is at `place`. */
  #score(word: number, cell: number, place: number, note: number): number {
    // REX.W does not change the entries of 0F, but their scores.
    const at = isWide(word) ? place | HEADS : place
    const above = (this.#scores[at] ||= knownScore(word, cell, note) + SCORE_BIAS + 1)
    return above - SCORE_BIAS - 1
  }

  /** Which constants of a known instruction are addresses; its opcode is at `opcode`, and it ends before `end`. */
  #addresses(opcode: number, end: number, note: number, more: number): number {
    const { view } = this
    const window = this.#window
    let form = 0
    if ((note & Note.displacement) !== 0 || more !== 0) {
      const at = opcode + ((note & Note.displacement) !== 0 && (note & Note.sib) === 0 ? 2 : 3)
      if (holdsAddress(view, window, at, 4)) form |= Form.displacement
    }
    if ((note & (Note.immediate32 | Note.immediate32s)) !== 0 && holdsAddress(view, window, end - 4, 4))
      form |= Form.immediate32
    if ((note & Note.immediate64) !== 0 && holdsAddress(view, window, end - 8, 8)) form |= Form.immediate64
    return form
  }

  #decode(offset: number): number {
    const instruction = this.#instruction
    return this.#decoder.decode(offset, instruction) === 0 ? 0 : formOf(this.view, this.#window, instruction)
  }
}

/** The forms of the instructions at every offset of some zones, and of others where they are asked for. */
export class Forms {
  readonly #reader: FormReader
  readonly #zones: readonly number[]
  readonly #words: readonly Int32Array[]
  /** The zone that was asked for last: its start, its forms. */
  #start = 0
  #here: Int32Array = new Int32Array(0)

  /** @param zones pairs of offsets, ascending */
  constructor(reader: FormReader, zones: readonly number[]) {
    this.#reader = reader
    this.#zones = zones
    this.#words = Array.from({ length: zones.length / 2 }, (_, i) =>
      this.#read(zones[2 * i], zones[2 * i + 1]),
    )
  }

  #read(start: number, end: number): Int32Array {
    const reader = this.#reader
    const forms = new Int32Array(end - start)
    for (let at = start; at < end; at++) forms[at - start] = reader.at(at)
    return forms
  }

  /** Of the zone with number `i`, by offset from its start. */
  zone(i: number): Int32Array {
    return this.#words[i]
  }

  /** The form at an offset; fastest where the last one was. */
  at(offset: number): number {
    const i = offset - this.#start
    return i >= 0 && i < this.#here.length ? this.#here[i] : this.#seek(offset)
  }

  #seek(offset: number): number {
    const zones = this.#zones
    const zone = (lowerBound(zones, offset + 1) - 1) >> 1
    if (zone < 0 || offset >= zones[2 * zone + 1]) return this.#reader.at(offset)
    this.#start = zones[2 * zone]
    this.#here = this.#words[zone]
    return this.#here[offset - this.#start]
  }

  /**
   * Distance from the base of what the relative operand at `offset`, of that form, points at; undefined without one.
   */
  target(offset: number, form: number): number | undefined {
    return isRelative(form) ? formTarget(this.#reader.view, form, offset) : undefined
  }

  /** Every instruction start of some runs (pairs of offsets, ascending). */
  startsOf(runs: readonly number[]): Uint32Array {
    let bytes = 0
    for (let run = 0; run < runs.length; run += 2) bytes += runs[run + 1] - runs[run]
    const starts = new Uint32Array(bytes)
    let count = 0
    for (let run = 0; run < runs.length; run += 2) {
      const end = runs[run + 1]
      for (let at = runs[run]; at < end; at += this.at(at) & Form.lengthMask) starts[count++] = at
    }
    return starts.subarray(0, count)
  }
}

/** Distance from the base of what the relative field of an instruction of `form` at `offset` points at. */
export function formTarget(view: DataView, form: number, offset: number): number {
  const size = (form >> Form.sizeShift) & Form.sizeMask
  const at = offset + ((form >> Form.fieldShift) & Form.fieldMask)
  return offset + (form & Form.lengthMask) + readSigned(view, at, size)
}

/** One of `Flow` of a form. */
export const flowOf = (form: number): number => (form >> Form.flowShift) & Form.flowMask

/** Whether a form has a relative field. */
export const isRelative = (form: number): boolean => (form & (Form.sizeMask << Form.sizeShift)) !== 0
