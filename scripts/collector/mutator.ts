/**
 * A random program over the collected heap: makes lists and closures, calls them, drops them, collects at any
 * time, also from below code that runs. It keeps of every object what it is, without addresses, and so knows
 * what each call must return and what must be alive.
 */
import { RelocError } from '../../src/core/errors.ts'
import type { CodeHeap } from '../../src/heap/heap.ts'
import type { FixtureGuest } from '../../test/heap/support/fixture-guest.ts'
import {
  type Addresses,
  type Body,
  type Closure,
  type CodeText,
  HOLDS,
  type List,
  ringText,
  type Step,
  stepsText,
  valueOfCall,
} from './closures.ts'
import type { Code, Collector, Global } from './collector.ts'

/** Code is made for addresses from here on: in reach of everything, in nobody's way. */
const MADE_AT = 0x5600_0000n
const MOST_LISTS = 60
const MOST_CLOSURES = 80
/** Functions that one call runs. */
const MOST_COST = 40
const LONGEST_LIST = 40

export interface MutatorCounts {
  calls: number
  fixtureCalls: number
  callbacks: number
  nestedCalls: number
  lists: number
  closures: number
  codeAdded: number
  checks: number
}

export class Mutator {
  readonly counts: MutatorCounts = {
    calls: 0,
    fixtureCalls: 0,
    callbacks: 0,
    nestedCalls: 0,
    lists: 0,
    closures: 0,
    codeAdded: 0,
    checks: 0,
  }
  readonly #heap: CodeHeap
  readonly #collector: Collector
  readonly #next: (below: number) => number
  readonly #guests: readonly FixtureGuest[]
  readonly #lists = new Map<List, Global>()
  readonly #lengths = new WeakMap<List, number>()
  readonly #closures = new Map<Closure, Global>()
  /** What a body is made of: itself, or both of a ring. */
  readonly #codes = new WeakMap<Body, readonly Code[]>()
  readonly #addresses: Addresses
  #depth = 0

  constructor(
    heap: CodeHeap,
    collector: Collector,
    next: (below: number) => number,
    guests: readonly FixtureGuest[],
  ) {
    this.#heap = heap
    this.#collector = collector
    this.#next = next
    this.#guests = guests
    this.#addresses = {
      list: (list) => this.#lists.get(list)!.address,
      closure: (closure) => this.#closures.get(closure)!.address,
      entry: (closure) => collector.space.get(this.#closures.get(closure)!.address, 1),
      cons: heap.callback((list, value) => BigInt(this.#cons(Number(list), Number(value))), 2),
    }
  }

  /** One random action. Throws where anything is wrong. */
  step(): void {
    const pick = this.#next(20)
    if (pick < 4) this.#makeList()
    else if (pick < 7) this.#makeClosures()
    else if (pick < 12) this.#call()
    else if (pick < 14) this.#callGuest()
    else if (pick < 16) this.#drop(this.#lists, 0)
    else if (pick < 18) this.#drop(this.#closures, 0)
    else if (pick === 18) this.#collector.collect()
    else this.#collector.compact(this.#next(3) === 0 ? 'drain' : 'slide')
    this.#drop(this.#lists, MOST_LISTS)
    this.#drop(this.#closures, MOST_CLOSURES)
  }

  /** With no code running: after a collection exactly what can be reached is there, and it is what it must be. */
  check(): void {
    this.counts.checks++
    if (!this.#collector.collect()) throw new Error('a collection was refused although nothing runs')
    const violations = this.#heap.verify()
    if (violations.length > 0) throw new Error(`${violations[0].invariant}: ${violations[0].message}`)
    const { lists, closures, code } = this.#reachable()
    const objects = [...this.#collector.space.objects()].length
    if (objects !== lists.size + closures.size)
      throw new Error(`${objects} objects live, not ${lists.size} and ${closures.size}`)
    if (code.size !== this.#collector.code.size)
      throw new Error(`${this.#collector.code.size} code objects live, not ${code.size}`)
    for (const [list, { address }] of this.#lists) this.#checkList(list, address)
  }

  /** Drops everything; nothing may be left. */
  finish(): void {
    for (const global of [...this.#lists.values(), ...this.#closures.values()])
      this.#collector.globals.delete(global)
    this.#lists.clear()
    this.#closures.clear()
    for (const guest of this.#guests) this.#removeGuest(guest)
    this.check()
  }

  #pick<T>(of: ReadonlyMap<T, unknown>): T | undefined {
    return [...of.keys()][this.#next(Math.max(of.size, 1))]
  }

  #keep(address = 0): Global {
    const global = { address }
    this.#collector.globals.add(global)
    return global
  }

  /** Drops one where there are more than `most`. */
  #drop<T>(from: Map<T, Global>, most: number): void {
    const key = from.size > most ? this.#pick(from) : undefined
    if (key === undefined) return
    this.#collector.globals.delete(from.get(key)!)
    from.delete(key)
  }

  /** A list of its own, or one that goes on as another does. */
  #makeList(): void {
    const tail = this.#next(2) === 0 ? this.#pick(this.#lists) : undefined
    const global = this.#keep(tail === undefined ? 0 : this.#lists.get(tail)!.address)
    let list = tail
    let length = tail === undefined ? 0 : this.#lengths.get(tail)!
    const longest = Math.max(Math.min(length + 1 + this.#next(12), LONGEST_LIST), length + 1)
    for (; length < longest; length++) {
      const value = this.#next(1000)
      this.#pair(global, value)
      list = { value, next: list }
      this.#lengths.set(list, length + 1)
    }
    this.#lists.set(list!, global)
    this.counts.lists++
  }

  /** Puts a value before the list of `global`. */
  #pair(global: Global, value: number): void {
    const { space } = this.#collector
    const object = this.#collector.allocate('pair')
    space.set(object, 1, BigInt(value))
    space.set(object, 2, BigInt(global.address))
    global.address = object
  }

  #makeClosures(): void {
    const known = this.#pick(this.#closures)
    const pick = this.#next(4)
    if (pick === 0 && known !== undefined) this.#makeClosure(known.body, () => this.#addresses.entry(known))
    else if (pick === 1 && this.#lists.size > 0) this.#makeRing()
    else this.#makeSteps()
  }

  /** A closure of code that `entry` gives; it is asked when no collection can come any more. */
  #makeClosure(body: Body, entry: () => bigint): void {
    const { space } = this.#collector
    const captured = this.#next(3) === 0 ? undefined : this.#pick(this.#lists)
    const closure: Closure = { body, captured }
    const object = this.#collector.allocate('closure')
    this.#closures.set(closure, this.#keep(object))
    space.set(object, 2, captured === undefined ? 0n : BigInt(this.#lists.get(captured)!.address))
    space.set(object, 1, entry())
    this.counts.closures++
  }

  #makeSteps(): void {
    const { body, callees } = this.#randomSteps()
    this.#makeClosure(body, () => {
      const [code] = this.#addCode([stepsText(body.steps, this.#addresses)], callees)
      this.#codes.set(body, [code])
      return this.#heap.entry(code.handle)
    })
  }

  #randomSteps(): { body: Extract<Body, { kind: 'steps' }>; callees: Code[] } {
    const steps: Step[] = []
    const callees: Code[] = []
    let cost = 1
    for (let count = 1 + this.#next(5); count > 0; count--) {
      const pick = this.#next(5)
      const hold = HOLDS[this.#next(10) === 0 ? 2 : this.#next(2)]
      const list = this.#pick(this.#lists)
      const closure = this.#pick(this.#closures)
      if (pick < 2 && list !== undefined) steps.push({ kind: 'sum', list, hold })
      else if (pick === 2) steps.push({ kind: 'captured' })
      else if (pick === 3) steps.push({ kind: 'cons' })
      else if (closure !== undefined && cost + closure.body.cost < MOST_COST) {
        const direct = this.#next(2) === 0
        steps.push({ kind: 'call', closure, direct, hold })
        if (direct) callees.push(this.#collector.codeAt(this.#addresses.entry(closure))!)
        cost += closure.body.cost
      }
    }
    return { body: { kind: 'steps', steps, cost }, callees }
  }

  #makeRing(): void {
    const lists: [List, List] = [this.#pick(this.#lists)!, this.#pick(this.#lists)!]
    const hold = HOLDS[this.#next(2)]
    const body: Body = { kind: 'ring', lists, cost: 8 }
    this.#makeClosure(body, () => {
      const text = (list: List, other: bigint): CodeText => ringText(list, other, hold, this.#addresses)
      const codes = this.#addCode([text(lists[0], MADE_AT + 0x1000n), text(lists[1], MADE_AT)], [])
      this.#codes.set(body, codes)
      return this.#heap.entry(codes[0].handle)
    })
  }

  #addCode(texts: readonly CodeText[], callees: readonly Code[]): Code[] {
    const exact = this.#next(2) === 0
    const ranges = texts.map(({ length }, i) => ({
      start: MADE_AT + BigInt(0x1000 * i),
      length: BigInt(length),
    }))
    const inputs = texts.map((text, i) => {
      const others = ranges.filter((range) => range !== ranges[i])
      return text.input(this.#heap, ranges[i].start, others, exact, `code ${this.counts.codeAdded + i}`)
    })
    this.counts.codeAdded += texts.length
    return this.#collector.addCode(inputs, callees)
  }

  #call(): void {
    const closure = this.#pick(this.#closures)
    if (closure === undefined) return
    const { address } = this.#closures.get(closure)!
    const { handle } = this.#collector.codeAt(this.#addresses.entry(closure))!
    const x = this.#next(1000)
    const expected = valueOfCall(closure, x)
    const result = this.#heap.call(handle, [BigInt(address), BigInt(x)])
    if (Number(result) !== expected) throw new Error(`${handle.name}(${x}) is ${result}, not ${expected}`)
    this.counts.calls++
  }

  /** A fixture comes, is called, and goes. */
  #callGuest(): void {
    const guest = this.#guests[this.#next(this.#guests.length)]
    if (guest === undefined) return
    if (guest.handle === undefined) guest.add(this.#heap, this.#next(2) === 0)
    else if (this.#next(8) === 0) this.#removeGuest(guest)
    else {
      guest.call(this.#heap, this.#next(guest.calls))
      this.counts.fixtureCalls++
    }
  }

  #removeGuest(guest: FixtureGuest): void {
    if (guest.handle !== undefined) this.#heap.free(guest.handle)
    guest.handle = undefined
  }

  /** What code calls: anything may happen here. */
  #cons(next: number, value: number): number {
    this.counts.callbacks++
    const global = this.#keep(next)
    if (this.#depth < 3) {
      this.#depth++
      const pick = this.#next(16)
      if (pick === 0) this.#attempt(() => this.#collector.collect())
      else if (pick === 1) this.#attempt(() => this.#collector.compact('slide'))
      else if (pick === 2) this.#attempt(() => this.#collector.compact('drain'))
      else if (pick === 3) this.#heap.drain()
      else if (pick === 4) {
        this.#call()
        this.counts.nestedCalls++
      } else if (pick === 5) this.#drop(this.#closures, 0)
      else if (pick === 6) this.#drop(this.#lists, 0)
      else if (pick === 7) this.#attempt(() => this.#makeClosures())
      this.#depth--
    }
    this.#pair(global, value)
    this.#collector.globals.delete(global)
    return global.address
  }

  /** Under running code there may be no room, since old copies still drain. */
  #attempt(work: () => void): void {
    try {
      work()
    } catch (error) {
      if (!(error instanceof RelocError) || error.code !== 'no-room') throw error
    }
  }

  #reachable(): {
    readonly lists: ReadonlySet<List>
    readonly closures: ReadonlySet<Closure>
    readonly code: ReadonlySet<Code>
  } {
    const lists = new Set<List>(this.#lists.keys())
    const closures = new Set<Closure>(this.#closures.keys())
    const code = new Set<Code>()
    for (const { body, captured } of closures) {
      for (const one of this.#codes.get(body)!) code.add(one)
      if (captured !== undefined) lists.add(captured)
      if (body.kind === 'ring') for (const list of body.lists) lists.add(list)
      else
        for (const step of body.steps)
          if (step.kind === 'sum') lists.add(step.list)
          else if (step.kind === 'call') closures.add(step.closure)
    }
    for (const { next } of lists) if (next !== undefined) lists.add(next)
    return { lists, closures, code }
  }

  #checkList(list: List, address: number): void {
    const { space } = this.#collector
    let at = address
    for (let node: List | undefined = list; node !== undefined; node = node.next) {
      if (Number(space.get(at, 1)) !== node.value) throw new Error('a list does not hold its values')
      at = Number(space.get(at, 2))
    }
    if (at !== 0) throw new Error('a list does not end')
  }
}
