/**
 * The managed memory: two halves of objects that say what they are, so that every pointer in them is known.
 * New objects go to one half, around those that a collection had to leave there.
 *
 * Addresses are numbers: the memory lies below 2^53.
 */
import type { NativeMemory } from '../../src/heap/native/memory.ts'

/** Which words of an object (the first is its head) hold addresses of objects or 0, and which an entry of code. */
export const LAYOUTS = {
  /** value, next */
  pair: { words: 3, pointers: [2], code: [] },
  /** entry, captured */
  closure: { words: 3, pointers: [2], code: [1] },
} as const

export type Kind = keyof typeof LAYOUTS
const KINDS = Object.keys(LAYOUTS) as Kind[]

const WORD = 8
/** What a dead object's words become: no address, and no number that a program makes. */
const GONE = 0xdead_dead_dead_deadn

/** Words [from, to). */
interface Gap {
  from: number
  to: number
}

export class Space {
  /** Address of the first word. */
  readonly start: number
  /** Bytes of both halves. */
  readonly length: number
  readonly #words: BigUint64Array
  /** 1 where an object starts. */
  readonly #starts: Uint8Array
  /** Where there is room, ascending. */
  #gaps: Gap[]
  /** 0 or 1: where new objects go. */
  #half = 0

  /** Maps `2 * half` bytes at `start`. */
  constructor(memory: NativeMemory, start: number, half: number) {
    this.start = start
    this.length = 2 * half
    memory.map(start, this.length)
    const { buffer, byteOffset } = memory.view(start, this.length, 'rw')
    this.#words = new BigUint64Array(buffer, byteOffset, this.length / WORD)
    this.#starts = new Uint8Array(this.#words.length)
    this.#gaps = [{ from: 0, to: this.#middle }]
  }

  get #middle(): number {
    return this.#words.length / 2
  }

  /** A new object with all its words 0; undefined where there is no room. */
  allocate(kind: Kind): number | undefined {
    const index = take(this.#gaps, LAYOUTS[kind].words)
    if (index === undefined) return undefined
    this.#starts[index] = 1
    this.#words[index] = BigInt(KINDS.indexOf(kind) + 1)
    this.#words.fill(0n, index + 1, index + LAYOUTS[kind].words)
    return this.start + WORD * index
  }

  get(object: number, word: number): bigint {
    return this.#words[this.#index(object) + word]
  }

  set(object: number, word: number, value: bigint): void {
    this.#words[this.#index(object) + word] = value
  }

  kindOf(object: number): Kind {
    return KINDS[Number(this.get(object, 0)) - 1]
  }

  /** The object around any address; undefined where none is. */
  find(address: number): number | undefined {
    if (!(address >= this.start && address < this.start + this.length)) return undefined
    let index = Math.floor((address - this.start) / WORD)
    while (index >= 0 && this.#starts[index] === 0) index--
    if (index < 0) return undefined
    const object = this.start + WORD * index
    return address < object + WORD * LAYOUTS[this.kindOf(object)].words ? object : undefined
  }

  /** Every object. */
  *objects(): IterableIterator<number> {
    for (let i = this.#starts.indexOf(1); i >= 0; i = this.#starts.indexOf(1, i + 1))
      yield this.start + WORD * i
  }

  /**
   * Where each of `live` is to go when the halves change: to the other half, but for those that are there
   * already and the pinned ones. Nothing is changed. Throws where there is no room.
   */
  plan(live: Iterable<number>, pinned: ReadonlySet<number>): Map<number, number> {
    const moving: number[] = []
    const staying: number[] = []
    for (const object of live)
      (pinned.has(object) || this.#halfOf(object) !== this.#half ? staying : moving).push(object)
    const gaps = this.#gapsAround(1 - this.#half, staying)
    return new Map(
      moving.map((object) => {
        const index = take(gaps, LAYOUTS[this.kindOf(object)].words)
        if (index === undefined) throw new Error('the live objects do not fit into one half')
        return [object, this.start + WORD * index]
      }),
    )
  }

  /** Makes the moves of `plan`; every other object but the live ones is gone. Pointers are as they were. */
  flip(live: ReadonlySet<number>, to: ReadonlyMap<number, number>): void {
    const images = new Map<number, BigUint64Array>()
    const stay: number[] = []
    for (const object of live) {
      const goal = to.get(object)
      if (goal === undefined) stay.push(object)
      else images.set(goal, this.#image(object))
    }
    const kept = new Map(stay.map((object) => [object, this.#image(object)]))
    this.#words.fill(GONE)
    this.#starts.fill(0)
    for (const [object, image] of [...kept, ...images]) {
      const index = this.#index(object)
      this.#words.set(image, index)
      this.#starts[index] = 1
    }
    this.#half = 1 - this.#half
    this.#gaps = this.#gapsAround(this.#half, [...kept.keys(), ...images.keys()])
  }

  #image(object: number): BigUint64Array {
    const index = this.#index(object)
    return this.#words.slice(index, index + LAYOUTS[this.kindOf(object)].words)
  }

  #index(object: number): number {
    return (object - this.start) / WORD
  }

  #halfOf(object: number): number {
    return this.#index(object) < this.#middle ? 0 : 1
  }

  #gapsAround(half: number, objects: readonly number[]): Gap[] {
    const gaps: Gap[] = []
    let from = half * this.#middle
    const there = objects.filter((object) => this.#halfOf(object) === half)
    for (const object of there.sort((a, b) => a - b)) {
      const index = this.#index(object)
      if (index > from) gaps.push({ from, to: index })
      from = index + LAYOUTS[this.kindOf(object)].words
    }
    const to = (half + 1) * this.#middle
    return from < to ? [...gaps, { from, to }] : gaps
  }
}

/** The lowest `words` of the gaps, or undefined. Gaps that are too short are given up until the next collection. */
function take(gaps: Gap[], words: number): number | undefined {
  while (gaps.length > 0 && gaps[0].to - gaps[0].from < words) gaps.shift()
  if (gaps.length === 0) return undefined
  const { from } = gaps[0]
  gaps[0].from += words
  return from
}
