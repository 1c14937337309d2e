/** How likely the forms of many instructions are in code: each form that the fast tables know is decoded once. */
import { viewOf } from '../core/bytes.ts'
import { FAST_INDICES, fastIndex, fastTablesFor, hasFastEntry, isWorthFastTables } from '../x86/fast.ts'
import { Instruction, type InstructionDecoder } from '../x86/instruction.ts'
import { opcodeSlot } from './opcode-key.ts'
import { opcodeScores } from './opcode-stats.ts'

/** No score. */
const UNKNOWN = -128
/** Bytes from an instruction's start that its index is made of. */
const HEAD = 4

export class FormScores {
  readonly #view: DataView
  readonly #decoder: InstructionDecoder
  readonly #instruction = new Instruction()
  readonly #scores = opcodeScores()
  /** By index: a form's score depends on nothing else. */
  readonly #known: Int8Array | undefined
  readonly #fast: Uint8Array

  constructor(code: Uint8Array, decoder: InstructionDecoder) {
    this.#view = viewOf(code)
    this.#decoder = decoder
    const isFast = isWorthFastTables('intel', code.length)
    this.#fast = isFast ? fastTablesFor('intel') : new Uint8Array(0)
    this.#known = isFast ? new Int8Array(FAST_INDICES).fill(UNKNOWN) : undefined
  }

  /** Of the instruction at `start`, in sixteenths of a natural logarithm. */
  at(start: number): number {
    if (this.#known === undefined || start + HEAD > this.#view.byteLength) return this.#decode(start)
    const word = this.#view.getInt32(start, false)
    const index = fastIndex(this.#fast, word)
    const known = this.#known[index]
    if (known !== UNKNOWN) return known
    const score = this.#decode(start)
    if (hasFastEntry(this.#fast, word)) this.#known[index] = score
    return score
  }

  #decode(start: number): number {
    this.#decoder.decode(start, this.#instruction)
    return this.#scores[opcodeSlot(this.#instruction)]
  }
}
