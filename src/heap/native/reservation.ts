/**
 * Native memory for a heap: views.ts's pages under the checks of a write scope.
 *
 * Invariants:
 * - Outside a write scope nothing is writable; in a scope only the pages that it names are.
 * - Pages above `committed` allow nothing; committed bytes that are free hold `int3`.
 * - After each scope every thread of the process serialises (membarrier) before it can run what was written; where the system has no
 *   membarrier this thread does (cpuid), and `oneThread` says that no other may run code.
 * - What the system refuses is refused before anything was written. That pages do not close can only be known afterwards: then the heap is
 *   as it shall be, and every further scope and call is refused until they do.
 */
import { type AddressLike, hex, toAddress, toOffset } from '../../core/address.ts'
import { RelocError } from '../../core/errors.ts'
import { listOf, oneOf, optional, optionsRule } from '../../core/options.ts'
import {
  type Callee,
  CheckedWriter,
  type CodeWriter,
  checkReservation,
  type HeapMemory,
  PAGE,
} from '../memory.ts'
import { type Extent, Registry } from '../registry.ts'
import type { StackAccess } from '../stack.ts'
import { type Machine, THIS_MACHINE } from './machine.ts'
import type { NativeMemory } from './memory.ts'
import { type MapAt, mapViews, serialize, type Views } from './views.ts'

export interface NativeOptions {
  /** Bytes, whole pages, below 2 GiB; memory is used as code comes. Default 64 MiB. */
  readonly size?: number | undefined
  /** Place the reservation at exactly this address. */
  readonly base?: AddressLike | undefined
  /**
   * Addresses that every byte of the reservation is to reach with 32 bits (C functions that the code calls directly).
   */
  readonly near?: readonly AddressLike[] | undefined
  /**
   * 2, the default: one file mapped twice; where the system refuses that, 1: private pages that are written
   * and executed in turn, in this thread alone. perf reads perf maps for private pages only.
   */
  readonly views?: 1 | 2 | undefined
}

const checkOptions = optionsRule<NativeOptions>('nativeMemory', {
  size: optional(toOffset),
  base: optional(toAddress),
  near: optional(listOf('addresses', toAddress)),
  views: optional(oneOf(1, 2)),
})

const DEFAULT_SIZE = 64 << 20
/** Bytes that are committed at once. */
const CHUNK = 1 << 20
const REACH = 2n ** 31n - 2n ** 16n
/** Where a reservation is looked for: at steps of this many bytes from the addresses that it is to be near. */
const PROBE_STEP = 16n << 20n
const LOWEST = 0x10000n
const HIGHEST = 0x7fff_0000_0000n

/**
 * A reservation in this process. Throws `unsupported` where the platform or the system refuses,
 * `bad-argument` where the place is taken; then nothing is mapped. `machine` is for tests.
 */
export function nativeMemory<T extends Extent>(
  options: NativeOptions = {},
  machine: Machine = THIS_MACHINE,
): HeapMemory<T> {
  const { size = DEFAULT_SIZE, views: wanted = 2 } = checkOptions(options)
  checkReservation(0n, size)
  const views = mapViews(machine, size, wanted, (map) => placeView(map, size, options))
  try {
    return new Reservation<T>(views, size, machine)
  } catch (error) {
    views.memory.close()
    throw error
  }
}

class Reservation<T extends Extent> implements HeapMemory<T> {
  readonly size: number
  readonly registry: Registry<T>
  committed = 0
  readonly stack: StackAccess
  readonly #views: Views
  #writing = false
  /** Why other threads cannot be made to serialise, once that was refused. */
  #unserialized: string | undefined
  /** Pages that the system did not let close. */
  #open: { readonly from: number; readonly to: number } | undefined

  constructor(views: Views, size: number, machine: Machine) {
    this.#views = views
    this.size = size
    this.registry = new Registry<T>(size)
    this.#serialize()
    this.stack = stackOf(views.memory, machine)
  }

  get base(): bigint {
    return this.#views.base
  }

  get bytes(): Uint8Array {
    return this.#views.bytes
  }

  get oneThread(): string | undefined {
    return this.#views.oneThread ?? this.#unserialized
  }

  write<R>(from: number, to: number, work: (writer: CodeWriter) => R): R {
    if (this.#writing) throw new RelocError('bad-argument', 'A write scope is open: scopes do not nest.')
    this.#close()
    if (to > this.committed) this.#commit(to)
    const pages = {
      from: Math.floor(from / PAGE) * PAGE,
      to: Math.ceil(Math.max(to, from + 1) / PAGE) * PAGE,
    }
    this.#views.open(pages.from, pages.to)
    this.#open = pages
    this.#writing = true
    const writer = new CheckedWriter(this.registry, this.#views.writable.subarray(from, to), from, to)
    try {
      return work(writer)
    } finally {
      writer.close()
      this.#writing = false
      try {
        this.#close()
      } catch {
        // What was written counts; whoever writes or calls next meets the refusal.
      }
      this.#serialize()
    }
  }

  call(address: bigint, args: readonly bigint[]): bigint {
    this.#close()
    return this.#views.memory.call(address, args)
  }

  callback(callee: Callee, arity: number): bigint {
    return this.#views.memory.callback(callee, arity)
  }

  close(): void {
    this.#views.memory.close()
  }

  /** Closes what was opened for writing. Throws `unsupported`. */
  #close(): void {
    if (this.#open === undefined) return
    this.#views.close(this.#open.from, this.#open.to)
    this.#open = undefined
  }

  /** Opens for execution whatever is still missing below `to`. */
  #commit(to: number): void {
    const end = Math.min(this.size, Math.ceil(to / CHUNK) * CHUNK)
    this.#views.commit(this.committed, end)
    this.committed = end
  }

  /** Every thread serialises before it runs what was written; where the system cannot, this one does. */
  #serialize(): void {
    if (this.#unserialized === undefined)
      try {
        this.#views.memory.serializeThreads()
        return
      } catch (error) {
        this.#unserialized = `other threads cannot be told of new code (${(error as Error).message})`
      }
    serialize(this.#views, this.size)
  }
}

/** The stack of this thread, and a page for the control block. */
function stackOf(memory: NativeMemory, machine: Machine): StackAccess {
  return {
    control: memory.map(undefined, PAGE),
    fixed: shadowStack(machine),
    read: (address, count) => memory.words(address, count),
    write: (address, value) => memory.setWord(address, value),
  }
}

/** Why return addresses cannot be changed here, or undefined. */
function shadowStack(machine: Machine): string | undefined {
  try {
    return /^x86_Thread_features:.*\bshstk\b/m.test(machine.status())
      ? 'the system keeps a shadow stack, on which return addresses cannot be changed'
      : undefined
  } catch {
    return 'the system does not tell (/proc/self/status) whether it keeps a shadow stack'
  }
}

/** Maps what is executed where the options want it. */
function placeView(map: MapAt, size: number, options: NativeOptions): bigint {
  if (options.base !== undefined) {
    const base = toAddress(options.base, 'base')
    checkReservation(base, size)
    return map(base)
  }
  const near = (options.near ?? []).map((address) => toAddress(address, 'near'))
  if (near.length === 0) return map(undefined)
  for (const base of nearPlaces(near, size)) {
    try {
      return map(base)
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
