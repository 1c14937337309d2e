/**
 * Programs that run while everything moves: objects call one another, read managed data, call back into JavaScript, which moves, frees, adds and
 * collects under them. What each call must return is computed here without the heap.
 */

import { CodeHeap, type CodeInput, type SideTable } from '../../../src/heap/heap.ts'
import type { CodeWriter, HeapMemory } from '../../../src/heap/memory.ts'
import type { Block, CodeHandle } from '../../../src/heap/object.ts'
import type { StackAccess } from '../../../src/heap/stack.ts'
import type { SiteInput } from '../../../src/table/from-sites.ts'
import { RelocationTable } from '../../../src/table/table.ts'
import { random } from './program.ts'

/** A way to break the heap; each must be caught. */
export const SABOTAGES = ['inbound', 'root', 'return-address', 'dealloc-twice', 'reuse-before-drain'] as const
export type Sabotage = (typeof SABOTAGES)[number]

/** What a function does to its argument, in order. */
type Step =
  | { readonly kind: 'add'; readonly value: number }
  | { readonly kind: 'own'; readonly value: number; readonly absolute: boolean }
  | { readonly kind: 'load'; readonly cell: number }
  | { readonly kind: 'call'; readonly callee: Routine; readonly how: 'direct' | 'absolute' | 'pieces' }
  | { readonly kind: 'back' }

interface Routine {
  readonly steps: readonly Step[]
  /** Functions that one call runs. */
  readonly cost: number
  handle: CodeHandle | undefined
}

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

const CELLS = 16

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
  readonly #cells: DataView
  readonly #callback: bigint | undefined
  readonly #base: bigint
  #half = 0
  #depth = 0

  constructor(options: StressOptions) {
    this.#options = options
    this.#next = random(options.seed)
    const { cells, memory } = options
    this.#cells = new DataView(cells.bytes.buffer, cells.bytes.byteOffset)
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
    for (let i = 0; i < CELLS; i++) this.#setCell(i, BigInt(this.#next(1000)))
    this.#callback = memory.callback === undefined ? undefined : this.heap.callback((x) => this.#back(x), 1)
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
    const { bytes } = this.#assemble(routine.steps, at)
    const { memory } = this.#options
    if (Buffer.compare(memory.bytes.slice(position, position + bytes.length), bytes) !== 0)
      throw new Error(`${routine.handle!.name} does not hold what it must`)
  }

  #cellAddress(cell: number): bigint {
    return this.#options.cells.address + BigInt(8 * (CELLS * this.#half + cell))
  }

  #cell(cell: number): bigint {
    return this.#cells.getBigUint64(8 * (CELLS * this.#half + cell), true)
  }

  #setCell(cell: number, value: bigint): void {
    this.#cells.setBigUint64(8 * (CELLS * this.#half + cell), value, true)
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
    const { bytes, sites, code } = this.#assemble(steps, base)
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

  /** `f(x)` as code at `at`, with what its fields must hold there now. */
  #assemble(steps: readonly Step[], at: bigint): { bytes: Uint8Array; sites: SiteInput[]; code: number } {
    const out: number[] = [0x53, 0x48, 0x89, 0xfb] // push rbx; mov rbx, rdi
    const constants: { readonly field: number; readonly value: number; readonly absolute: boolean }[] = []
    const targets: {
      readonly field: number
      readonly high?: number
      readonly kind: 'pc32' | 'abs64' | 'split'
      readonly to: bigint
    }[] = []
    const call = (to: bigint, how: 'direct' | 'absolute' | 'pieces'): void => {
      out.push(0x48, 0x89, 0xdf) // mov rdi, rbx
      if (how === 'direct') {
        out.push(0xe8, 0, 0, 0, 0)
        targets.push({ field: out.length - 4, kind: 'pc32', to })
      } else if (how === 'absolute') {
        out.push(0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0) // mov rax, to; call rax
        targets.push({ field: out.length - 10, kind: 'abs64', to })
      } else {
        // mov eax, high; shl rax, 32; mov ecx, low; or rax, rcx; call rax
        out.push(0xb8, 0, 0, 0, 0, 0x48, 0xc1, 0xe0, 0x20, 0xb9, 0, 0, 0, 0, 0x48, 0x09, 0xc8, 0xff, 0xd0)
        targets.push({ field: out.length - 9, high: out.length - 18, kind: 'split', to })
      }
      out.push(0x48, 0x89, 0xc3) // mov rbx, rax
    }
    for (const step of steps) {
      if (step.kind === 'add') out.push(0x48, 0x81, 0xc3, step.value & 0xff, step.value >> 8, 0, 0)
      else if (step.kind === 'call') call(this.heap.entry(step.callee.handle!), step.how)
      else if (step.kind === 'back') call(this.#callback!, 'absolute')
      else if (step.kind === 'load') {
        out.push(0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x03, 0x18) // mov rax, cell; add rbx, [rax]
        targets.push({ field: out.length - 11, kind: 'abs64', to: this.#cellAddress(step.cell) })
      } else if (step.absolute) {
        out.push(0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x03, 0x18)
        constants.push({ field: out.length - 11, value: step.value, absolute: true })
      } else {
        out.push(0x48, 0x03, 0x1d, 0, 0, 0, 0) // add rbx, [rip + own]
        constants.push({ field: out.length - 4, value: step.value, absolute: false })
      }
    }
    out.push(0x48, 0x89, 0xd8, 0x5b, 0xc3) // mov rax, rbx; pop rbx; ret
    const code = out.length
    const bytes = new Uint8Array(code + 8 * constants.length)
    bytes.set(out)
    const view = new DataView(bytes.buffer)
    const sites: SiteInput[] = []
    constants.forEach(({ field, value, absolute }, i) => {
      const place = code + 8 * i
      view.setBigUint64(place, BigInt(value), true)
      if (absolute) {
        view.setBigUint64(field, at + BigInt(place), true)
        sites.push({ kind: 'abs64', offset: field })
      } else view.setInt32(field, place - field - 4, true)
    })
    for (const { field, high, kind, to } of targets) {
      if (kind === 'pc32') view.setInt32(field, Number(to - at) - field - 4, true)
      else if (kind === 'abs64') view.setBigUint64(field, to, true)
      else {
        view.setUint32(field, Number(to & 0xffff_ffffn), true)
        view.setUint32(high!, Number(to >> 32n), true)
        const piece = (offset: number, shift: number) => ({
          offset,
          width: 4 as const,
          shift,
          operation: 'or' as const,
        })
        sites.push({ kind, pieces: [piece(field, 0), piece(high!, 32)] })
        continue
      }
      sites.push({ kind, offset: field })
    }
    return { bytes, sites, code }
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

  /** The collector of the managed cells: copies them to the other half and forwards the roots. */
  #collect(): void {
    const values = Array.from({ length: CELLS }, (_, i) => this.#cell(i))
    const from = this.#half
    const { address } = this.#options.cells
    const distance = BigInt((from === 0 ? 1 : -1) * 8 * CELLS)
    this.#tried(() => {
      this.heap.forwardRoots((root) => {
        if (root < address || root >= address + BigInt(16 * CELLS))
          throw new Error('a root that was never made')
        return root + distance
      })
      this.#half = 1 - from
      for (const [i, value] of values.entries()) {
        this.#cells.setBigUint64(8 * (CELLS * from + i), 0xdead_0000_0000n, true)
        this.#setCell(i, value)
      }
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
    const expected = this.#value(routine, x)
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

  #value({ steps }: Routine, x: bigint): bigint {
    let value = x
    for (const step of steps) {
      if (step.kind === 'call') value = this.#value(step.callee, value)
      else if (step.kind === 'load') value += this.#cell(step.cell)
      else value += step.kind === 'back' ? 1n : BigInt(step.value)
    }
    return value
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

/** Memory that does one thing wrong, now and then. */
function sabotaged(memory: HeapMemory<Block>, sabotage: Sabotage | undefined): HeapMemory<Block> {
  if (sabotage !== 'inbound' && sabotage !== 'root' && sabotage !== 'return-address') return memory
  const write = <R>(from: number, to: number, work: (writer: CodeWriter) => R): R => {
    const before = new Map([...memory.registry].map((block) => [block, block.position]))
    return memory.write(from, to, (writer) =>
      work({
        poison: (position, size) => writer.poison(position, size),
        write: (position, bytes) => {
          // A block that stays and is written all the same: its referents moved (whole granules), or its roots did (code alone).
          const block = memory.registry.find(position)
          const stays = block !== undefined && before.get(block) === position
          if (stays && (sabotage === 'root') === (bytes.length !== block.size)) return
          writer.write(position, bytes)
        },
      }),
    )
  }
  const stack: StackAccess | undefined =
    memory.stack === undefined || sabotage !== 'return-address'
      ? memory.stack
      : { ...memory.stack, write: () => undefined }
  return {
    base: memory.base,
    size: memory.size,
    registry: memory.registry,
    bytes: memory.bytes,
    get committed() {
      return memory.committed
    },
    write: sabotage === 'return-address' ? (from, to, work) => memory.write(from, to, work) : write,
    ...(memory.call === undefined ? {} : { call: (address, args) => memory.call!(address, args) }),
    ...(memory.callback === undefined
      ? {}
      : { callback: (callee, arity) => memory.callback!(callee, arity) }),
    ...(stack === undefined ? {} : { stack }),
    close: () => memory.close(),
  }
}
