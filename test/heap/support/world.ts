/** Random objects in a heap, and what each of their bytes must be. */
import { CodeHeap } from '../../../src/heap/heap.ts'
import type { HeapMemory } from '../../../src/heap/memory.ts'
import type { Block } from '../../../src/heap/object.ts'
import type { SideTable } from '../../../src/heap/side-tables.ts'
import { simulatedMemory } from '../../../src/heap/simulated.ts'
import {
  addressOf,
  expectedBytes,
  inputOf,
  type MakeOptions,
  makeInstructions,
  makeThing,
  type RootCell,
  random,
  type Thing,
} from './program.ts'

const MANAGED = { start: 0x7000_0000_0000n, length: 0x10000n }

/** A heap, what is in it, and what each of its bytes must be. */
export class World {
  readonly memory: HeapMemory<Block>
  readonly heap: CodeHeap
  readonly things: Thing[] = []
  readonly roots: RootCell[] = []
  readonly events: string[] = []
  /** Of the heap's own stubs. */
  readonly fixedBytes: number
  readonly next: (below: number) => number
  /** Where code is made for, and what it refers to outside: within reach of the heap. */
  readonly #outside: bigint
  readonly #fixed: bigint
  #bases = 0

  /** @param place the heap's memory, or the address of simulated memory */
  constructor(seed: number, place: bigint | HeapMemory<Block> = 0x4000_0000n) {
    this.next = random(seed)
    this.memory = typeof place === 'bigint' ? simulatedMemory({ base: place, size: 64 << 10 }) : place
    const { base } = this.memory
    const side = base >= 0x1000_0000n ? -1n : 1n
    this.#outside = base + side * 0x800_0000n
    this.#fixed = base + side * 0x400_0000n
    const sideTable: SideTable = {
      onAdd: ({ handle }) => this.events.push(`add ${handle.index}/${handle.generation}`),
      onMove: () => {},
      onDealloc: (handle) => this.events.push(`free ${handle.index}/${handle.generation}`),
    }
    this.heap = new CodeHeap(this.memory, { managed: [MANAGED], sideTables: [sideTable] })
    this.fixedBytes = this.memory.registry.used
    for (let i = 0; i < 5; i++) this.roots.push({ address: MANAGED.start + BigInt(64 * i) })
  }

  /** Adds one to three objects that may refer to one another and to what is there. */
  add(count = 1 + this.next(3)): void {
    this.#addMade(count, makeThing, false)
  }

  /** The same with instructions of every encoding, which are analysed where `analysed`. */
  addInstructions(count: number, analysed: boolean): void {
    const low = this.memory.base < 1n << 31n
    this.#addMade(count, (options) => makeInstructions({ ...options, low }), analysed)
  }

  #addMade(count: number, make: (options: MakeOptions) => Thing, analysed: boolean): void {
    const made: Thing[] = []
    for (let i = 0; i < count; i++)
      made.push(
        make({
          next: this.next,
          others: [...this.things, ...made],
          roots: this.roots,
          fixed: this.#fixed,
          base: this.#outside + BigInt(0x1000 * this.#bases++),
        }),
      )
    const ranges = made.map(({ base, length }) => ({ start: base, length: BigInt(length) }))
    const handles = this.heap.addAll(
      made.map((thing, i) => {
        const moved = this.heap
          .moved(thing.base, thing.length)
          .map(({ start, length }) => ({ start: BigInt(start), length: BigInt(length) }))
        const others = ranges.filter((_, j) => j !== i)
        return inputOf(this.heap, thing, [...moved, ...others], analysed)
      }),
    )
    made.forEach((thing, i) => {
      thing.handle = handles[i]
      this.things.push(thing)
    })
  }

  bytesOf(thing: Thing): Uint8Array {
    const at = Number(addressOf(this.heap, thing) - this.memory.base)
    return this.memory.bytes.slice(at, at + thing.length)
  }

  /** Frees one object and whatever refers to it. */
  free(): void {
    if (this.things.length === 0) return
    const doomed = new Set([this.things[this.next(this.things.length)]])
    for (const thing of doomed)
      for (const other of this.things)
        if (other.fields.some(({ to }) => 'thing' in to && to.thing === thing)) doomed.add(other)
    this.heap.free(...[...doomed].map((thing) => thing.handle!))
    for (const thing of doomed) this.things.splice(this.things.indexOf(thing), 1)
  }

  /** Leaves holes: every second object goes high, where there is room. */
  spread(): void {
    this.things.forEach(({ handle }, i) => {
      const position = 0x8000 + 0x400 * i
      if (i % 2 !== 0 || position >= this.memory.size) return
      try {
        this.heap.move(handle!, { to: this.memory.base + BigInt(position) })
      } catch (error) {
        if ((error as { code?: string }).code !== 'no-room') throw error
      }
    })
  }

  /** Throws where anything is not as it must be. */
  check(): void {
    const [violation] = this.heap.verify()
    if (violation !== undefined) throw new Error(`${violation.invariant}: ${violation.message}`)
    for (const thing of this.things) {
      const must = expectedBytes(this.heap, thing, addressOf(this.heap, thing))
      if (Buffer.compare(this.bytesOf(thing), must) !== 0)
        throw new Error(`${thing.handle!.name} does not hold what it must`)
    }
  }

  /** Frees everything: the heap is one hole again, and each object was given back once. Throws where not. */
  finish(): void {
    this.heap.free(...this.things.splice(0).map((thing) => thing.handle!))
    this.check()
    if (!this.heap.describe().includes(` 1 holes of ${this.memory.size - this.fixedBytes} bytes`))
      throw new Error(`something is left:\n${this.heap.describe()}`)
    const named = (kind: string): string[] =>
      this.events.flatMap((event) => (event.startsWith(kind) ? [event.slice(kind.length)] : []))
    if (named('add').sort().join() !== named('free').sort().join())
      throw new Error('objects were not given back once each')
  }
}
