/**
 * Programs that run while everything moves: objects call one another, read managed data, call back into
 * JavaScript, which moves, frees, adds and collects under them. What each call must return is computed here
 * without the heap.
 */

import type { CodeInput } from '../../../src/heap/admit.ts'
import { CodeHeap } from '../../../src/heap/heap.ts'
import type { HeapMemory } from '../../../src/heap/memory.ts'
import type { Block, CodeHandle } from '../../../src/heap/object.ts'
import type { SideTable } from '../../../src/heap/side-tables.ts'
import { RelocationTable } from '../../../src/table/table.ts'
import { CELLS, Cells } from './cells.ts'
import { random } from './program.ts'
import { assemble, type Places, type Routine, resultOf, type Step } from './routine.ts'
import { type Sabotage, sabotaged } from './sabotage.ts'

export interface StressCounts {
  moves: number
  bytes: number
  calls: number
  callbacks: number
  collections: number
  pins: number
  checks: number
  adds: number
  deallocs: number
  refused: number
}

export interface StressOptions {
  readonly seed: number
  readonly memory: HeapMemory<Block>
  /** Managed cells of 8 bytes: two halves, between which a collection moves them all. */
  readonly cells: { readonly address: bigint; readonly bytes: Uint8Array }
  readonly sabotage?: Sabotage | undefined
}

export class Stress {
  readonly heap: CodeHeap
  readonly counts: StressCounts = {
    moves: 0,
    bytes: 0,
    calls: 0,
    callbacks: 0,
    collections: 0,
    pins: 0,
    checks: 0,
    adds: 0,
    deallocs: 0,
    refused: 0,
  }
  readonly #options: StressOptions
  readonly #next: (below: number) => number
  readonly #routines: Routine[] = []
  readonly #alive = new Set<CodeHandle>()
  readonly #cells: Cells
  readonly #callback: bigint | undefined
  readonly #places: Places
  readonly #base: bigint
  #depth = 0

  constructor(options: StressOptions) {
    this.#options = options
    this.#next = random(options.seed)
    const { cells, memory } = options
    this.#cells = new Cells(cells.address, cells.bytes)
    const sideTable: SideTable = {
      onAdd: ({ handle }) => this.#alive.add(handle),
      onMove: (moves) => {
        this.counts.moves += moves.length
        for (const { length, handle } of moves) {
          this.counts.bytes += length
          if (!this.#alive.has(handle)) throw new Error(`${handle.name} moved after its end`)
        }
      },
      onDealloc: (handle) => {
        for (let times = options.sabotage === 'dealloc-twice' ? 2 : 1; times > 0; times--) {
          if (!this.#alive.delete(handle)) throw new Error(`${handle.name} was given back twice`)
          this.counts.deallocs++
        }
      },
    }
    this.heap = new CodeHeap(sabotaged(memory, options.sabotage), {
      managed: [{ start: cells.address, length: BigInt(cells.bytes.length) }],
      sideTables: [sideTable],
    })
    for (let i = 0; i < CELLS; i++) this.#cells.set(i, BigInt(this.#next(1000)))
    this.#callback = memory.callback === undefined ? undefined : this.heap.callback((x) => this.#back(x), 1)
    this.#places = {
      entry: ({ handle }) => this.heap.entry(handle!),
      cell: (cell) => this.#cells.address(cell),
      callback: this.#callback ?? 0n,
    }
    // Code is made for where it cannot stay, within reach of the heap.
    this.#base = memory.base > 0x2000_0000n ? memory.base - 0x1000_0000n : memory.base + 0x1000_0000n
  }

  /** One random action. Throws where anything is wrong. */
  step(): void {
    const pick = this.#next(12)
    if (this.#routines.length < 4 || pick < 2) this.#add()
    else if (pick === 2) this.#free()
    else if (pick === 3) this.#compact()
    else if (pick === 4) this.#move()
    else if (pick === 5) this.#collect()
    else if (pick === 6) this.#pinned()
    else if (pick < 11) this.#call()
    else this.check()
  }

  /** Every invariant, and, where code cannot run, what each field must be by the model. */
  check(): void {
    this.counts.checks++
    const violations = this.heap.verify()
    if (violations.length > 0) throw new Error(`${violations[0].invariant}: ${violations[0].message}`)
    for (const routine of this.#routines) this.#checkBytes(routine)
  }

  #checkBytes(routine: Routine): void {
    const at = this.heap.entry(routine.handle!)
    const position = Number(at - this.#options.memory.base)
    const { bytes } = assemble(routine.steps, at, this.#places)
    const { memory } = this.#options
    if (Buffer.compare(memory.bytes.slice(position, position + bytes.length), bytes) !== 0)
      throw new Error(`${routine.handle!.name} does not hold what it must`)
  }

  #add(): void {
    const next = this.#next
    const steps: Step[] = []
    let cost = 1
    for (let count = 1 + next(8); count > 0; count--) {
      const pick = next(6)
      const callee = this.#routines[next(Math.max(this.#routines.length, 1))]
      if (pick === 0) steps.push({ kind: 'add', value: next(1000) })
      else if (pick === 1) steps.push({ kind: 'own', value: next(1000), absolute: next(2) === 0 })
      else if (pick === 2) steps.push({ kind: 'load', cell: next(CELLS) })
      else if (pick === 3 && this.#callback !== undefined && next(3) === 0) steps.push({ kind: 'back' })
      else if (callee !== undefined && cost + callee.cost < 60) {
        steps.push({
          kind: 'call',
          callee,
          how: (['direct', 'direct', 'absolute', 'pieces'] as const)[next(4)],
        })
        cost += callee.cost
      }
    }
    const routine: Routine = { steps, cost, handle: undefined }
    routine.handle = this.heap.add(this.#input(routine))
    this.#routines.push(routine)
    this.counts.adds++
  }

  #input({ steps }: Routine): CodeInput {
    const base = this.#base
    const { bytes, sites, code } = assemble(steps, base, this.#places)
    const hints = {
      ranges: [
        { start: 0, end: code, kind: 'code' as const },
        { start: code, end: bytes.length, kind: 'data' as const },
      ],
    }
    const align = [1, 16, 64][this.#next(3)]
    // Half of what analysis can know for certain is left to it.
    if (this.#next(2) === 0 && !sites.some(({ kind }) => kind === 'split'))
      return { bytes, base, hints, align, name: `routine ${this.counts.adds}` }
    const moved = this.heap.moved(base, bytes.length)
    const table = RelocationTable.fromSites(sites, {
      code: bytes,
      base,
      moved,
      runs: [{ start: 0, end: code }],
    })
    return { bytes, base, table, align, name: `routine ${this.counts.adds}` }
  }

  #free(): void {
    const doomed = new Set([this.#routines[this.#next(this.#routines.length)]])
    for (const routine of doomed)
      for (const other of this.#routines)
        if (other.steps.some((step) => step.kind === 'call' && step.callee === routine)) doomed.add(other)
    if (doomed.size > this.#routines.length / 2) return
    this.heap.free(...[...doomed].map((routine) => routine.handle!))
    for (const routine of doomed) this.#routines.splice(this.#routines.indexOf(routine), 1)
  }

  /** What may be refused while code runs is counted, whatever else is thrown goes on. */
  #tried(work: () => void): void {
    try {
      work()
    } catch (error) {
      const { code } = error as { code?: string }
      if (code !== 'refused' && code !== 'no-room') throw error
      this.counts.refused++
    }
  }

  #compact(): void {
    const mode = this.#next(3) === 0 ? 'drain' : 'slide'
    const budget = this.#next(3) === 0 ? { objects: 1 + this.#next(4) } : {}
    this.#tried(() => this.heap.compact({ mode, budget }))
  }

  #move(): void {
    const { handle } = this.#routines[this.#next(this.#routines.length)]
    this.#tried(() => this.heap.move(handle!, { mode: this.#next(2) === 0 ? 'slide' : 'drain' }))
  }

  /** The collector of the managed cells. */
  #collect(): void {
    this.#tried(() => {
      this.heap.forwardRoots((root) => this.#cells.forward(root))
      this.#cells.collect()
      this.counts.collections++
    })
  }

  #pinned(): void {
    const { handle } = this.#routines[this.#next(this.#routines.length)]
    const at = this.heap.entry(handle!)
    if (this.#next(2) === 0) {
      this.heap.pin(handle!)
      this.#compact()
      this.heap.unpin(handle!)
    } else {
      this.heap.pinAmbiguous([
        at + BigInt(this.#next(4)),
        BigInt(this.#next(1 << 30)),
        this.heap.reservation.start,
      ])
      this.#compact()
      this.heap.pinAmbiguous([])
    }
    if (this.heap.entry(handle!) !== at) throw new Error('a pinned object moved')
    this.counts.pins++
  }

  #call(): void {
    const routine = this.#routines[this.#next(this.#routines.length)]
    if (this.#callback === undefined) {
      this.#drained(routine)
      return
    }
    const x = BigInt(this.#next(1000))
    const expected = resultOf(routine, x, (cell) => this.#cells.get(cell))
    const result = this.heap.call(routine.handle!, [x])
    if (result !== expected) throw new Error(`${routine.handle!.name}(${x}) is ${result}, not ${expected}`)
    this.counts.calls++
  }

  /** Where code cannot run: somebody says that it does, and old copies must stay and be kept right. */
  #drained(routine: Routine): void {
    const release = this.heap.hold()
    const old = this.heap.entry(routine.handle!)
    this.#tried(() => this.heap.move(routine.handle!, { mode: 'drain' }))
    for (let i = 0; i < 3; i++) this.#compact()
    if (this.#options.sabotage === 'reuse-before-drain') this.heap.drain([])
    if (this.heap.translate(old)?.handle !== routine.handle)
      throw new Error('an old copy went while it was running')
    release()
  }

  /** What JavaScript does when code calls back: moves what is running, mostly. */
  #back(x: bigint): bigint {
    this.counts.callbacks++
    if (this.#depth < 3 && this.#next(2) === 0) {
      this.#depth++
      const pick = this.#next(6)
      if (pick < 2) this.#compact()
      else if (pick === 2) this.#move()
      else if (pick === 3) this.#add()
      else if (pick === 4) this.#call()
      else this.heap.drain(this.#options.sabotage === 'reuse-before-drain' ? [] : undefined)
      this.#depth--
    }
    return x + 1n
  }
}
