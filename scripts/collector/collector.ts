/**
 * A mostly-copying collector of data and code together.
 *
 *   mark     from the global handles, the code that is being made, and every word of the machine's stack: such a word may be a number that
 *            looks like an address, so what it points to lives and stays. Data is traced by its layout, code by its roots and callees.
 *   plan     where the data goes
 *   roots    the heap changes what live code holds, all of it or nothing: where it refuses, this collection does not take place
 *   flip     data is copied, its pointers and the handles follow
 *   free     what no one marked; then the code heap may be compacted, and closures follow what it says has moved
 */
import type { CodeInput } from '../../src/heap/admit.ts'
import type { CodeHeap } from '../../src/heap/heap.ts'
import type { CodeHandle } from '../../src/heap/object.ts'
import type { CodeMove, SideTable } from '../../src/heap/side-tables.ts'
import { type Kind, LAYOUTS, type Space } from './space.ts'

/** A code object, as the collector knows it. */
export interface Code {
  readonly handle: CodeHandle
  /** What it calls directly. */
  readonly callees: readonly Code[]
}

/** An object that JavaScript keeps: `address` follows it. */
export interface Global {
  address: number
}

export interface CollectorCounts {
  collections: number
  /** Given up, since code that runs may be building an address from pieces. */
  refused: number
  objectsMoved: number
  /** Data that a word of the stack kept in its place. */
  objectsPinned: number
  codeMoved: number
  codeBytesMoved: number
  codeFreed: number
  compactions: number
}

export class Collector implements SideTable {
  readonly space: Space
  readonly globals: Set<Global> = new Set()
  readonly code: Map<CodeHandle, Code> = new Map()
  /** Of `onAdd` and `onDealloc`. */
  readonly alive: Set<CodeHandle> = new Set()
  readonly counts: CollectorCounts = {
    collections: 0,
    refused: 0,
    objectsMoved: 0,
    objectsPinned: 0,
    codeMoved: 0,
    codeBytesMoved: 0,
    codeFreed: 0,
    compactions: 0,
  }
  deallocs = 0
  #heap: CodeHeap | undefined

  constructor(space: Space) {
    this.space = space
  }

  /** The heap whose side table this is. */
  set heap(heap: CodeHeap) {
    this.#heap = heap
  }

  get heap(): CodeHeap {
    return this.#heap!
  }

  onAdd({ handle }: { readonly handle: CodeHandle }): void {
    this.alive.add(handle)
  }

  /** Closures hold entries of code: they follow it. */
  onMove(moves: readonly CodeMove[]): void {
    const to = new Map(moves.map((move) => [move.from, move.to]))
    for (const object of this.space.objects())
      for (const word of LAYOUTS[this.space.kindOf(object)].code) {
        const entry = to.get(this.space.get(object, word))
        if (entry !== undefined) this.space.set(object, word, entry)
      }
    this.counts.codeMoved += moves.length
    for (const { length } of moves) this.counts.codeBytesMoved += length
  }

  onDealloc(handle: CodeHandle): void {
    if (!this.alive.delete(handle)) throw new Error(`${handle.name} was given back twice`)
    this.deallocs++
  }

  /** A new object, after a collection where that is needed. */
  allocate(kind: Kind): number {
    const object = this.space.allocate(kind)
    if (object !== undefined) return object
    this.collect()
    const again = this.space.allocate(kind)
    if (again === undefined) throw new Error('no room after a collection')
    return again
  }

  /** Adds code whose objects call one another and `callees`. */
  addCode(inputs: readonly CodeInput[], callees: readonly Code[]): Code[] {
    const mutable: Code[] = [...callees]
    const made = this.heap.addAll(inputs).map((handle): Code => ({ handle, callees: mutable }))
    if (made.length > 1) mutable.push(...made)
    for (const code of made) this.code.set(code.handle, code)
    return made
  }

  codeAt(address: bigint): Code | undefined {
    const place = this.heap.translate(address)
    return place === undefined ? undefined : this.code.get(place.handle)
  }

  /** Returns false where code that runs let nothing change. */
  collect(): boolean {
    const words = this.heap.stackWords()
    const pinned = new Set<number>()
    const running = new Set<Code>()
    for (const word of words) {
      const object = this.space.find(Number(word))
      if (object !== undefined) pinned.add(object)
      const code = this.codeAt(word)
      if (code !== undefined) running.add(code)
    }
    const known = [...this.globals].map(({ address }) => address).filter((address) => address !== 0)
    const { objects: live, code } = this.#mark([...pinned, ...known, ...running])
    const to = this.space.plan(live, pinned)
    const forward = (address: number): number => {
      const object = this.space.find(address)
      const goal = object === undefined ? undefined : to.get(object)
      return goal === undefined ? address : goal + address - object!
    }
    try {
      this.heap.forwardRoots((address) => BigInt(forward(Number(address))))
    } catch (error) {
      if ((error as { code?: string }).code !== 'refused') throw error
      this.counts.refused++
      return false
    }
    this.#follow(live, forward)
    this.space.flip(live, to)
    this.#free(code)
    this.counts.collections++
    this.counts.objectsMoved += to.size
    this.counts.objectsPinned += pinned.size
    return true
  }

  /** All data and code that is reached from these. */
  #mark(work: (number | Code)[]): { readonly objects: Set<number>; readonly code: Set<Code> } {
    const objects = new Set<number>()
    const code = new Set<Code>()
    for (let next = work.pop(); next !== undefined; next = work.pop())
      if (typeof next === 'number') {
        if (objects.has(next)) continue
        objects.add(next)
        work.push(...this.#pointedTo(next))
      } else {
        if (code.has(next)) continue
        code.add(next)
        work.push(...next.callees)
        for (const root of this.heap.roots(next.handle)) work.push(this.space.find(Number(root))!)
      }
    return { objects, code }
  }

  *#pointedTo(object: number): IterableIterator<number | Code> {
    const layout = LAYOUTS[this.space.kindOf(object)]
    for (const word of layout.pointers) {
      const address = Number(this.space.get(object, word))
      if (address !== 0) yield address
    }
    for (const word of layout.code) {
      const code = this.codeAt(this.space.get(object, word))
      if (code !== undefined) yield code
    }
  }

  #follow(live: ReadonlySet<number>, forward: (address: number) => number): void {
    for (const global of this.globals) global.address = forward(global.address)
    for (const object of live)
      for (const word of LAYOUTS[this.space.kindOf(object)].pointers) {
        const address = Number(this.space.get(object, word))
        if (address !== 0) this.space.set(object, word, BigInt(forward(address)))
      }
  }

  #free(live: ReadonlySet<Code>): void {
    const dead = [...this.code.values()].filter((code) => !live.has(code))
    for (const { handle } of dead) this.code.delete(handle)
    this.heap.free(...dead.map(({ handle }) => handle))
    this.counts.codeFreed += dead.length
  }

  compact(mode: 'slide' | 'drain'): void {
    this.heap.compact({ mode })
    this.counts.compactions++
  }
}
