/**
 * A heap of machine code that moves.
 *
 * Objects are added as bytes with a table of their address fields (found by analysis where none is given),
 * and from then on the heap knows who refers to whom: an object moves, and every field in it and in its
 * callers that has to change does, in one transaction.
 *
 * Addresses of objects are good until the next move; handles always; `stableEntry` for who cannot be told.
 */
import { type AddressLike, toAddress, toOffset } from '../core/address.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import {
  checkFlag,
  checkFunction,
  checkWord,
  eachOf,
  iterableOf,
  listOf,
  optional,
  optionsRule,
} from '../core/options.ts'
import { type AddressRange, checkRangeList, type MovedRange, sortDisjoint, toRange } from '../core/range.ts'
import { addStub, admit, type CodeInput } from './admit.ts'
import { subtract } from './build.ts'
import { Calls } from './calls.ts'
import { describeHeap } from './describe.ts'
import { Drain } from './drain.ts'
import { freeze } from './freeze.ts'
import { type Callee, checkMemory, type HeapMemory } from './memory.ts'
import { type CompactOptions, type CompactReport, Mover, type ObjectMoveOptions } from './movement.ts'
import type { Block, CodeHandle, CodeObject } from './object.ts'
import { tornRoots } from './pieces.ts'
import { changeRoots, type Root } from './roots.ts'
import { type CodeMove, checkSideTable, type SideTable, SideTables } from './side-tables.ts'
import { HeapState } from './state.ts'
import { type Violation, verifyHeap } from './verify.ts'

export interface HeapOptions {
  /** Memory that the user moves himself: addresses in it are roots. */
  readonly managed?: readonly MovedRange[] | undefined
  /** Whether every block is checked against its canonical form before it is published. Default true. */
  readonly verify?: boolean | undefined
  readonly sideTables?: readonly SideTable[] | undefined
}

export interface RootOptions {
  /**
   * In place of a look at the stacks: every word that may be a return address or an instruction pointer, of
   * all stacks, registers and signal contexts.
   */
  readonly words?: Iterable<bigint> | undefined
}

const checkHeapOptions = optionsRule<HeapOptions>('CodeHeap', {
  managed: optional(checkRangeList),
  verify: optional(checkFlag),
  sideTables: optional(listOf('side tables', checkSideTable)),
})
const checkWords = iterableOf('words')
const checkRootOptions = optionsRule<RootOptions>('forwardRoots', { words: optional(checkWords) })

/** Where an address is. */
export class CodePlace {
  /** Bytes from the object's start; up to and including its length (a return address behind a call at the end). */
  readonly offset: number
  readonly #block: Block

  /** @internal */
  constructor(block: Block, offset: number) {
    this.offset = offset
    this.#block = block
  }

  get handle(): CodeHandle {
    return this.#block.handle
  }

  /** In an old copy that still runs. */
  get retired(): boolean {
    return this.#block.retired
  }
}

export class CodeHeap {
  readonly #state: HeapState
  readonly #drain: Drain
  readonly #calls: Calls
  readonly #mover: Mover
  readonly #sideTables: SideTables

  constructor(memory: HeapMemory<Block>, options: HeapOptions = {}) {
    const { managed = [], verify = true, sideTables = [] } = checkHeapOptions(options)
    this.#state = new HeapState(checkMemory(memory), managed)
    this.#sideTables = new SideTables([...sideTables])
    this.#drain = new Drain(this.#state, (objects) => {
      const handles = objects.filter(({ fixed }) => !fixed).map(({ handle }) => handle)
      this.#sideTables.tell(handles.map((handle) => (table) => table.onDealloc(handle)))
    })
    this.#calls = new Calls(this.#state, this.#drain)
    this.#mover = new Mover(this.#state, this.#calls, this.#sideTables, verify)
  }

  /** The addresses of all places. */
  get reservation(): AddressRange {
    return this.#state.reservation
  }

  /**
   * What a table for code at `base` has to cover beside the code itself: the options `moved` of
   * `RelocationTable.fromSites` and `analyze`.
   */
  moved(base: AddressLike, length: number): MovedRange[] {
    const own = toRange(base, Math.max(toOffset(length, 'length'), 1), 'the code')
    const holes = sortDisjoint([own], 'the code')
    return [this.reservation, ...this.#state.managed]
      .flatMap((range) => subtract(range, holes))
      .map(({ start, end }) => ({ start, length: end - start }))
  }

  /** Adds one object. See `addAll`. */
  add(input: CodeInput): CodeHandle {
    return this.addAll([input])[0]
  }

  /**
   * Adds objects that may refer to one another at their `base`s, to objects that are in the heap, where those
   * are now, and to anything that stays. All or none, also where a side table throws. Throws `refused` where
   * a field does not reach from the new place or analysis sees an address that it cannot write, `no-room`,
   * `bad-argument`, `not-covered`, `bad-table`.
   */
  addAll(inputs: readonly CodeInput[]): CodeHandle[] {
    this.#calls.release()
    const objects = admit(this.#state, inputs)
    try {
      this.#sideTables.tell(
        objects.map(({ handle, block }) => (table) => {
          table.onAdd({ handle, address: this.#state.address(block), code: this.#state.codeOf(block) })
        }),
      )
    } catch (error) {
      this.#drain.retire(new Set(objects))
      throw error
    }
    return objects.map(({ handle }) => handle)
  }

  /**
   * Frees objects. Their handles are stale at once; their bytes are given back, and `onDealloc` is called
   * once for each, when nothing runs in them. Throws `refused` where something that stays refers to one of
   * them, or it is pinned; then none is freed.
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
    const offset = object.entries[toOffset(i, 'the entry')]
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
    const stub = addStub(this.#state, object, entry)
    object.stubs = new Map([...object.stubs, [i, stub]])
    return this.#state.address(stub.block)
  }

  /** Gives a stable entry back: whoever still holds its address must not use it. */
  releaseStableEntry(handle: CodeHandle, i = 0): void {
    const object = this.#state.object(handle)
    const stub = object.stubs.get(i)
    if (stub === undefined)
      throw new RelocError('bad-argument', `${handle.name} has no stable entry for entry ${i}.`)
    object.stubs = new Map([...object.stubs].filter(([entry]) => entry !== i))
    this.#drain.retire(new Set([stub]))
  }

  /**
   * Calls an entry with up to six integers (System V); returns rax. Throws `unsupported` where the memory
   * cannot run code.
   */
  call(handle: CodeHandle, args: readonly bigint[] = [], i = 0): bigint {
    return this.#calls.call(this.entry(handle, i), args)
  }

  /**
   * Address of a C function, good until `close`, by which code of this heap calls `callee` with `arity` (up
   * to six) integers. Inside, code that is on the stack can be moved; code that leaves the heap by any other
   * function can be moved by draining only. Where `callee` throws, the code gets 0 and goes on, and its
   * `call` throws the error when it has returned.
   */
  callback(callee: Callee, arity: number): bigint {
    checkFunction(callee, 'callee')
    return this.#calls.callback(callee, arity)
  }

  /**
   * Says that code of the heap is running until the function returned is called: old copies stay, and slides
   * are refused. Throws `unsupported` where the memory serves this thread alone.
   */
  hold(): () => void {
    return this.#calls.hold()
  }

  /**
   * Moves one object, to `to` (an address that is free and aligned) or to the lowest place that fits. Throws
   * `refused` where it may not or cannot move.
   */
  move(handle: CodeHandle, options: ObjectMoveOptions = {}): CodeMove {
    return this.#mover.move(this.#state.object(handle), options)
  }

  /** Moves what can move to the low end. Throws `refused` for a slide while code runs. */
  compact(options: CompactOptions = {}): CompactReport {
    return this.#mover.compact(options)
  }

  /** 1 - longest free range / free bytes: 0 where the free bytes are one range. */
  get fragmentation(): number {
    return this.#state.fragmentation
  }

  /**
   * The object around an address of code, old copies included: return addresses, sampled PCs, interior
   * pointers. O(log of the reservation).
   */
  translate(address: bigint): CodePlace | undefined {
    checkWord(address, 'address')
    const { registry } = this.#state.memory
    const position = this.#state.position(address)
    const start = registry.startOf(position)
    return start < 0 || position - start > registry.lengthAt(start)
      ? undefined
      : new CodePlace(registry.ownerAt(start), position - start)
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
   * Keeps an object where it is for good, and gives up the records that only its own moves would need. It
   * still follows what it refers to, its roots still change, it can be freed. Throws `refused` while an old
   * copy of it may run.
   */
  freeze(handle: CodeHandle): void {
    freeze(this.#state, this.#state.object(handle))
  }

  /**
   * Keeps every object that one of these words may point into (up to the byte behind its end) where it is,
   * until the next call; an empty list lets all go. Returns their number.
   */
  pinAmbiguous(words: Iterable<bigint>): number {
    const { met } = this.#state
    checkWords(words, 'words')
    met.clear()
    for (const word of eachOf(words, checkWord, 'a word')) {
      const block = this.#state.blockAt(word)
      if (block !== undefined && word <= this.#state.address(block) + BigInt(block.object.length))
        met.add(block)
    }
    return met.size
  }

  /**
   * Every word of the machine's stack between the calls in flight and the callbacks that they are in, saved
   * registers included: what a collector of the managed memory has to take for pointers, conservatively.
   * Return addresses into the heap are among them: `translate` says whose they are. Throws `refused` where
   * code left the heap by another way than `callback`.
   */
  stackWords(): bigint[] {
    return this.#calls.words()
  }

  /**
   * Gives back what was retired and runs no more, as far as the stacks can be looked at. `words`, in place of
   * them: every word that may be a return address or a pointer into code, of all stacks and registers.
   * Returns the number of blocks that still drain.
   */
  drain(words?: Iterable<bigint>): number {
    optional(checkWords)(words, 'words')
    this.#calls.drain(words)
    return this.#state.retired.size
  }

  /** What is doubtful in an object's code: the warnings of its table, as of when it was added. */
  problems(handle: CodeHandle): readonly Problem[] {
    return this.#state.object(handle).problems
  }

  /** The managed addresses that an object's code holds, ascending as they were when it was added. */
  roots(handle: CodeHandle): bigint[] {
    return this.#state.object(handle).roots.map((root) => root.address)
  }

  /**
   * Changes one root, and every field that holds it. Throws `refused` where a field cannot hold it, and where
   * code that builds it from pieces stands among them.
   */
  patchRoot(handle: CodeHandle, i: number, to: AddressLike, options: RootOptions = {}): void {
    const { words } = checkRootOptions(options)
    const object = this.#state.object(handle)
    const root = object.roots[toOffset(i, 'the root')]
    if (root === undefined)
      throw new RelocError(
        'bad-argument',
        `${handle.name} has ${object.roots.length} roots, there is no root ${i}.`,
      )
    changeRoots(this.#state, new Map([[root, toAddress(to, 'to')]]), this.#tornRoots(words))
  }

  /**
   * After the managed memory has moved: `forward` says where an address of it is now. All roots of all
   * objects, or none, as `patchRoot` does one. Returns the number that changed.
   */
  forwardRoots(forward: (address: bigint) => bigint, options: RootOptions = {}): number {
    checkFunction(forward, 'forward')
    const { words } = checkRootOptions(options)
    const changes = new Map<Root, bigint>()
    const objects = new Set([...this.#state.memory.registry].map((block) => block.object))
    for (const { roots } of objects)
      for (const root of roots) {
        const to = toAddress(forward(root.address), 'a forwarded root')
        if (to !== root.address) changes.set(root, to)
      }
    changeRoots(this.#state, changes, this.#tornRoots(words))
    return changes.size
  }

  /**
   * The managed addresses that cannot change now: code that builds one from pieces stands, or may stand,
   * among them. What is there is to stay.
   */
  heldRoots(options: RootOptions = {}): bigint[] {
    const { words } = checkRootOptions(options)
    return [...new Set([...this.#tornRoots(words)].map(({ address }) => address))]
  }

  #tornRoots(words: Iterable<bigint> | undefined): Set<Root> {
    return tornRoots(this.#state, this.#calls.points(words))
  }

  /** Checks every invariant of the heap; what does not hold. Looks at every byte. */
  verify(): Violation[] {
    return verifyHeap(this.#state)
  }

  /** A map of the reservation for a person: objects, holes, pins, what does not move and why. */
  describe(): string {
    return describeHeap(this.#state)
  }

  /**
   * Gives the memory back; what needs it throws `stale` from then on. Throws `refused` while code of the heap
   * may be running.
   */
  close(): void {
    this.#state.close()
  }
}
