/**
 * A heap of machine code that moves.
 *
 * Objects are added as bytes with a table of their address fields (found by analysis where none is given), and from then on the heap
 * knows who refers to whom: an object moves, and every field in it and in its callers that has to change does, in one transaction.
 *
 * Addresses of objects are good until the next move; handles always; `stableEntry` for who cannot be told.
 */
import { type AnalyzeOptions, analyze } from '../analyze/analyze.ts'
import { type AddressLike, hex, toAddress, toOffset } from '../core/address.ts'
import { toBytes } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { type AddressRange, sortDisjoint, toRange } from '../core/range.ts'
import { relocate } from '../relocate/relocate.ts'
import type { MovedRange } from '../table/builder.ts'
import { PC32 } from '../table/kinds.ts'
import type { RelocationTable } from '../table/table.ts'
import {
  checkCoverage,
  measureFields,
  ownSites,
  placingTable,
  requiredCoverage,
  type Surroundings,
  subtract,
} from './build.ts'
import { describeHeap } from './describe.ts'
import { Drain } from './drain.ts'
import { type Fields, LINK, SELF } from './fields.ts'
import { type Callee, type HeapMemory, POISON } from './memory.ts'
import { Block, type CodeHandle, CodeObject, LEAST_ALIGN } from './object.ts'
import { type Budget, type CompactMode, planCompaction, planMove, reasonToStay } from './plan.ts'
import { changeRoots } from './roots.ts'
import { type ReturnSlot, type StackScan, scanStack } from './stack.ts'
import { HeapState } from './state.ts'
import { entryStub, exitStub } from './stubs.ts'
import { type MovedObject, transact } from './transaction.ts'
import { type Violation, verifyHeap } from './verify.ts'

/** Code to add. */
export interface CodeInput {
  readonly bytes: Uint8Array
  /** Address that the bytes are made for. */
  readonly base: AddressLike
  /** Its address fields; it must cover `heap.moved(...)`. By default the code is analysed. */
  readonly table?: RelocationTable | undefined
  /** For the analysis. */
  readonly hints?: AnalyzeOptions['hints']
  /** Offsets where it is entered, by default 0 alone. */
  readonly entries?: readonly number[] | undefined
  /** Of its address, a power of two; by default 16. */
  readonly align?: number | undefined
  /** Every frame of it keeps rbp as a frame pointer; by default where frames are is computed from the code. */
  readonly framePointers?: boolean | undefined
  /** For people and profilers. */
  readonly name?: string | undefined
}

/** A move that was made; addresses. */
export interface CodeMove {
  readonly handle: CodeHandle
  readonly from: bigint
  readonly to: bigint
  /** Bytes of code. */
  readonly length: number
}

/** What follows the code: a profiler's map, unwind tables. Both calls are required: a table that hears of no move is wrong. */
export interface SideTable {
  /** After an object was added; `code` is not to be kept. */
  onAdd(added: { readonly handle: CodeHandle; readonly address: bigint; readonly code: Uint8Array }): void
  /** After moves, all of one transaction. */
  onMove(moves: readonly CodeMove[]): void
  /** Once for each object, when its last byte is given back. */
  onDealloc(handle: CodeHandle): void
}

export interface HeapOptions {
  /** Memory that the user moves himself: addresses in it are roots. */
  readonly managed?: readonly MovedRange[] | undefined
  /** Whether every block is checked against its canonical form before it is published. Default true. */
  readonly verify?: boolean | undefined
  readonly sideTables?: readonly SideTable[] | undefined
}

export interface CompactOptions {
  /** `slide`: old places are free at once; nothing may be running that cannot be rewritten. `drain`: old copies stay until nothing runs in them. */
  readonly mode?: CompactMode | undefined
  readonly budget?: Budget | undefined
  /** @internal */
  readonly probe?: ((step: string) => void) | undefined
}

export interface CompactReport {
  readonly moves: readonly CodeMove[]
  /** Bytes of code moved. */
  readonly bytes: number
  /** What stays although it could lie lower, and why. */
  readonly kept: readonly { readonly handle: CodeHandle; readonly reason: string }[]
  /** 1 - longest free range / free bytes. */
  readonly fragmentation: { readonly before: number; readonly after: number }
}

/** Where an address is. */
export interface CodePlace {
  readonly handle: CodeHandle
  /** Bytes from the object's start; up to and including its length (a return address behind a call at the end). */
  readonly offset: number
  /** In an old copy that still runs. */
  readonly retired: boolean
}

export class CodeHeap {
  readonly #state: HeapState
  readonly #drain: Drain
  readonly #managed: readonly AddressRange[]
  readonly #verify: boolean
  readonly #sideTables: SideTable[]
  /** Errors of callbacks, which are thrown when the call that met them has returned. */
  readonly #thrown: unknown[] = []
  readonly #entry: { readonly stub: CodeObject; readonly returnAddress: bigint } | undefined

  constructor(memory: HeapMemory<Block>, options: HeapOptions = {}) {
    this.#state = new HeapState(memory)
    this.#verify = options.verify ?? true
    this.#sideTables = [...(options.sideTables ?? [])]
    const managed = (options.managed ?? []).map(({ start, length }, i) =>
      toRange(start, length, `managed[${i}]`),
    )
    this.#managed = sortDisjoint(
      [...managed, this.reservation],
      'the reservation and the managed ranges',
    ).filter((range) => managed.includes(range))
    this.#drain = new Drain(this.#state, ({ handle, fixed }) => {
      if (!fixed) this.#tell((table) => table.onDealloc(handle))
    })
    if (memory.stack !== undefined) {
      const { code, returnPoint } = entryStub(memory.stack.control)
      const stub = this.#addFixed('entry stub', code.length, [], { groups: [], splits: [] }, () => code)
      this.#entry = { stub, returnAddress: this.#state.address(stub.block) + BigInt(returnPoint) }
    }
  }

  /** The addresses of all places. */
  get reservation(): AddressRange {
    const { base, size } = this.#state.memory
    return { start: base, end: base + BigInt(size) }
  }

  /** What a table for code at `base` has to cover beside the code itself: the options `moved` of `RelocationTable.fromSites` and `analyze`. */
  moved(base: AddressLike, length: number): MovedRange[] {
    const own = toRange(base, Math.max(length, 1), 'the code')
    const holes = sortDisjoint([own], 'the code')
    return [this.reservation, ...this.#managed]
      .flatMap((range) => subtract(range, holes))
      .map(({ start, end }) => ({ start, length: end - start }))
  }

  /** Adds one object. See `addAll`. */
  add(input: CodeInput): CodeHandle {
    return this.addAll([input])[0]
  }

  /**
   * Adds objects that may refer to one another at their `base`s, to objects that are in the heap, where those are now, and to anything that stays. All
   * or none. Throws `refused` where a field does not reach from the new place, `no-room`, `bad-argument`, `not-covered`, `bad-table`.
   */
  addAll(inputs: readonly CodeInput[]): CodeHandle[] {
    this.#release()
    const objects = inputs.map((input) => this.#newObject(input))
    const taken: { readonly position: number; readonly size: number }[] = []
    try {
      this.#place(inputs, objects, taken)
    } catch (error) {
      for (const { position, size } of taken) this.#state.free.free(position, size)
      for (const object of objects) this.#state.dropHandle(object.handle)
      throw error
    }
    for (const { handle, block } of objects)
      this.#tell((table) =>
        table.onAdd({ handle, address: this.#state.address(block), code: this.#state.codeOf(block) }),
      )
    return objects.map(({ handle }) => handle)
  }

  #newObject(input: CodeInput): CodeObject {
    const { length } = toBytes(input.bytes, 'bytes')
    const align = input.align ?? LEAST_ALIGN
    if (!Number.isSafeInteger(align) || align < 1 || align > 4096 || (align & (align - 1)) !== 0)
      throw new RelocError('bad-argument', `align is ${align}: a power of two up to 4096 is needed.`)
    const entries = (input.entries ?? [0]).map((entry, i) => toOffset(entry, `entries[${i}]`, length))
    return new CodeObject({
      handle: this.#state.newHandle(input.name),
      length,
      align: Math.max(align, LEAST_ALIGN),
      entries,
      framePointers: input.framePointers,
    })
  }

  #place(
    inputs: readonly CodeInput[],
    objects: readonly CodeObject[],
    taken: { readonly position: number; readonly size: number }[],
  ): void {
    const state = this.#state
    const owns = inputs.map(({ base, bytes }, i) => ({
      ...toRange(base, Math.max(bytes.length, 1), objects[i].handle.name),
      object: objects[i],
    }))
    const around: Surroundings = {
      members: sortDisjoint(owns, 'the objects, where they are made for'),
      reservation: this.reservation,
      managed: this.#managed,
      find: (address) => {
        const block = state.blockAt(address)
        return block === undefined || block.retired ? undefined : block.object
      },
    }
    const tables = inputs.map((input, i) => this.#tableOf(input, owns[i], around))
    const owned = tables.map((table, i) => ownSites(table, objects[i], around))
    for (const { size, align, handle } of objects)
      taken.push({ position: state.allocate(size, align, handle.name), size })
    const to = taken.map(({ position }) => state.memory.base + BigInt(position))
    const codes = tables.map((table, i) => {
      const placing = placingTable(table, around)
      const also = owns.flatMap(({ start, end }, j) =>
        j !== i && placing.coverage.some((range) => range.start === start && range.end === end)
          ? [{ from: start, to: to[j], length: end - start }]
          : [],
      )
      return relocate(inputs[i].bytes, placing, { to: to[i], also }).bytes
    })
    objects.forEach((object, i) => {
      measureFields(owned[i].fields, codes[i])
      object.roots = owned[i].roots
      object.runs = tables[i].parts.runs
      object.block = new Block(object, taken[i].position, owned[i].fields, owned[i].links)
    })
    this.#enter(objects, codes)
  }

  #tableOf(input: CodeInput, own: AddressRange, around: Surroundings): RelocationTable {
    const { table, bytes } = input
    if (table === undefined) {
      const entries = [...new Set([...(input.hints?.entries ?? []), ...(input.entries ?? [0])])]
      return analyze(bytes, {
        base: own.start,
        moved: requiredCoverage(own, around),
        hints: { ...input.hints, entries: entries.filter((entry) => entry < bytes.length) },
      })
    }
    table.check(bytes)
    if (table.base !== own.start)
      throw new RelocError(
        'bad-table',
        `The table describes the code at ${hex(table.base)}, not at ${hex(own.start)}.`,
      )
    checkCoverage(table, own, around)
    return table
  }

  /** Publishes new objects whose blocks are made and whose places are taken. */
  #enter(objects: readonly CodeObject[], codes: readonly Uint8Array[]): void {
    const { memory, objects: slots } = this.#state
    const from = Math.min(...objects.map(({ block }) => block.position))
    const to = Math.max(...objects.map(({ block }) => block.position + block.size))
    memory.write(from, to, (writer) => {
      objects.forEach((object, i) => {
        const image = new Uint8Array(object.size).fill(POISON, codes[i].length)
        image.set(codes[i])
        memory.registry.add(object.block)
        writer.write(object.block.position, image)
        object.block.link()
        slots[object.handle.index] = object
      })
    })
    for (const object of objects) {
      object.canonical = this.#state.canonical(object.block)
    }
  }

  /**
   * Frees objects. Their handles are stale at once; their bytes are given back, and `onDealloc` is called once for each, when nothing runs in them.
   * Throws `refused` where something that stays refers to one of them, or it is pinned; then none is freed.
   */
  free(...handles: readonly CodeHandle[]): void {
    const objects = new Set(handles.map((handle) => this.#state.object(handle)))
    for (const object of objects) {
      const refused = (why: string): RelocError =>
        new RelocError('refused', `${object.handle.name} is not freed: ${why}`)
      if (object.pins > 0) throw refused('it is pinned; unpin it first.')
      if (object.stubs.size > 0) throw refused('it has a stable entry; release that first.')
      for (const { object: caller } of object.callers)
        if (!caller.freed && !objects.has(caller))
          throw refused(`${caller.handle.name} refers to it; free both in one call, or that one first.`)
    }
    this.#drain.retire(objects)
  }

  /** Address of entry `i`, good until the next move. */
  entry(handle: CodeHandle, i = 0): bigint {
    const object = this.#state.object(handle)
    return this.#state.address(object.block) + BigInt(this.#entryOffset(object, i))
  }

  #entryOffset(object: CodeObject, i: number): number {
    const offset = object.entries[i]
    if (offset === undefined)
      throw new RelocError(
        'bad-argument',
        `${object.handle.name} has ${object.entries.length} entries, there is no entry ${i}.`,
      )
    return offset
  }

  /** Address of a jump to entry `i` that never moves, until `releaseStableEntry`. The object cannot be freed before. */
  stableEntry(handle: CodeHandle, i = 0): bigint {
    const object = this.#state.object(handle)
    const known = object.stubs.get(i)
    if (known !== undefined) return this.#state.address(known.block)
    const entry = this.#entryOffset(object, i)
    const stub = this.#makeStub(object, entry)
    object.stubs.set(i, stub)
    return this.#state.address(stub.block)
  }

  /** `jmp rel32` as an object of its own: moves of its target change it as they change any caller. */
  #makeStub(target: CodeObject, entry: number): CodeObject {
    const group = { kind: PC32, target: LINK, anchor: SELF, offsets: Uint32Array.of(1), min: 0, max: 0 }
    return this.#addFixed(
      `stub of ${target.handle.name}`,
      5,
      [target],
      { groups: [group], splits: [] },
      (position) => {
        const distance = target.block.position + entry - (position + 5)
        return Uint8Array.of(0xe9, distance, distance >> 8, distance >> 16, distance >> 24)
      },
    )
  }

  /** An object of the heap's own that never moves; `make` gives its code for a position. */
  #addFixed(
    name: string,
    length: number,
    links: readonly CodeObject[],
    fields: Fields,
    make: (position: number) => Uint8Array,
  ): CodeObject {
    const handle = this.#state.newHandle(name)
    const object = new CodeObject({ handle, length, align: LEAST_ALIGN, entries: [0], fixed: true })
    try {
      const position = this.#state.allocate(object.size, object.align, name)
      const code = make(position)
      measureFields(fields, code)
      object.block = new Block(object, position, fields, links)
      this.#enter([object], [code])
      return object
    } catch (error) {
      this.#state.dropHandle(handle)
      throw error
    }
  }

  /** Gives a stable entry back: whoever still holds its address must not use it. */
  releaseStableEntry(handle: CodeHandle, i = 0): void {
    const object = this.#state.object(handle)
    const stub = object.stubs.get(i)
    if (stub === undefined)
      throw new RelocError('bad-argument', `${handle.name} has no stable entry for entry ${i}.`)
    object.stubs.delete(i)
    this.#drain.retire(new Set([stub]))
  }

  /** Calls an entry with up to six integers (System V); returns rax. Throws `unsupported` where the memory cannot run code. */
  call(handle: CodeHandle, args: readonly bigint[] = [], i = 0): bigint {
    const address = this.entry(handle, i)
    const { memory } = this.#state
    if (memory.call === undefined)
      throw new RelocError('unsupported', 'This memory is simulated: code in it cannot be called.')
    if (args.length > 6)
      throw new RelocError('bad-argument', `${args.length} arguments: the registers hold six integers.`)
    const { stub } = this.#entry ?? {}
    const all = [...args, ...new Array<bigint>(6 - args.length).fill(0n), address]
    const before = this.#thrown.length
    this.#state.calls++
    try {
      const result =
        stub === undefined ? memory.call(address, args) : memory.call(this.#state.address(stub.block), all)
      const thrown = this.#thrown.splice(before)
      if (thrown.length > 0) throw thrown[0]
      return result
    } finally {
      this.#state.calls--
      this.#release()
    }
  }

  /**
   * Address of a C function, good until `close`, by which code of this heap calls `callee` with `arity` (up to six) integers. Inside, code
   * that is on the stack can be moved; code that leaves the heap by any other function can be moved by draining only. Where `callee` throws,
   * the code gets 0 and goes on, and its `call` throws the error when it has returned.
   */
  callback(callee: Callee, arity: number): bigint {
    const { memory } = this.#state
    if (memory.callback === undefined || memory.stack === undefined)
      throw new RelocError('unsupported', 'This memory is simulated: code in it calls nothing.')
    if (!(arity >= 0 && arity <= 6))
      throw new RelocError('bad-argument', `arity is ${arity}: the registers hold six integers.`)
    const guarded = (...args: bigint[]): bigint | undefined => {
      try {
        return callee(...args)
      } catch (error) {
        this.#thrown.push(error)
        return 0n
      }
    }
    const code = exitStub(memory.stack.control, memory.callback(guarded, arity))
    const none = { groups: [], splits: [] }
    return this.#state.address(this.#addFixed('exit stub', code.length, [], none, () => code).block)
  }

  /** Says that code of the heap is running until the function returned is called: old copies stay, and slides are refused. */
  hold(): () => void {
    this.#state.holds++
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#state.holds--
      this.#release()
    }
  }

  /** Where nothing runs, gives back what was retired. */
  #release(): void {
    if (this.#state.busy) return
    this.#state.running = new Set()
    this.#drain.all()
  }

  /**
   * Moves one object, to `to` (an address that is free and aligned) or to the lowest place that fits. Throws `refused` where it may not or cannot move.
   */
  move(
    handle: CodeHandle,
    options: CompactOptions & { readonly to?: AddressLike | undefined } = {},
  ): CodeMove {
    const state = this.#state
    const { block, align } = state.object(handle)
    const { mode = 'slide' } = options
    const to = options.to === undefined ? undefined : this.#positionOf(toAddress(options.to, 'to'), align)
    const returns = this.#walk(mode)
    const reason = reasonToStay(state, block, mode)
    if (reason !== undefined) throw new RelocError('refused', `${handle.name} does not move: ${reason}.`)
    const { moved, refused } = this.#transact(mode, returns, options, (stay) => {
      if (stay.has(block)) return { moves: [], free: state.free }
      const placement = planMove(state, mode, block, to)
      if (placement === undefined)
        throw new RelocError('no-room', `${handle.name} needs ${block.size} free bytes where it shall go.`)
      return placement
    })
    if (moved.length === 0)
      throw new RelocError('refused', `${handle.name} does not move: ${refused.get(block) ?? ''}`)
    return this.#told(moved)[0]
  }

  #positionOf(address: bigint, align: number): number {
    const position = this.#state.position(address)
    if (position < 0 || address % BigInt(align) !== 0n)
      throw new RelocError(
        'bad-argument',
        `${hex(address)} is no place for it: a multiple of ${align} in the reservation is needed.`,
      )
    return position
  }

  /** Moves what can move to the low end. Throws `refused` for a slide while code runs. */
  compact(options: CompactOptions = {}): CompactReport {
    const state = this.#state
    const { mode = 'slide' } = options
    this.#release()
    const returns = this.#walk(mode)
    const before = this.fragmentation
    const { moved, refused } = this.#transact(mode, returns, options, (refusedBlocks) =>
      planCompaction(
        state,
        mode,
        options.budget ?? {},
        (block) => refusedBlocks.has(block) || reasonToStay(state, block, mode) !== undefined,
      ),
    )
    const moves = this.#told(moved)
    const kept: { handle: CodeHandle; reason: string }[] = []
    for (const block of state.memory.registry) {
      const reason = refused.get(block) ?? reasonToStay(state, block, mode)
      if (reason !== undefined && !block.object.fixed && !block.retired)
        kept.push({ handle: block.object.handle, reason })
    }
    this.#release()
    return {
      moves,
      bytes: moves.reduce((sum, move) => sum + move.length, 0),
      kept,
      fragmentation: { before, after: this.fragmentation },
    }
  }

  /** The return addresses that a slide has to rewrite; draining needs none. Throws `refused` where the stacks cannot be walked. */
  #walk(mode: CompactMode): readonly ReturnSlot[] {
    if (mode === 'drain' || !this.#state.busy) return []
    const scan = this.#scan()
    if (typeof scan === 'string')
      throw new RelocError('refused', `Code is running, and ${scan}: only mode 'drain' moves code now.`)
    this.#state.running = scan.pinned
    return scan.returns
  }

  #scan(): StackScan | string {
    const { calls, holds, memory } = this.#state
    if (holds > 0) return 'it was said (`hold`) that some of it runs where the heap does not see it'
    const { stack } = memory
    if (stack === undefined || this.#entry === undefined) return 'this memory shows no stack'
    return scanStack(this.#state, stack, calls, this.#entry.returnAddress)
  }

  #transact(
    mode: CompactMode,
    returns: readonly ReturnSlot[],
    options: CompactOptions,
    plan: Parameters<typeof transact>[1],
  ): ReturnType<typeof transact> {
    const done = transact(this.#state, plan, { mode, verify: this.#verify, probe: options.probe })
    if (done.moved.length > 0)
      for (const { slot, block, offset } of returns)
        this.#state.memory.stack!.write(slot, this.#state.address(block) + BigInt(offset))
    return done
  }

  /** Tells the side tables of moves that are made. */
  #told(moved: readonly MovedObject[]): CodeMove[] {
    const { base } = this.#state.memory
    const moves = moved.map(({ object, from, to }) => ({
      handle: object.handle,
      from: base + BigInt(from),
      to: base + BigInt(to),
      length: object.length,
    }))
    if (moves.length > 0) this.#tell((table) => table.onMove(moves))
    return moves
  }

  /** What is told has been done, whatever a side table throws; the first error is thrown when all were told. */
  #tell(what: (table: SideTable) => void): void {
    const errors: unknown[] = []
    for (const table of this.#sideTables)
      try {
        what(table)
      } catch (error) {
        errors.push(error)
      }
    if (errors.length > 0) throw errors[0]
  }

  /** 1 - longest free range / free bytes: 0 where the free bytes are one range. */
  get fragmentation(): number {
    const { total, longest } = this.#state.free
    return total === 0 ? 0 : 1 - longest / total
  }

  /** The object around an address of code, old copies included: return addresses, sampled PCs, interior pointers. O(log of the reservation). */
  translate(address: bigint): CodePlace | undefined {
    const position = this.#state.position(address)
    const block = position < 0 ? undefined : this.#state.memory.registry.find(position)
    if (block === undefined) return undefined
    const offset = position - block.position
    const { handle, length } = block.object
    return offset > length ? undefined : { handle, offset, retired: block.retired }
  }

  /** Keeps an object where it is until `unpin` was called as often. */
  pin(handle: CodeHandle): void {
    this.#state.object(handle).pins++
  }

  /** Throws `bad-argument` where it is not pinned. */
  unpin(handle: CodeHandle): void {
    const object = this.#state.object(handle)
    if (object.pins === 0) throw new RelocError('bad-argument', `${handle.name} is not pinned.`)
    object.pins--
  }

  /**
   * Keeps every object that one of these words may point into (up to the byte behind its end) where it is, until the next call; an empty list lets
   * all go. Returns their number.
   */
  pinAmbiguous(words: Iterable<bigint>): number {
    const { met } = this.#state
    met.clear()
    for (const word of words) {
      const block = this.#state.blockAt(word)
      if (block !== undefined && word <= this.#state.address(block) + BigInt(block.object.length))
        met.add(block)
    }
    return met.size
  }

  /**
   * Gives back what was retired and runs no more, as far as the stacks can be looked at. `words`, in place of them: every word that may be a
   * return address or a pointer into code, of all stacks and registers. Returns the number of blocks that still drain.
   */
  drain(words?: Iterable<bigint>): number {
    if (!this.#state.busy) this.#release()
    else if (words !== undefined)
      this.#drain.except([...words].flatMap((word) => this.#state.blockAt(word) ?? []))
    else {
      const scan = this.#scan()
      if (typeof scan !== 'string')
        this.#drain.except([...scan.pinned, ...scan.returns.map(({ block }) => block)])
    }
    return this.#state.retired.size
  }

  /** The managed addresses that an object's code holds, ascending as they were when it was added. */
  roots(handle: CodeHandle): bigint[] {
    return this.#state.object(handle).roots.map((root) => root.address)
  }

  /** Changes one root, and every field that holds it. Throws `refused` where a field cannot hold it. */
  patchRoot(handle: CodeHandle, i: number, to: AddressLike): void {
    const object = this.#state.object(handle)
    const root = object.roots[i]
    if (root === undefined)
      throw new RelocError(
        'bad-argument',
        `${handle.name} has ${object.roots.length} roots, there is no root ${i}.`,
      )
    changeRoots(this.#state, new Map([[root, toAddress(to, 'to')]]))
  }

  /** After the managed memory has moved: `forward` says where an address of it is now. All roots of all objects, or none. Returns the number that changed. */
  forwardRoots(forward: (address: bigint) => bigint): number {
    const changes = new Map<CodeObject['roots'][number], bigint>()
    const objects = new Set([...this.#state.memory.registry].map((block) => block.object))
    for (const { roots } of objects)
      for (const root of roots) {
        const to = toAddress(forward(root.address), 'a forwarded root')
        if (to !== root.address) changes.set(root, to)
      }
    changeRoots(this.#state, changes)
    return changes.size
  }

  /** Checks every invariant of the heap; what does not hold. Looks at every byte. */
  verify(): Violation[] {
    return verifyHeap(this.#state)
  }

  /** A map of the reservation for a person: objects, holes, pins, what does not move and why. */
  describe(): string {
    return describeHeap(this.#state)
  }

  /** Gives the memory back; nothing of the heap may run or be used any more. */
  close(): void {
    this.#state.memory.close()
  }
}
