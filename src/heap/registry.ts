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

/** Something that has a place. */
export interface Extent {
  readonly position: number
  /** Bytes, a multiple of the granule. */
  readonly size: number
}

export class Registry<T extends Extent> {
  readonly #starts: BitTree
  readonly #owners = new Map<number, T>()
  /** Bytes of the reservation. */
  readonly capacity: number
  #used = 0

  constructor(capacity: number) {
    this.capacity = capacity
    this.#starts = new BitTree(capacity / GRANULE)
  }

  /** Number of ranges. */
  get count(): number {
    return this.#owners.size
  }

  /** Bytes in all ranges. */
  get used(): number {
    return this.#used
  }

  /** Registers a range; throws where it leaves the reservation or meets another. */
  add(owner: T): void {
    const { position, size } = owner
    const end = position + size
    const isRange =
      position % GRANULE === 0 && size % GRANULE === 0 && position >= 0 && size > 0 && end <= this.capacity
    if (!isRange || !this.isFree(position, size))
      throw new RelocError(
        'bad-argument',
        `${size} bytes at position ${hex(position)} leave the reservation or meet another allocation.`,
      )
    this.#starts.add(position / GRANULE)
    this.#owners.set(position, owner)
    this.#used += size
  }

  delete(owner: T): void {
    if (!this.#owners.delete(owner.position))
      throw new RelocError('bad-argument', `Nothing is allocated at position ${hex(owner.position)}.`)
    this.#starts.delete(owner.position / GRANULE)
    this.#used -= owner.size
  }

  /** What is allocated at or around `position`, in bytes. */
  find(position: number): T | undefined {
    if (position < 0 || position >= this.capacity) return undefined
    const owner = this.#owners.get(this.#starts.atOrBelow(position >>> GRANULE_BITS) << GRANULE_BITS)
    return owner !== undefined && position < owner.position + owner.size ? owner : undefined
  }

  /** Whether nothing is allocated in `[position, position + size)`. */
  isFree(position: number, size: number): boolean {
    const last = this.#starts.atOrBelow((position + size - 1) >>> GRANULE_BITS)
    const owner = this.#owners.get(last * GRANULE)
    return owner === undefined || owner.position + owner.size <= position
  }

  /** All ranges by address. */
  *[Symbol.iterator](): IterableIterator<T> {
    for (let at = this.#starts.atOrAbove(0); at >= 0; at = this.#starts.atOrAbove(at + 1))
      yield this.#owners.get(at * GRANULE)!
  }
}
