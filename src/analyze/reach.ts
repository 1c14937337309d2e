/**
 * Which code is certain: what control flow reaches from entries, through calls, branches and jump tables, and
 * through addresses of code that certain code takes or that stand in data. It finds no code; it says how sure
 * the map's code is. The rest is a guess.
 *
 * The instructions that divert the flow, or take addresses, end blocks: what reaches one byte of a block
 * reaches the rest of it. So a block needs two numbers, the lowest offset that is reached and where from.
 * Block i ends with row i of the map's `ends`, and the block that it goes on to is i + 1; only instructions
 * that share bytes with others are decoded.
 */
import { viewOf } from '../core/bytes.ts'
import { lowerBound } from '../core/search.ts'
import { endsFlow, Flow, Instruction, type InstructionDecoder, Memory } from '../x86/instruction.ts'
import { Ends } from '../x86/notable-rows.ts'
import { StartBits } from '../x86/start-bits.ts'
import { relativeTarget } from '../x86/target.ts'
import type { CodeMap } from './code-map.ts'
import { type JumpTable, targetsOf } from './jump-tables.ts'
import { isPadding, Place, type Places } from './places.ts'
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
  /** Whether `path` will be asked for. */
  readonly ways?: boolean
}

/** How blocks were reached. */
interface Ways {
  /** Where each was reached first, and the instruction (or word of data) that led there. */
  readonly first: Uint32Array
  readonly via: Int32Array
  /** What led to the lowest offset of a block that was reached further on before. */
  readonly lowered: Map<number, number>
}

const NOT_REACHED = 0xffff_ffff
/** In place of the instruction that leads to a block; of one that shares bytes and was not reached. */
export const FROM_ENTRY = -1
const NOWHERE = -2
/** Where a block is looked for: the first one that ends behind each multiple of 64 is known. */
const STRETCH_BITS = 6

/** All that certain code leads to. */
export class Reach {
  readonly #in: ReachInput
  readonly #view: DataView
  readonly #instruction = new Instruction()
  /** The last instruction of each block, and the first block of each stretch. */
  readonly #ends: Ends
  readonly #stretches: Uint32Array
  /** The lowest offset of each block that is reached. */
  readonly #from: Uint32Array
  /** How each block was reached, if that is to be known. */
  readonly #ways: Ways | undefined
  /** Blocks whose ends are to be followed; instructions that share bytes with others, as -1 - start. */
  readonly #open: number[] = []
  /** Instructions that share bytes with others, and whether they are reached: where from. */
  readonly #shared: Map<number, number>
  /** Data that certain code names. */
  readonly #used: StartBits
  /** The run, or what is between two, that was asked for last. */
  #start = 0
  #end = 0
  #isCode = false
  readonly #tables = new Map<number, JumpTable[]>()

  constructor(input: ReachInput) {
    const { code, map, entries } = input
    this.#in = input
    this.#view = viewOf(code)
    this.#ends = map.notable.ends
    this.#stretches = firstOfStretches(this.#ends, code.length)
    const { count } = this.#ends
    this.#from = new Uint32Array(count).fill(NOT_REACHED)
    if (input.ways === true)
      this.#ways = { first: new Uint32Array(count), via: new Int32Array(count), lowered: new Map() }
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

  /** The block of the instruction that starts at `start`. */
  #blockOf(start: number): number {
    const { starts } = this.#ends
    let block = this.#stretches[start >>> STRETCH_BITS]
    while (starts[block] < start) block++
    return block
  }

  /**
   * Whether the byte at `offset` is in an instruction that is certain, or in data that certain code names or jumps by.
   */
  isCertain(offset: number): boolean {
    const { runs, bits } = this.#in.map
    if (offset < this.#start || offset >= this.#end) {
      // The number of bounds up to it is odd inside of a run.
      const bound = lowerBound(runs, offset + 1)
      this.#isCode = (bound & 1) === 1
      this.#start = bound === 0 ? 0 : runs[bound - 1]
      this.#end = bound < runs.length ? runs[bound] : Number.POSITIVE_INFINITY
    }
    return this.#isCode ? this.has(bits.lastUpTo(offset)) : this.#used.has(offset)
  }

  /**
   * How execution comes to the instruction at `start`, which `has`: where each stretch of code on the way is
   * entered, and by what (an instruction, a word of data, `FROM_ENTRY`), from the last backwards.
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
    const { first, via, lowered } = this.#ways!
    if (at >= first[block]) return { from: first[block], via: via[block] }
    return { from: this.#from[block], via: lowered.get(block)! }
  }

  /** Certain code goes on at `target`. */
  #reach(target: number, via: number): void {
    if (!this.#in.map.bits.has(target)) {
      if (this.#shared.get(target) !== NOWHERE) return
      this.#shared.set(target, via)
      this.#open.push(-1 - target)
      return
    }
    this.#enter(this.#blockOf(target), target, via)
  }

  #enter(block: number, target: number, via: number): void {
    const from = this.#from[block]
    if (from <= target) return
    this.#from[block] = target
    if (from === NOT_REACHED) this.#open.push(block)
    const ways = this.#ways
    if (ways === undefined) return
    if (from !== NOT_REACHED) ways.lowered.set(block, via)
    else {
      ways.first[block] = target
      ways.via[block] = via
    }
  }

  #drain(): void {
    for (let open = this.#open.pop(); open !== undefined; open = this.#open.pop())
      if (open < 0) this.#followShared(-1 - open)
      else this.#followEnd(open)
  }

  /** Where the end of a block leads. */
  #followEnd(block: number): void {
    const { starts, kinds, targets } = this.#ends
    const [at, kind, target] = [starts[block], kinds[block], targets[block]]
    const flow = kind & Ends.flow
    this.#leads(at, flow, (kind & Ends.rip) !== 0, target)
    if ((kind & Ends.last) !== 0) return
    const next = this.#in.map.bits.next(at + 1)
    if (this.#goesOn(flow, next)) this.#enter(block + 1, next, at)
  }

  /** Where an instruction leads that shares bytes with others. */
  #followShared(at: number): void {
    const instruction = this.#instruction
    const next = at + this.#in.decoder.decode(at, instruction)
    const { flow, memory } = instruction
    const target = instruction.branch16 === 0 ? relativeTarget(this.#view, instruction) : undefined
    this.#leads(at, flow, memory === Memory.rip, target ?? -1)
    if (this.#goesOn(flow, next)) this.#reach(next, at)
  }

  /** Goes where the instruction at `at` leads, but for what follows it. */
  #leads(at: number, flow: number, isRip: boolean, target: number): void {
    if (flow === Flow.indirectJump) for (const table of this.#tables.get(at) ?? []) this.#dispatch(table, at)
    if (target < 0) return
    if (isRip) this.#name(target, at)
    else this.#reach(target, at)
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

/** The first block that ends at or behind each multiple of 64. */
function firstOfStretches({ starts, count }: Ends, length: number): Uint32Array {
  const first = new Uint32Array((length >>> STRETCH_BITS) + 1)
  for (let stretch = 0, block = 0; stretch < first.length; stretch++) {
    while (block < count && starts[block] < stretch << STRETCH_BITS) block++
    first[stretch] = block
  }
  return first
}
