/**
 * What is allocated in a reservation: disjoint ranges in address order, each with what owns it. The one truth
 * about places: the memory asks it before each write, `translate` asks it for the owner of an address.
 *
 * Positions are bytes from the reservation's start; every range starts on a granule.
 */
import { hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { BitTree } from './bit-tree.ts'

/** Places are multiples of this many bytes, as functions' are. */
export const GRANULE = 16
const GRANULE_BITS = 4

/** Something that has a place. */
export interface Extent {
  readonly position: number
  /** Bytes of it that count. */
  readonly length: number
}

/** Bytes that it takes: those that count, at least one behind them, and what is left of a granule. */
export const sizeOf = (length: number): number => (length | (GRANULE - 1)) + 1

export class Registry<T extends Extent> {
  readonly #starts: BitTree
  /**
   * By granule: the number of the range that starts there; of use only where `#starts` says so. Pages of it
   * that nobody needs are never touched.
   */
  readonly #numbers: Int32Array
  /** By number. */
  readonly #owners: (T | undefined)[] = []
  #lengths = new Uint32Array(64)
  readonly #vacant: number[] = []
  /** Bytes of the reservation. */
  readonly capacity: number
  #used = 0

  constructor(capacity: number) {
    this.capacity = capacity
    this.#starts = new BitTree(capacity / GRANULE)
    this.#numbers = new Int32Array(capacity / GRANULE)
  }

  /** Number of ranges. */
  get count(): number {
    return this.#owners.length - this.#vacant.length
  }

  /** Bytes in all ranges. */
  get used(): number {
    return this.#used
  }

  /** Registers a range; throws where it leaves the reservation or meets another. */
  add(owner: T): void {
    const { position, length } = owner
    const size = sizeOf(length)
    const isRange = position % GRANULE === 0 && position >= 0 && position + size <= this.capacity
    if (!isRange || !this.isFree(position, size))
      throw new RelocError(
        'bad-argument',
        `${size} bytes at position ${hex(position)} leave the reservation or meet another allocation.`,
      )
    const number = this.#vacant.pop() ?? this.#owners.push(undefined) - 1
    this.#owners[number] = owner
    if (number === this.#lengths.length) {
      const lengths = new Uint32Array(2 * number)
      lengths.set(this.#lengths)
      this.#lengths = lengths
    }
    this.#lengths[number] = length
    const start = position >>> GRANULE_BITS
    this.#numbers[start] = number
    this.#starts.add(start)
    this.#used += size
  }

  delete(owner: T): void {
    const start = owner.position >>> GRANULE_BITS
    const number = this.#starts.has(start) ? this.#numbers[start] : -1
    if (this.#owners[number] !== owner)
      throw new RelocError('bad-argument', `It is not allocated at position ${hex(owner.position)}.`)
    this.#owners[number] = undefined
    this.#vacant.push(number)
    this.#starts.delete(start)
    this.#used -= sizeOf(owner.length)
  }

  /** Where the range that holds `position` starts, or -1. What it is, is told without a look at its owner. */
  startOf(position: number): number {
    if (position < 0 || position >= this.capacity) return -1
    const start = this.#starts.atOrBelow(position >>> GRANULE_BITS)
    return start >= 0 && position - start * GRANULE < sizeOf(this.#lengths[this.#numbers[start]])
      ? start * GRANULE
      : -1
  }

  /** The length of the range that starts there. */
  lengthAt(start: number): number {
    return this.#lengths[this.#numbers[start >>> GRANULE_BITS]]
  }

  /** The range that starts there. */
  ownerAt(start: number): T {
    return this.#owners[this.#numbers[start >>> GRANULE_BITS]]!
  }

  /** What is allocated at or around `position`, in bytes. */
  find(position: number): T | undefined {
    const start = this.startOf(position)
    return start < 0 ? undefined : this.ownerAt(start)
  }

  /** The first range that starts at or above `position`. */
  next(position: number): T | undefined {
    if (position >= this.capacity) return undefined
    const start = this.#starts.atOrAbove(Math.ceil(position / GRANULE))
    return start < 0 ? undefined : this.#owners[this.#numbers[start]]
  }

  /** Whether nothing is allocated in `[position, position + size)`. */
  isFree(position: number, size: number): boolean {
    const start = this.#starts.atOrBelow((position + size - 1) >>> GRANULE_BITS)
    return start < 0 || start * GRANULE + sizeOf(this.#lengths[this.#numbers[start]]) <= position
  }

  /** What is not allocated in `[from, to)`, as pairs of start and end. */
  holes(from: number, to: number): (readonly [start: number, end: number])[] {
    const holes: (readonly [number, number])[] = []
    const first = this.find(from)
    let at = first === undefined ? from : first.position + sizeOf(first.length)
    while (at < to) {
      const owner = this.next(at)
      const end = owner === undefined || owner.position > to ? to : owner.position
      if (end > at) holes.push([at, end])
      at = owner === undefined ? to : owner.position + sizeOf(owner.length)
    }
    return holes
  }

  /** All ranges by address. */
  list(): T[] {
    const list: T[] = []
    for (let at = this.#starts.atOrAbove(0); at >= 0; at = this.#starts.atOrAbove(at + 1))
      list.push(this.#owners[this.#numbers[at]]!)
    return list
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.list()[Symbol.iterator]()
  }
}
