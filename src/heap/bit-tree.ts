import { lowestBit } from '../core/bits.ts'

/**
 * A set of small integers in address order: a bitmap, above it a bitmap of its non-zero words, and so on up
 * to one word. Insertion, removal and the search for a neighbour take one step a level, log32 of the
 * capacity: five for 2 GiB in granules of 64 bytes.
 */
export class BitTree {
  /**
   * `#levels[0]` holds one bit for each member; a bit of each further level says that a word of the one
   * before is not 0.
   */
  readonly #levels: Int32Array[] = []

  /** @param capacity members are in [0, capacity) */
  constructor(capacity: number) {
    let bits = Math.max(capacity, 1)
    do {
      bits = Math.ceil(bits / 32)
      this.#levels.push(new Int32Array(bits))
    } while (bits > 1)
  }

  has(member: number): boolean {
    return (this.#levels[0][member >>> 5] & (1 << (member & 31))) !== 0
  }

  add(member: number): void {
    let at = member
    for (const level of this.#levels) {
      const word = at >>> 5
      const before = level[word]
      level[word] = before | (1 << (at & 31))
      if (before !== 0) return
      at = word
    }
  }

  delete(member: number): void {
    let at = member
    for (const level of this.#levels) {
      const word = at >>> 5
      if ((level[word] &= ~(1 << (at & 31))) !== 0) return
      at = word
    }
  }

  /** The greatest member that is not above `limit`, or -1. */
  atOrBelow(limit: number): number {
    let at = limit
    for (let depth = 0; depth < this.#levels.length; depth++) {
      // -2 << 31 is 0 in JavaScript too: shifts count modulo 32, so the mask for bit 31 is made in two steps.
      const below = this.#levels[depth][at >>> 5] & ~((-1 << (at & 31)) << 1)
      if (below !== 0) return this.#descend(depth, (at & ~31) | (31 - Math.clz32(below)), true)
      if (at >>> 5 === 0) return -1
      at = (at >>> 5) - 1
    }
    return -1
  }

  /** The least member that is not below `limit`, or -1. */
  atOrAbove(limit: number): number {
    let at = limit
    for (let depth = 0; depth < this.#levels.length; depth++) {
      const level = this.#levels[depth]
      if (at >>> 5 >= level.length) return -1
      const above = level[at >>> 5] & (-1 << (at & 31))
      if (above !== 0) return this.#descend(depth, (at & ~31) | lowestBit(above), false)
      at = (at >>> 5) + 1
    }
    return -1
  }

  #descend(from: number, bit: number, highest: boolean): number {
    let at = bit
    for (let depth = from - 1; depth >= 0; depth--) {
      const word = this.#levels[depth][at]
      at = (at << 5) | (highest ? 31 - Math.clz32(word) : lowestBit(word))
    }
    return at
  }
}
