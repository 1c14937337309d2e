/**
 * Bytes of the blob that nothing executes, and the jumps put there for branches too short to reach a veneer.
 *
 * A gap is a row of int3 or of nops. Int3 is spare where no flow comes to it: what runs into one is to be
 * stopped there. Nops are spare where they only align the place behind them, which something in the blob
 * points at; if flow comes through them, a short jump leads over what is put there.
 *
 * Not every gap is idle, though. Tools write into some while the program runs, and where a function begins
 * one may be all there is of it. So nops count only as an assembler leaves them, up to an aligned address and
 * no longer than that takes; and none of these counts:
 *
 * - two one-byte nops in a row: compilers reserve room that way (`-fpatchable-function-entry`), assemblers align with long ones;
 * - nops behind an endbr64, or that a jump leads over (XRay's sleds), or that something points at: the start of a function;
 * - int3 before nops or `mov edi, edi`: the pad of a function that can be patched while it runs.
 */
import { readSigned, viewOf } from '../core/bytes.ts'
import { lowerBound } from '../core/search.ts'
import type { Piece } from '../table/pieces.ts'
import { Encoding, endsFlow, Flow, type Instruction, Memory, Prefix } from '../x86/instruction.ts'

/** Bytes of a jump with a 32-bit displacement, and of one with 8 bits. */
const JUMP = 5
const SKIP = 2
/** To this assemblers align what is branched to. */
const ALIGNMENT = 16

interface Gap {
  readonly start: number
  readonly isNops: boolean
  /** What stands before it runs into it. */
  readonly isReached: boolean
  isUsable: boolean
  end: number
  /** Jumps may lie in [free, limit). */
  free: number
  limit: number
}

/** Finds gaps while code is walked, then gives their bytes away. */
export class Islands {
  /** What is put into gaps; the displacements of the jumps are the caller's to fill in. */
  readonly patches: Piece[] = []
  readonly #view: DataView
  /** Low bits of the blob's address. */
  readonly #base: number
  #gaps: Gap[] = []
  /** Of the gaps, once they are all known: ascending, as they do not overlap. */
  #limits = new Uint32Array(0)
  /** The one that the instruction before belongs to, and one-byte nops at its end. */
  #gap: Gap | undefined
  #singles = 0
  /** Of what stands before the gap: whether it can come to the gap, forbids its use, and where it jumps. */
  #isReached = true
  #isBarrier = false
  #jumpsTo = -1

  constructor(code: Uint8Array, base: bigint) {
    this.#view = viewOf(code)
    this.#base = Number(base % BigInt(ALIGNMENT))
  }

  /** A run of code begins: what comes before is not known. */
  begin(): void {
    this.#close(undefined)
    this.#isReached = true
    this.#isBarrier = false
    this.#jumpsTo = -1
  }

  /** Takes the next instruction of the run. */
  note(instruction: Instruction): void {
    const { flow, offset, length } = instruction
    if (isNop(instruction)) this.#widen(instruction, true)
    else if (flow === Flow.int3) this.#widen(instruction, false)
    else {
      this.#close(instruction)
      this.#isReached = !endsFlow(flow)
      this.#isBarrier = isEndbr(instruction)
      const field = offset + instruction.branchOffset
      this.#jumpsTo =
        flow === Flow.jump ? offset + length + readSigned(this.#view, field, instruction.branchSize) : -1
    }
  }

  /** All code was walked; `targets` are the offsets that something points at, ascending. */
  finish(targets: ArrayLike<number>): void {
    this.#close(undefined)
    for (const gap of this.#gaps) {
      const first = targets[lowerBound(targets, gap.start)]
      if (first < gap.end) gap.limit = first
      const isAligning = targets[lowerBound(targets, gap.end)] === gap.end
      gap.isUsable = first !== gap.start && (!gap.isNops || isAligning)
      if (gap.isReached) gap.free += SKIP
    }
    this.#gaps = this.#gaps
      .filter((gap) => gap.isUsable && gap.free + JUMP <= gap.limit)
      .sort((a, b) => a.start - b.start)
    this.#limits = Uint32Array.from(this.#gaps, ({ limit }) => limit)
  }

  /**
   * Room for a jump by `opcode` that begins in [low, high]: its bytes without displacement, as a patch;
   * undefined where there is none.
   */
  take(low: number, high: number, opcode: readonly number[]): Piece | undefined {
    const length = opcode.length + 4
    for (let i = lowerBound(this.#limits, low + length); i < this.#gaps.length; i++) {
      const gap = this.#gaps[i]
      if (gap.start > high) return undefined
      const offset = Math.max(gap.free, low)
      if (offset > high || offset + length > gap.limit) continue
      if (gap.isReached && gap.free === gap.start + SKIP)
        this.patches.push({ offset: gap.start, bytes: Uint8Array.of(0xeb, gap.end - gap.start - SKIP) })
      gap.free = offset + length
      const patch = { offset, bytes: Uint8Array.from([...opcode, 0, 0, 0, 0]) }
      this.patches.push(patch)
      return patch
    }
    return undefined
  }

  #widen({ offset, length }: Instruction, isNops: boolean): void {
    if (this.#gap !== undefined && this.#gap.isNops !== isNops) {
      this.#gap.isUsable = false
      this.#close(undefined)
      this.#isBarrier = true
    }
    const [isReached, isUsable] = [this.#isReached, !this.#isBarrier]
    this.#gap ??= { start: offset, isNops, isReached, isUsable, end: offset, free: offset, limit: offset }
    this.#singles = length === 1 ? this.#singles + 1 : 0
    if (isNops && this.#singles > 1) this.#gap.isUsable = false
    this.#gap.end = this.#gap.limit = offset + length
  }

  /** Keeps the gap if it is idle; `next` is the instruction behind it, where that is known. */
  #close(next: Instruction | undefined): void {
    const gap = this.#gap
    this.#gap = undefined
    this.#singles = 0
    if (gap === undefined || !gap.isUsable) return
    const isAligned = (this.#base + gap.end) % ALIGNMENT === 0 && gap.end - gap.start < ALIGNMENT
    // What int3 is come to is there to stop that.
    const isIdle = gap.isNops
      ? isAligned && this.#jumpsTo !== gap.end
      : !gap.isReached && !(next !== undefined && isMoveEdi(next))
    if (isIdle) this.#gaps.push(gap)
  }
}

/** A nop whose operand, if it has one, is no field. */
const isNop = ({ encoding, map, opcode, prefixes, memory }: Instruction): boolean => {
  if (encoding !== Encoding.legacy || (prefixes & (Prefix.f3 | Prefix.f2)) !== 0 || memory > Memory.index)
    return false
  return map === 0 ? opcode === 0x90 && (prefixes & Prefix.rexB) === 0 : map === 1 && opcode === 0x1f
}

const isEndbr = ({ encoding, map, opcode, prefixes, modrm }: Instruction): boolean =>
  encoding === Encoding.legacy &&
  map === 1 &&
  opcode === 0x1e &&
  (prefixes & Prefix.f3) !== 0 &&
  modrm === 0xfa

/** `mov edi, edi`, at the start of a function that can be patched while it runs. */
const isMoveEdi = ({ encoding, map, opcode, modrm }: Instruction): boolean =>
  encoding === Encoding.legacy && map === 0 && (opcode === 0x8b || opcode === 0x89) && modrm === 0xff
