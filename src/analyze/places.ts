/** What lies at an offset, as far as a pointer to it is concerned. */
import { endsFlow, Flow, Instruction, type InstructionDecoder } from '../x86/instruction.ts'

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
  /** Data that begins at a multiple of 8, or behind a zero byte. */
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

const CODE = 1
const START = 2
const ENTRY = 4

export class Places {
  /** Bits of CODE, START, ENTRY for each offset. */
  readonly #kinds: Uint8Array
  readonly #code: Uint8Array
  readonly #labels: Uint8Array
  readonly #labelBit: number
  readonly #span: number

  /** @param labels a byte for each offset; `labelBit` of it says that a branch lands there */
  constructor(
    code: Uint8Array,
    span: number,
    runs: Uint32Array,
    decoder: InstructionDecoder,
    labels: Uint8Array,
    labelBit: number,
  ) {
    this.#code = code
    this.#span = span
    this.#labels = labels
    this.#labelBit = labelBit
    this.#kinds = new Uint8Array(code.length)
    const instruction = new Instruction()
    for (let run = 0; run < runs.length; run += 2) {
      this.#kinds.fill(CODE, runs[run], runs[run + 1])
      let fresh = true
      for (let at = runs[run]; at < runs[run + 1]; at += instruction.length) {
        decoder.decode(at, instruction)
        this.#kinds[at] |= fresh ? START | ENTRY : START
        fresh =
          endsFlow(instruction.flow) || instruction.flow === Flow.int3 || (fresh && isPadding(instruction))
      }
    }
  }

  /** How many offsets of the moved range are of each `Place`. */
  census(): Float64Array {
    const counts = new Float64Array(8)
    for (let offset = 0; offset < this.#code.length; offset++) counts[this.at(offset)]++
    counts[Place.zero] = this.#span - this.#code.length
    counts[Place.end] = 1
    return counts
  }

  isCode(offset: number): boolean {
    return offset >= 0 && offset < this.#kinds.length && this.#kinds[offset] !== 0
  }

  isStart(offset: number): boolean {
    return (this.#kinds[offset] & START) !== 0
  }

  /** One of `Place` for an offset in [0, span]. */
  at(offset: number): number {
    if (offset >= this.#span) return Place.end
    if (offset >= this.#code.length) return Place.zero
    const kind = this.#kinds[offset]
    if (kind !== 0) {
      if ((kind & ENTRY) !== 0) return Place.entry
      if ((kind & START) === 0) return Place.inside
      return (this.#labels[offset] & this.#labelBit) !== 0 ? Place.label : Place.instruction
    }
    return (offset & 7) === 0 || this.#code[offset - 1] === 0 ? Place.object : Place.data
  }
}
