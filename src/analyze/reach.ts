/**
 * Which code is certain: what control flow reaches from entries, through calls, branches and jump tables, and through addresses of code that
 * certain code takes or that stand in data. It finds no code; it says how sure the map's code is. The rest is a guess.
 *
 * The instructions that divert the flow, or take addresses, end blocks: what reaches one byte of a block reaches the rest of it. So a block
 * needs two numbers, the lowest offset that is reached and where from, and each end is decoded once.
 */
import { readSigned, viewOf } from '../core/bytes.ts'
import { lowerBound } from '../core/search.ts'
import {
  endsFlow,
  Flow,
  Instruction,
  type InstructionDecoder,
  isRelativeBranch,
  Memory,
} from '../x86/instruction.ts'
import type { CodeMap } from './code-map.ts'
import { type JumpTable, targetsOf } from './jump-tables.ts'
import { mergeAscending } from './linear.ts'
import { isPadding, Place, type Places } from './places.ts'
import { StartBits } from './start-bits.ts'
import type { Window } from './window.ts'

/** An absolute address by good evidence, as offsets: where it is held, and what it points at. */
export interface Pointer {
  readonly offset: number
  readonly target: number
}

export interface ReachInput {
  readonly code: Uint8Array
  readonly map: CodeMap
  readonly decoder: InstructionDecoder
  readonly places: Places
  readonly window: Window
  /** Offsets where execution is known to start. */
  readonly entries: readonly number[]
  /** Ascending. */
  readonly pointers: readonly Pointer[]
}

const NOT_REACHED = 0xffff_ffff
/** In place of the instruction that leads to a block; of one that shares bytes and was not reached. */
export const FROM_ENTRY = -1
const NOWHERE = -2
/** Blocks passed over one by one before they are searched. */
const NEARBY = 16

/** All that certain code leads to. */
export class Reach {
  readonly #in: ReachInput
  readonly #view: DataView
  readonly #instruction = new Instruction()
  /** The last instruction of each block. */
  readonly #ends: Uint32Array
  /** The lowest offset of each block that is reached. */
  readonly #from: Uint32Array
  /** Where each block was reached first, and the instruction (or word of data) that led there. */
  readonly #first: Uint32Array
  readonly #via: Int32Array
  /** What led to the lowest offset of a block that was reached further on before. */
  readonly #lowered = new Map<number, number>()
  /** Instructions that end what is reached, to be followed. */
  readonly #open: number[] = []
  /** Instructions that share bytes with others, and whether they are reached: where from. */
  readonly #shared: Map<number, number>
  /** The block that was asked for last. */
  #last = 0
  /** Data that certain code names. */
  readonly #used: StartBits
  readonly #tables = new Map<number, JumpTable[]>()

  constructor(input: ReachInput) {
    const { code, map, entries } = input
    this.#in = input
    this.#view = viewOf(code)
    this.#ends = blockEnds(map)
    this.#from = new Uint32Array(this.#ends.length).fill(NOT_REACHED)
    this.#first = new Uint32Array(this.#ends.length)
    this.#via = new Int32Array(this.#ends.length)
    this.#used = new StartBits(code.length)
    for (const table of map.tables)
      for (const jump of table.jumps) this.#tables.set(jump, [...(this.#tables.get(jump) ?? []), table])
    this.#shared = new Map(map.shared.map((start) => [start, NOWHERE]))
    for (const entry of entries) this.#reach(entry, FROM_ENTRY)
    this.#followPointers()
  }

  /** Whether the instruction that starts at `start` is certain. */
  has(start: number): boolean {
    return this.#from[this.#blockOf(start)] <= start
  }

  /** The block of the instruction that starts at `start`. Who asks in ascending order is answered at once. */
  #blockOf(start: number): number {
    const ends = this.#ends
    let block = this.#last
    if (block > 0 && ends[block - 1] >= start) block = lowerBound(ends, start)
    for (let steps = 0; ends[block] < start; block++)
      if (steps++ === NEARBY) block = lowerBound(ends, start) - 1
    this.#last = block
    return block
  }

  /** Whether the byte at `offset` is in an instruction that is certain, or in data that certain code names or jumps by. */
  isCertain(offset: number): boolean {
    const { map } = this.#in
    return isInRuns(map.runs, offset) ? this.has(map.bits.lastUpTo(offset)) : this.#used.has(offset)
  }

  /**
   * How execution comes to the instruction at `start`, which `has`: where each stretch of code on the way is entered, and by
   * what (an instruction, a word of data, `FROM_ENTRY`), from the last backwards.
   */
  path(start: number): { readonly from: number; readonly via: number }[] {
    const steps: { readonly from: number; readonly via: number }[] = []
    // What led to a block first was reached before it: so the path ends.
    for (let step = this.#stepTo(start); step !== undefined; step = this.#stepTo(step.via)) steps.push(step)
    return steps
  }

  /** Where the code at `at` is entered, and by what; undefined where it is no code. */
  #stepTo(at: number): { readonly from: number; readonly via: number } | undefined {
    const shared = this.#shared.get(at)
    if (shared !== undefined) return { from: at, via: shared }
    if (at < 0 || !this.#in.map.bits.has(at)) return undefined
    const block = this.#blockOf(at)
    const first = this.#first[block]
    if (at >= first) return { from: first, via: this.#via[block] }
    return { from: this.#from[block], via: this.#lowered.get(block)! }
  }

  /** Certain code goes on at `target`. */
  #reach(target: number, via: number): void {
    if (!this.#in.map.bits.has(target)) {
      if (this.#shared.get(target) !== NOWHERE) return
      this.#shared.set(target, via)
      this.#open.push(target)
      return
    }
    const block = this.#blockOf(target)
    const from = this.#from[block]
    if (from <= target) return
    this.#from[block] = target
    if (from !== NOT_REACHED) this.#lowered.set(block, via)
    else {
      this.#first[block] = target
      this.#via[block] = via
      this.#open.push(this.#ends[block])
    }
  }

  #drain(): void {
    for (let at = this.#open.pop(); at !== undefined; at = this.#open.pop()) this.#follow(at)
  }

  /** Where the instruction `at`, which ends a block, leads. */
  #follow(at: number): void {
    const instruction = this.#instruction
    const next = at + this.#in.decoder.decode(at, instruction)
    const { flow } = instruction
    if (flow === Flow.indirectJump) for (const table of this.#tables.get(at) ?? []) this.#dispatch(table, at)
    if (isRelativeBranch(flow)) {
      const field = at + instruction.branchOffset
      if (instruction.branch16 === 0)
        this.#reach(next + readSigned(this.#view, field, instruction.branchSize), at)
    } else if (instruction.memory === Memory.rip)
      this.#name(next + this.#view.getInt32(at + instruction.displacementOffset, true), at)
    if (this.#goesOn(flow, next)) this.#reach(next, at)
  }

  /** Whether what follows is executed too. Behind a call that never comes back there may be padding that traps. */
  #goesOn(flow: number, next: number): boolean {
    if (endsFlow(flow) || flow === Flow.int3) return false
    if (flow !== Flow.call && flow !== Flow.indirectCall && flow !== Flow.halt) return true
    return this.#in.code[next] !== 0xcc && !(flow === Flow.halt && this.#isPadding(next))
  }

  #isPadding(at: number): boolean {
    return this.#in.decoder.decode(at, this.#instruction) > 0 && isPadding(this.#instruction)
  }

  /** The instruction or word of data at `via` holds the address of `target`. */
  #name(target: number, via: number): void {
    if (target < 0 || target >= this.#in.code.length) return
    const place: number = this.#in.places.at(target)
    if (place === Place.entry || place === Place.label) this.#reach(target, via)
    else if (place === Place.object || place === Place.data) this.#used.addOne(target)
  }

  #dispatch(table: JumpTable, jump: number): void {
    for (let at = table.start; at < table.end; at++) this.#used.addOne(at)
    for (const target of targetsOf(this.#view, table, this.#in.window))
      if (target >= 0 && target < this.#in.code.length) this.#reach(target, jump)
  }

  /** Goes where the addresses lead that certain code, and data, hold, until there is nothing new. */
  #followPointers(): void {
    const { pointers, places } = this.#in
    const holders = Int32Array.from(pointers, ({ offset }) => places.holder(offset))
    const done = new Uint8Array(pointers.length)
    for (let found = true; found; ) {
      this.#drain()
      found = false
      for (let i = 0; i < pointers.length; i++) {
        const holder = holders[i]
        const { offset, target } = pointers[i]
        if (done[i] !== 0 || (holder >= 0 && !this.has(holder))) continue
        done[i] = 1
        found = true
        this.#name(target, holder < 0 ? offset : holder)
      }
    }
    // A table of pointers is named by its first.
    for (let i = 0; i < pointers.length; i++) {
      const { offset } = pointers[i]
      if (holders[i] < 0 && offset >= 8 && this.#used.has(offset - 8)) this.#used.addOne(offset)
    }
  }
}

/** Whether one of the runs (pairs of offsets, ascending) holds `offset`. */
function isInRuns(runs: Uint32Array, offset: number): boolean {
  // The number of bounds up to it is odd inside of a run.
  return (lowerBound(runs, offset + 1) & 1) === 1
}

/** The instructions that divert the flow or take addresses, and the last of each run. */
function blockEnds({ runs, ends, bits }: CodeMap): Uint32Array {
  const lasts = Uint32Array.from({ length: runs.length / 2 }, (_, run) =>
    bits.lastUpTo(runs[2 * run + 1] - 1),
  )
  return mergeAscending(ends, lasts)
}
