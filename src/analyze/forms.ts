/** What an instruction at each offset of a stretch would be: decoded once for several readings, one word each. */
import { readSigned } from '../core/bytes.ts'
import { lowerBound } from '../core/search.ts'
import { Instruction, type InstructionDecoder, Memory } from '../x86/instruction.ts'
import { opcodeScore } from './opcode-stats.ts'
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

function formOf(view: DataView, window: Window, instruction: Instruction): number {
  const { offset, branchSize, displacementSize, immediateSize } = instruction
  let form =
    instruction.length | (instruction.flow << Form.flowShift) | (opcodeScore(instruction) << Form.scoreShift)
  if (branchSize !== 0) form |= (instruction.branchOffset << Form.fieldShift) | (branchSize << Form.sizeShift)
  else if (instruction.memory === Memory.rip) {
    form |= (instruction.displacementOffset << Form.fieldShift) | (4 << Form.sizeShift) | Form.rip
    if (instruction.opcode === 0x8d && instruction.map === 0) form |= Form.lea
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
}

/** The forms of the instructions at every offset of some zones, and of others where they are asked for. */
export class Forms {
  readonly #in: FormInput
  readonly #instruction = new Instruction()
  readonly #zones: readonly number[]
  readonly #words: readonly Int32Array[]
  /** The zone that was asked for last: its start, its forms. */
  #start = 0
  #here: Int32Array = new Int32Array(0)

  /** @param zones pairs of offsets, ascending */
  constructor(input: FormInput, zones: readonly number[]) {
    this.#in = input
    this.#zones = zones
    this.#words = Array.from({ length: zones.length / 2 }, (_, i) =>
      this.#read(zones[2 * i], zones[2 * i + 1]),
    )
  }

  #read(start: number, end: number): Int32Array {
    const { view, decoder, window } = this.#in
    const instruction = this.#instruction
    const forms = new Int32Array(end - start)
    const last = view.byteLength - 1
    let zeros: number | undefined
    for (let at = start; at < end; at++) {
      // A third of all data, and one instruction wherever they stand: add [rax], al.
      const isZeros = at < last && view.getUint16(at, true) === 0
      if (isZeros && zeros !== undefined) forms[at - start] = zeros
      else if (decoder.decode(at, instruction) !== 0) forms[at - start] = formOf(view, window, instruction)
      if (isZeros) zeros = forms[at - start]
    }
    return forms
  }

  #decode(offset: number): number {
    const { view, decoder, window } = this.#in
    const instruction = this.#instruction
    return decoder.decode(offset, instruction) === 0 ? 0 : formOf(view, window, instruction)
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
    if (zone < 0 || offset >= zones[2 * zone + 1]) return this.#decode(offset)
    this.#start = zones[2 * zone]
    this.#here = this.#words[zone]
    return this.#here[offset - this.#start]
  }

  /**
   * Distance from the base of what the relative operand at `offset`, of that form, points at; undefined without one.
   */
  target(offset: number, form: number): number | undefined {
    return isRelative(form) ? formTarget(this.#in.view, form, offset) : undefined
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
