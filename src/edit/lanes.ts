/**
 * Decodes runs of code two at a time, into the places of their relative fields. An instruction's start hangs
 * on the length of the one before; two such chains side by side fill the waiting, as in the sweep
 * (x86/sweep.ts), whose steps these are.
 */
import { viewOf } from '../core/bytes.ts'
import { type FastTables, fastTablesFor, HEADS, NO_BASE } from '../x86/fast.ts'
import { type Cpu, Instruction, type InstructionDecoder, Memory } from '../x86/instruction.ts'
import { createTableDecoder } from '../x86/scanner.ts'

/** No load of the fast path passes the end of the code, nor does the longest instruction. */
const MARGIN = 32

/** A run that is being decoded: how far, and its relative fields. */
export class Lane {
  start = 0
  /** The run ends here or behind. */
  least = 0
  position = 0
  /** Before this the fast tables may be asked. */
  fastEnd = 0
  count = 0
  /**
   * Of each field: where it is; where its instruction ends (the complement if it is EIP-relative), later its
   * new value; its width.
   */
  offsets: Int32Array<ArrayBuffer> = new Int32Array(256)
  ends: Int32Array<ArrayBuffer> = new Int32Array(256)
  widths: Uint8Array<ArrayBuffer> = new Uint8Array(256)

  begin(start: number, least: number, limit: number): void {
    this.start = start
    this.least = least
    this.position = start
    this.fastEnd = Math.min(least, limit)
    this.count = 0
    // One field in every two bytes, and that of the instruction that passes the end.
    const most = (least - start) >>> 1
    if (most < this.offsets.length) return
    this.offsets = new Int32Array(2 * most + 1)
    this.ends = new Int32Array(2 * most + 1)
    this.widths = new Uint8Array(2 * most + 1)
  }
}

export class LaneDecoder {
  readonly #view: DataView
  readonly #fast: FastTables
  readonly #decoder: InstructionDecoder
  readonly #instruction = new Instruction()

  constructor(code: Uint8Array, cpu: Cpu) {
    this.#view = viewOf(code)
    this.#decoder = createTableDecoder(code, { cpu })
    this.#fast = fastTablesFor(cpu)
  }

  /** Gives a lane a run: from `start` to `least` or behind. */
  begin(lane: Lane, start: number, least: number): void {
    lane.begin(start, least, this.#view.byteLength - MARGIN)
  }

  /**
   * Decodes two runs in turn until one has reached its end.
   */
  decodeBoth(first: Lane, second: Lane): void {
    while (first.position < first.fastEnd && second.position < second.fastEnd) {
      const stuck = this.#runBoth(first, second)
      if (stuck !== undefined && !this.#learns(stuck) && !this.#step(stuck)) return
    }
  }

  /** Returns the lane that has to ask the decoder. */
  #runBoth(first: Lane, second: Lane): Lane | undefined {
    const view = this.#view
    const fast = this.#fast.entries
    const offsetsA = first.offsets
    const endsA = first.ends
    const fastEndA = first.fastEnd
    const offsetsB = second.offsets
    const endsB = second.ends
    const fastEndB = second.fastEnd
    let positionA = first.position
    let countA = first.count
    let positionB = second.position
    let countB = second.count
    let stuck: Lane | undefined
    while (positionA < fastEndA && positionB < fastEndB) {
      // The same steps as in the sweep (x86/sweep.ts). A field is written whether there is one or not: that
      // saves a branch that nobody can predict.
      const wordA = view.getInt32(positionA, false)
      const headA = fast[HEADS | (wordA >>> 16)]
      const skipA = headA & 0x18
      const entryA = fast[((headA >> 5) << 16) | ((wordA << skipA) >>> 16)]
      if (entryA === 0) {
        stuck = first
        break
      }
      const opcodeA = positionA + (skipA >> 3)
      const atA = (entryA >> 4) & 3
      positionA = opcodeA + (entryA & 15) + ((entryA >> 4) & fast[NO_BASE | view.getUint8(opcodeA + 2)])
      offsetsA[countA] = opcodeA + atA
      endsA[countA] = positionA
      countA += (atA + 3) >> 2
      const wordB = view.getInt32(positionB, false)
      const headB = fast[HEADS | (wordB >>> 16)]
      const skipB = headB & 0x18
      const entryB = fast[((headB >> 5) << 16) | ((wordB << skipB) >>> 16)]
      if (entryB === 0) {
        stuck = second
        break
      }
      const opcodeB = positionB + (skipB >> 3)
      const atB = (entryB >> 4) & 3
      positionB = opcodeB + (entryB & 15) + ((entryB >> 4) & fast[NO_BASE | view.getUint8(opcodeB + 2)])
      offsetsB[countB] = opcodeB + atB
      endsB[countB] = positionB
      countB += (atB + 3) >> 2
    }
    first.position = positionA
    first.count = countA
    second.position = positionB
    second.count = countB
    return stuck
  }

  /** Decodes the rest of a run; false at bytes that are no instruction. */
  decodeRest(lane: Lane): boolean {
    while (lane.position < lane.least) {
      if (lane.position < lane.fastEnd) this.#run(lane)
      if (lane.position < lane.least && !this.#learns(lane) && !this.#step(lane)) return false
    }
    return true
  }

  /** Decodes one lane until it has to ask the decoder. */
  #run(lane: Lane): void {
    const view = this.#view
    const fast = this.#fast.entries
    const { offsets, ends, fastEnd } = lane
    let { position, count } = lane
    while (position < fastEnd) {
      const word = view.getInt32(position, false)
      const head = fast[HEADS | (word >>> 16)]
      const skip = head & 0x18
      const entry = fast[((head >> 5) << 16) | ((word << skip) >>> 16)]
      if (entry === 0) break
      const opcode = position + (skip >> 3)
      const at = (entry >> 4) & 3
      position = opcode + (entry & 15) + ((entry >> 4) & fast[NO_BASE | view.getUint8(opcode + 2)])
      offsets[count] = opcode + at
      ends[count] = position
      count += (at + 3) >> 2
    }
    lane.position = position
    lane.count = count
  }

  /** Whether the tables know the next instruction from now on. */
  #learns({ position, fastEnd }: Lane): boolean {
    return position < fastEnd && this.#fast.learn(this.#view.getInt32(position, false))
  }

  /** Decodes one instruction by the decoder; false where there is none. */
  #step(lane: Lane): boolean {
    const { position } = lane
    const length = this.#decoder.decode(position, this.#instruction)
    const { branchSize, branchOffset, displacementOffset, memory } = this.#instruction
    if (length > 0 && (branchSize !== 0 || memory >= Memory.rip)) {
      const end = position + length
      lane.offsets[lane.count] = position + (branchSize === 0 ? displacementOffset : branchOffset)
      lane.ends[lane.count++] = memory === Memory.eip ? ~end : end
    }
    lane.position = position + length
    return length > 0
  }
}
