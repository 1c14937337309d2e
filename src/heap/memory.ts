/**
 * The memory under a heap: one reservation, seen twice. Code is read (and, natively, executed) through one
 * view and written through another, which exists inside a write scope only.
 */
import { hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { isRecord, wrongArgument } from '../core/options.ts'
import { type Extent, type Registry, sizeOf } from './registry.ts'
import type { StackAccess } from './stack.ts'

/** `int3`: what free bytes hold, and the byte behind each object. */
export const POISON = 0xcc

/** Writes inside one scope. Each is checked against the registry before a byte changes. */
export interface CodeWriter {
  /**
   * Writes `bytes` from the start of the allocation at `position`, and on into those that follow it without a
   * hole. Throws where they end before.
   */
  write(position: number, bytes: Uint8Array): void
  /**
   * As `write`, for what may be running in another thread: aligned words of 8 bytes that differ, each by one
   * store. Whole granules.
   */
  patch(position: number, bytes: Uint8Array): void
  /** Fills with `int3` what is not allocated. Throws where something is. */
  poison(position: number, size: number): void
}

/** A JavaScript function that code calls. What it returns is rax; nothing is 0. */
export type Callee = (...args: bigint[]) => bigint | undefined

export interface HeapMemory<T extends Extent = Extent> {
  /** Address of position 0: a multiple of the page size. */
  readonly base: bigint
  /** Bytes reserved, less than 2 GiB, so that any two places reach one another with 32 bits. */
  readonly size: number
  /** What is allocated; the heap keeps it, the memory asks it. */
  readonly registry: Registry<T>
  /** Bytes from position 0 that were ever in use: further ones are not there yet. */
  readonly committed: number
  /**
   * The code as it is, to be read only. `bytes[i]` is the byte at position i; what lies at `committed` and
   * above is not to be touched.
   */
  readonly bytes: Uint8Array
  /** Why code may run in this thread alone, or undefined. */
  readonly oneThread?: string | undefined
  /**
   * Opens positions [from, to) for writing while `work` runs, and makes what was written visible to
   * execution. Scopes do not nest. What the system refuses throws `unsupported` before `work` runs.
   */
  write<R>(from: number, to: number, work: (writer: CodeWriter) => R): R
  /** Calls the System V function at `address` with integers; returns rax. Absent where code cannot run. */
  call?(address: bigint, args: readonly bigint[]): bigint
  /** A C function that calls `callee` with `arity` integers, until the memory is closed. */
  callback?(callee: Callee, arity: number): bigint
  /** The stack that calls run on; absent where they have none. */
  readonly stack?: StackAccess
  close(): void
}

/** `memory`, if it is one; throws `bad-argument`. */
export function checkMemory<T extends Extent>(memory: HeapMemory<T>): HeapMemory<T> {
  if (isRecord(memory) && typeof memory.write === 'function' && isRecord(memory.registry)) return memory
  throw wrongArgument(memory, 'memory', 'what simulatedMemory or nativeMemory returns')
}

/**
 * The greatest reservation: any two of its bytes, and the end of the last instruction, are within a signed
 * 32-bit displacement.
 */
export const LARGEST_RESERVATION: number = 2 ** 31 - 2 ** 16

export const PAGE = 4096

/** Throws `bad-argument` unless `size` can be the size of a reservation at `base`. */
export function checkReservation(base: bigint, size: number): void {
  if (!Number.isSafeInteger(size) || size <= 0 || size % PAGE !== 0 || size > LARGEST_RESERVATION)
    throw new RelocError(
      'bad-argument',
      `size is ${size}: a reservation has whole pages of ${PAGE} bytes, at most ${hex(LARGEST_RESERVATION)}, so that every place reaches every other with 32 bits.`,
    )
  if (base % BigInt(PAGE) !== 0n || base + BigInt(size) > 1n << 64n)
    throw new RelocError(
      'bad-argument',
      `base is ${hex(base)}: a reservation starts on a page and ends below 2^64.`,
    )
}

/** The checks of a writer, for every memory: writes go to one allocation, poison to none. */
export class CheckedWriter implements CodeWriter {
  readonly #registry: Registry<Extent>
  readonly #bytes: Uint8Array
  readonly #from: number
  readonly #to: number
  #open = true

  /** @param bytes writable, `bytes[0]` is position `from` */
  constructor(registry: Registry<Extent>, bytes: Uint8Array, from: number, to: number) {
    this.#registry = registry
    this.#bytes = bytes
    this.#from = from
    this.#to = to
  }

  write(position: number, bytes: Uint8Array): void {
    this.#checkOwner(position, bytes)
    this.#bytes.set(bytes, position - this.#from)
  }

  patch(position: number, bytes: Uint8Array): void {
    this.#checkOwner(position, bytes)
    const { buffer, byteOffset } = this.#bytes
    const words = new BigInt64Array(buffer, byteOffset + position - this.#from, bytes.length / 8)
    const wanted = new BigInt64Array(bytes.buffer, bytes.byteOffset, words.length)
    for (const [i, word] of wanted.entries()) if (words[i] !== word) Atomics.store(words, i, word)
  }

  #checkOwner(position: number, bytes: Uint8Array): void {
    const end = position + bytes.length
    let at = position
    do {
      const owner = this.#registry.next(at)
      if (owner?.position !== at)
        throw new RelocError(
          'bad-argument',
          `${bytes.length} bytes at position ${hex(position)}: no allocations of that size start there.`,
        )
      at += sizeOf(owner.length)
    } while (at < end)
    this.#check(position, bytes.length)
  }

  poison(position: number, size: number): void {
    if (!this.#registry.isFree(position, size))
      throw new RelocError(
        'bad-argument',
        `${size} bytes at position ${hex(position)} are in use: they are not poisoned.`,
      )
    this.#check(position, size)
    this.#bytes.fill(POISON, position - this.#from, position - this.#from + size)
  }

  close(): void {
    this.#open = false
  }

  #check(position: number, size: number): void {
    if (!this.#open || position < this.#from || position + size > this.#to)
      throw new RelocError(
        'bad-argument',
        `${size} bytes at position ${hex(position)} are not open for writing now.`,
      )
  }
}
