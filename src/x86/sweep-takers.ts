/** Who takes what a sweep finds: block by block, as the streams wrote it. */
import type { StartBits } from './start-bits.ts'

/** Takes what a sweep comes upon, block by block, while that is in the cache. */
export interface LookTaker {
  /**
   * Starts, ascending, of the instructions that have more than registers, short displacements and short
   * immediates, or do not go on to the next. The list is used again. Of what is not behind `upTo` all is
   * known.
   */
  take(looks: Uint32Array, upTo: number): void
}

/** Bytes that each of the two streams runs ahead before they are joined. */
export const BLOCK: number = 1 << 14
export const FIRST_BLOCK: number = 1 << 8
/** Starts that two blocks may have. */
export const ROOM: number = 2 * BLOCK + 64
/** The bits of a start in `scratch`: the one above says whether to look at it. */
export const OFFSET: number = 0x7fffffff
const EMPTY = new Uint32Array(0)

/** Takes what was found, block by block. */
export interface Taker {
  /** There will be code of so many bytes. */
  begin(length: number): void
  /** Makes room for two blocks more, `left` bytes being left. */
  reserve(left: number): void
  /** Instruction starts, as in `scratch`, and sites; ascending. */
  append(starts: Uint32Array, sites: Uint32Array): void
}

/** Takes starts and sites into lists that grow. */
export class Found implements Taker {
  count = 0
  siteCount = 0
  starts: Uint32Array = EMPTY
  sites: Uint32Array = EMPTY

  begin(length: number): void {
    this.starts = new Uint32Array(Math.min(length, (length >> 2) + ROOM))
    this.sites = new Uint32Array(Math.min(length, (length >> 4) + ROOM))
  }

  reserve(left: number): void {
    const room = Math.min(left, ROOM)
    if (this.count + room > this.starts.length) this.starts = larger(this.starts)
    if (this.siteCount + room > this.sites.length) this.sites = larger(this.sites)
  }

  append(starts: Uint32Array, sites: Uint32Array): void {
    this.starts.set(starts, this.count)
    this.sites.set(sites, this.siteCount)
    this.count += starts.length
    this.siteCount += sites.length
  }
}

/** The looks of a block, for whoever takes them. */
const blockLooks = new Uint32Array(2 * BLOCK + FIRST_BLOCK)

/** Takes starts as bits, and hands on those to look at. */
export class FoundLooks implements Taker {
  readonly #bits: StartBits
  readonly #taker: LookTaker

  constructor(bits: StartBits, taker: LookTaker) {
    this.#bits = bits
    this.#taker = taker
  }

  begin(): void {}

  reserve(): void {}

  append(starts: Uint32Array): void {
    if (starts.length === 0) return
    const count = listLooks(starts, this.#bits.words)
    this.#taker.take(blockLooks.subarray(0, count), starts[starts.length - 1] & OFFSET)
  }
}

/**
 * Sets the bits of starts, and lists those to look at in `blockLooks`: returns how many. A loop of its own,
 * with nothing to look up behind it: the compiler replaces it on the stack before what follows was ever
 * reached.
 */
function listLooks(starts: Uint32Array, bits: Uint32Array): number {
  let count = 0
  for (let i = 0; i < starts.length; i++) {
    const word = starts[i] | 0
    const start = word & OFFSET
    bits[start >>> 5] |= 1 << (start & 31)
    blockLooks[count] = start
    count += word >>> 31
  }
  return count
}

function larger(list: Uint32Array): Uint32Array {
  const copy = new Uint32Array(list.length + (list.length >> 1) + ROOM)
  copy.set(list)
  return copy
}
