/**
 * What is allocated in a reservation: disjoint ranges in address order, each with what owns it. The one truth about places: the memory
 * asks it before each write, `translate` asks it for the owner of an address.
 *
 * Positions are bytes from the reservation's start; every range starts on a granule.
 */
import { hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { BitTree } from './bit-tree.ts'

/** Places are multiples of this many bytes, as functions' are. */
export const GRANULE = 16
const GRANULE_BITS = 4
/** Bits of a word of the tree of starts. */
const WORD_BITS = 32

/** Something that has a place. */
export interface Extent {
  readonly position: number
  /** Bytes, a multiple of the granule. */
  readonly size: number
}

export class Registry<T extends Extent> {
  readonly #starts: BitTree
  /** For each word of the tree what starts in it: one range, or all of them by address. */
  readonly #lines: (T | T[] | undefined)[]
  /** Bytes of the reservation. */
  readonly capacity: number
  #used = 0
  #count = 0

  constructor(capacity: number) {
    this.capacity = capacity
    this.#starts = new BitTree(capacity / GRANULE)
    this.#lines = new Array(Math.ceil(capacity / (GRANULE * WORD_BITS))).fill(undefined)
  }

  /** Number of ranges. */
  get count(): number {
    return this.#count
  }

  /** Bytes in all ranges. */
  get used(): number {
    return this.#used
  }

  /** Registers a range; throws where it leaves the reservation or meets another. */
  add(owner: T): void {
    const { position, size } = owner
    const isRange =
      position % GRANULE === 0 &&
      size % GRANULE === 0 &&
      position >= 0 &&
      size > 0 &&
      position + size <= this.capacity
    if (!isRange || !this.isFree(position, size))
      throw new RelocError(
        'bad-argument',
        `${size} bytes at position ${hex(position)} leave the reservation or meet another allocation.`,
      )
    const start = position >>> GRANULE_BITS
    const at = start >>> 5
    const line = this.#lines[at]
    if (line === undefined) this.#lines[at] = owner
    else if (Array.isArray(line)) line.splice(this.#starts.rank(start), 0, owner)
    else this.#lines[at] = line.position < position ? [line, owner] : [owner, line]
    this.#starts.add(start)
    this.#used += size
    this.#count++
  }

  delete(owner: T): void {
    const start = owner.position >>> GRANULE_BITS
    if (this.#startingAt(start) !== owner)
      throw new RelocError('bad-argument', `It is not allocated at position ${hex(owner.position)}.`)
    const line = this.#lines[start >>> 5]
    if (Array.isArray(line) && line.length > 1) line.splice(this.#starts.rank(start), 1)
    else this.#lines[start >>> 5] = undefined
    this.#starts.delete(start)
    this.#used -= owner.size
    this.#count--
  }

  /** What is allocated at or around `position`, in bytes. */
  find(position: number): T | undefined {
    if (position < 0 || position >= this.capacity) return undefined
    const owner = this.#startingAt(this.#starts.atOrBelow(position >>> GRANULE_BITS))
    return owner !== undefined && position < owner.position + owner.size ? owner : undefined
  }

  /** The first range that starts at or above `position`. */
  next(position: number): T | undefined {
    return position >= this.capacity
      ? undefined
      : this.#startingAt(this.#starts.atOrAbove(Math.ceil(position / GRANULE)))
  }

  /** Whether nothing is allocated in `[position, position + size)`. */
  isFree(position: number, size: number): boolean {
    const owner = this.#startingAt(this.#starts.atOrBelow((position + size - 1) >>> GRANULE_BITS))
    return owner === undefined || owner.position + owner.size <= position
  }

  /** What is not allocated in `[from, to)`, as pairs of start and end. */
  holes(from: number, to: number): (readonly [start: number, end: number])[] {
    const holes: (readonly [number, number])[] = []
    const first = this.find(from)
    let at = first === undefined ? from : first.position + first.size
    while (at < to) {
      const owner = this.next(at)
      const end = owner === undefined || owner.position > to ? to : owner.position
      if (end > at) holes.push([at, end])
      at = owner === undefined ? to : owner.position + owner.size
    }
    return holes
  }

  /** All ranges by address. */
  list(): T[] {
    const list: T[] = []
    for (let at = this.#starts.atOrAbove(0); at >= 0; at = this.#starts.atOrAbove((at | 31) + 1)) {
      const line = this.#lines[at >>> 5]!
      if (Array.isArray(line)) list.push(...line)
      else list.push(line)
    }
    return list
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.list()[Symbol.iterator]()
  }

  /** By its first granule; -1 has none. */
  #startingAt(start: number): T | undefined {
    if (start < 0) return undefined
    const line = this.#lines[start >>> 5]
    return Array.isArray(line) ? line[this.#starts.rank(start)] : line
  }
}
