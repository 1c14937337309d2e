/** What lies at an offset, as far as a pointer to it is concerned. Asked for few offsets, so nothing is prepared. */
import { endsFlow, Flow, Instruction, type InstructionDecoder } from '../x86/instruction.ts'
import type { CodeMap } from './code-map.ts'
import { Mark } from './marks.ts'

/** What a pointer can find. */
export const Place = {
  /** Where code begins: the first instruction of a run, or behind a jump or return (and padding). */
  entry: 0,
  /** Another instruction that a branch reaches. */
  label: 1,
  /** Another instruction. */
  instruction: 2,
  /** Inside an instruction. */
  inside: 3,
  /** Data that begins at a multiple of 8, behind a zero byte, or is the zero at a text's end. */
  object: 4,
  /** Other data. */
  data: 5,
  /** Behind the bytes, in the zero-initialised rest of the moved range. */
  zero: 6,
  /** The very end of the moved range. */
  end: 7,
} as const

/** nop, int3 and multi-byte nops: what stands between functions. */
export const isPadding = (instruction: Instruction): boolean =>
  (instruction.map === 0 && (instruction.opcode === 0x90 || instruction.opcode === 0xcc)) ||
  (instruction.map === 1 && instruction.opcode === 0x1f)

/** Instructions of padding that are passed over: the bytes to a cache line, one at a time. */
const MOST_PADDING = 64

/** Offsets looked at to learn how often each place occurs. */
const CENSUS = 1 << 13

export class Places {
  readonly #code: Uint8Array
  readonly #span: number
  readonly #map: CodeMap
  readonly #decoder: InstructionDecoder
  readonly #instruction = new Instruction()

  constructor(code: Uint8Array, span: number, map: CodeMap, decoder: InstructionDecoder) {
    this.#code = code
    this.#span = span
    this.#map = map
    this.#decoder = decoder
  }

  /** How many offsets of the moved range are of each `Place`, estimated from evenly spread ones. */
  census(): Float64Array {
    const counts = new Float64Array(8)
    const { length } = this.#code
    // An odd stride meets every residue of the alignments that compilers use.
    const stride = Math.max(1, Math.floor(length / CENSUS) | 1)
    for (let offset = 0; offset < length; offset += stride) counts[this.at(offset)] += stride
    counts[Place.zero] = this.#span - length
    counts[Place.end] = 1
    return counts
  }

  /** Number of bytes that no instruction holds. */
  dataBytes(): number {
    const { data } = this.#map
    let sum = 0
    for (let i = 0; i < data.length; i += 2) sum += data[i + 1] - data[i]
    return sum
  }

  /** Whether an instruction holds the byte at `offset`. */
  isCode(offset: number): boolean {
    return this.#map.bits.has(offset) || this.#isInside(offset)
  }

  /** The start of the instruction that holds the byte at `offset`, -1 where it is data. */
  holder(offset: number): number {
    if (this.#map.bits.has(offset)) return offset
    return this.#isInside(offset) ? this.#map.bits.lastUpTo(offset) : -1
  }

  /** One of `Place` for a distance from the base in [0, span]. */
  at(distance: number): number {
    if (distance >= this.#span) return Place.end
    if (distance >= this.#code.length) return Place.zero
    // Some distances are doubles, for which code that was compiled for integers would be thrown away.
    const offset = distance | 0
    const { bits } = this.#map
    if (bits.has(offset)) {
      if (this.#isEntry(offset)) return Place.entry
      return (this.#map.marks[offset] & Mark.target) !== 0 ? Place.label : Place.instruction
    }
    if (this.#isInside(offset)) return Place.inside
    const before = this.#code[offset - 1]
    const isEmptyText = this.#code[offset] === 0 && before >= 9 && before < 0x7f
    return (offset & 7) === 0 || before === 0 || isEmptyText ? Place.object : Place.data
  }

  /** Whether the offset is in the instruction that starts before it. */
  #isInside(offset: number): boolean {
    const start = this.#map.bits.lastUpTo(offset - 1)
    return start >= 0 && this.#endOf(start) > offset
  }

  /**
   * Where the instruction at `start` ends; decodes it into `#instruction`, unless it is there: offsets ascend
   * in a census.
   */
  #endOf(start: number): number {
    const instruction = this.#instruction
    if (instruction.offset !== start || instruction.length === 0) this.#decoder.decode(start, instruction)
    return start + instruction.length
  }

  /** Whether nothing falls through to the instruction at `offset`: behind a flow end, padding passed over. */
  #isEntry(offset: number): boolean {
    const instruction = this.#instruction
    let at = offset
    for (let steps = 0; steps < MOST_PADDING; steps++) {
      const start = at === 0 ? -1 : this.#map.bits.lastUpTo(at - 1)
      if (start < 0 || this.#endOf(start) !== at) return true
      if (endsFlow(instruction.flow) || instruction.flow === Flow.int3) return true
      if (!isPadding(instruction)) return false
      at = start
    }
    return false
  }
}
