/**
 * Native memory for a heap: one anonymous file, mapped twice.
 *
 * Invariants:
 * - The executable view is never writable, the writable view never executable. The writable view is mapped once and allows nothing
 *   outside a write scope; in a scope only the pages that it names are open.
 * - Pages above `committed` allow nothing in either view; committed bytes that are free hold `int3`.
 * - After each scope every thread of the process serialises (membarrier) before it can run what was written through the other view.
 * - A forked child would share the pages, so a process other than the maker's is refused.
 */
import { type AddressLike, hex, toAddress } from '../../core/address.ts'
import { RelocError } from '../../core/errors.ts'
import {
  type Callee,
  CheckedWriter,
  type CodeWriter,
  checkReservation,
  type HeapMemory,
  PAGE,
  POISON,
} from '../memory.ts'
import { type Extent, Registry } from '../registry.ts'
import type { StackAccess } from '../stack.ts'
import { NativeMemory } from './memory.ts'

export interface NativeOptions {
  /** Bytes, whole pages, below 2 GiB; memory is used as code comes. Default 64 MiB. */
  readonly size?: number | undefined
  /** Place the reservation at exactly this address. */
  readonly base?: AddressLike | undefined
  /** Addresses that every byte of the reservation is to reach with 32 bits (C functions that the code calls directly). */
  readonly near?: readonly AddressLike[] | undefined
}

const DEFAULT_SIZE = 64 << 20
/** Bytes that are committed at once. */
const CHUNK = 1 << 20
const REACH = 2n ** 31n - 2n ** 16n
/** Where a reservation is looked for: at steps of this many bytes from the addresses that it is to be near. */
const PROBE_STEP = 16n << 20n
const LOWEST = 0x10000n
const HIGHEST = 0x7fff_0000_0000n

/** A reservation in this process. Throws `unsupported` where the platform or the system refuses, `bad-argument` where the place is taken. */
export function nativeMemory<T extends Extent>(options: NativeOptions = {}): HeapMemory<T> {
  const size = options.size ?? DEFAULT_SIZE
  checkReservation(0n, size)
  const memory = new NativeMemory()
  try {
    return new Reservation<T>(memory, size, options)
  } catch (error) {
    memory.close()
    throw error
  }
}

class Reservation<T extends Extent> implements HeapMemory<T> {
  readonly base: bigint
  readonly size: number
  readonly registry: Registry<T>
  readonly bytes: Uint8Array
  committed = 0
  readonly #memory: NativeMemory
  /** Address and bytes of the writable view. */
  readonly #alias: bigint
  readonly #writable: Uint8Array
  readonly #process = process.pid
  readonly stack: StackAccess
  #writing = false

  constructor(memory: NativeMemory, size: number, options: NativeOptions) {
    this.#memory = memory
    this.size = size
    this.registry = new Registry<T>(size)
    const file = memory.createShared('x64-reloc', size)
    try {
      this.base = placeView(memory, file, size, options)
      this.#alias = memory.mapShared(file, 0, undefined, size, 'none')
    } finally {
      memory.closeShared(file)
    }
    memory.serializeThreads()
    this.bytes = memory.window(this.base, size)
    this.#writable = memory.window(this.#alias, size)
    this.stack = stackOf(memory)
  }

  write<R>(from: number, to: number, work: (writer: CodeWriter) => R): R {
    if (this.#writing) throw new RelocError('bad-argument', 'A write scope is open: scopes do not nest.')
    if (process.pid !== this.#process)
      throw new RelocError(
        'unsupported',
        `This heap belongs to process ${this.#process}: a forked child shares its pages and does not write them.`,
      )
    if (to > this.committed) this.#commit(to)
    const first = Math.floor(from / PAGE) * PAGE
    const pages = Math.max(to - first, 1)
    const place = this.#alias + BigInt(first)
    this.#memory.protect(place, pages, 'rw')
    this.#writing = true
    const writer = new CheckedWriter(this.registry, this.#writable.subarray(from, to), from, to)
    try {
      return work(writer)
    } finally {
      writer.close()
      this.#writing = false
      this.#memory.protect(place, pages, 'none')
      this.#memory.serializeThreads()
    }
  }

  call(address: bigint, args: readonly bigint[]): bigint {
    return this.#memory.call(address, args)
  }

  callback(callee: Callee, arity: number): bigint {
    return this.#memory.callback(callee, arity)
  }

  close(): void {
    this.#memory.close()
  }

  /** Poisons and opens for execution whatever is still missing below `to`. */
  #commit(to: number): void {
    const from = this.committed
    const end = Math.min(this.size, Math.ceil(to / CHUNK) * CHUNK)
    const place = this.#alias + BigInt(from)
    this.#memory.protect(place, end - from, 'rw')
    this.#writable.fill(POISON, from, end)
    this.#memory.protect(place, end - from, 'none')
    this.#memory.protect(this.base + BigInt(from), end - from, 'rx')
    this.committed = end
  }
}

/** The stack of this thread, and a page for the control block. */
function stackOf(memory: NativeMemory): StackAccess {
  const file = memory.createShared('x64-reloc-control', PAGE)
  const control = memory.mapShared(file, 0, undefined, PAGE, 'rw')
  memory.closeShared(file)
  const shadow = /^x86_Thread_features:.*\bshstk\b/m.test(
    process.getBuiltinModule('fs').readFileSync('/proc/self/status', 'utf8'),
  )
  return {
    control,
    fixed: shadow
      ? 'the system keeps a shadow stack, on which return addresses cannot be changed'
      : undefined,
    read: (address) => memory.foreign(address, 8).getBigUint64(0, true),
    write: (address, value) => memory.foreign(address, 8).setBigUint64(0, value, true),
  }
}

/** Maps the view that is executed, where the options want it. */
function placeView(memory: NativeMemory, file: number, size: number, options: NativeOptions): bigint {
  if (options.base !== undefined) {
    const base = toAddress(options.base, 'base')
    checkReservation(base, size)
    return memory.mapShared(file, 0, base, size, 'none')
  }
  const near = (options.near ?? []).map((address, i) => toAddress(address, `near[${i}]`))
  if (near.length === 0) return memory.mapShared(file, 0, undefined, size, 'none')
  for (const base of nearPlaces(near, size)) {
    try {
      return memory.mapShared(file, 0, base, size, 'none')
    } catch (error) {
      if (!(error instanceof RelocError) || error.code !== 'bad-argument') throw error
    }
  }
  throw new RelocError(
    'bad-argument',
    `No free place for ${size} bytes within 32-bit reach of ${near.map(hex).join(', ')}: make the reservation smaller, or call what is far through a pointer.`,
  )
}

/** Bases from which the whole reservation reaches all of `near`, those nearest to the middle first. */
function* nearPlaces(near: readonly bigint[], size: number): IterableIterator<bigint> {
  const sorted = [...near].sort((a, b) => (a < b ? -1 : 1))
  const length = BigInt(size)
  const clamp = (low: bigint, value: bigint): bigint => (value < low ? low : value)
  const low = clamp(LOWEST, sorted[sorted.length - 1] - REACH)
  const high = sorted[0] + REACH - length < HIGHEST ? sorted[0] + REACH - length : HIGHEST
  const middle = ((sorted[0] + sorted[sorted.length - 1]) / 2n) & ~(PROBE_STEP - 1n)
  for (let distance = 0n; middle - distance >= low || middle + distance <= high; distance += PROBE_STEP) {
    if (middle + distance >= low && middle + distance <= high) yield middle + distance
    if (distance > 0n && middle - distance >= low && middle - distance <= high) yield middle - distance
  }
}
