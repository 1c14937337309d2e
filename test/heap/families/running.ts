/** Code that runs while it moves. */
import { readFileSync } from 'node:fs'
import { CodeHeap } from '../../../src/heap/heap.ts'
import { NativeMemory } from '../../../src/heap/native/memory.ts'
import type { CodeHandle } from '../../../src/heap/object.ts'
import { cpuFeatures, FixtureGuest, guestFixtures, Outsides } from '../support/fixture-guest.ts'
import { World } from '../support/world.ts'
import { type Family, type FamilyRun, LOW, must } from './family.ts'

const imm64 = (value: bigint): number[] => [...new Uint8Array(new BigUint64Array([value]).buffer)]

/** Code is made for here: outside of every heap. */
const madeFor = ({ base }: { readonly base: bigint }): bigint => base - 0x100_0000n

const WORDS = 200
let buffer: { readonly address: bigint; readonly words: BigUint64Array } | undefined

/** Memory that code can read. */
function wordBuffer(): NonNullable<typeof buffer> {
  if (buffer !== undefined) return buffer
  const memory = new NativeMemory()
  const address = memory.map(undefined, 4096)
  const { buffer: bytes, byteOffset } = memory.view(address, 4096, 'rw')
  buffer = { address, words: new BigUint64Array(bytes, byteOffset, WORDS) }
  return buffer
}

/** f(words, count): pushes them all, calls `callback`, returns what that did. Only rbp knows where its caller is. */
const pusher = (callback: bigint): Uint8Array =>
  Uint8Array.from([
    ...[0x55, 0x48, 0x89, 0xe5], // push rbp; mov rbp, rsp
    ...[0x48, 0x85, 0xf6, 0x74, 0x09], // 1: test rsi, rsi; jz 2f
    ...[0xff, 0x74, 0xf7, 0xf8, 0x48, 0xff, 0xce, 0xeb, 0xf2], // push [rdi+8*rsi-8]; dec rsi; jmp 1b
    ...[0x48, 0xb8, ...imm64(callback), 0xff, 0xd0, 0xc9, 0xc3], // 2: mov rax, callback; call rax; leave; ret
  ])

const noise: Family = {
  name: 'noise',
  title:
    'a stack full of numbers, stale return addresses, ends and middles of objects keeps what they point at, and all else moves',
  makers: ['native'],
  run(run) {
    const { next } = run
    const memory = run.memory(256 << 10)
    const world = new World(run.seed, memory)
    const { heap } = world
    for (let i = 0; i < 12; i++) world.add()
    const { address, words } = wordBuffer()
    const gone: bigint[] = []
    let work: () => void = () => undefined
    const callback = heap.callback(() => {
      work()
      return 77n
    }, 0)
    const handle = heap.add({ bytes: pusher(callback), base: madeFor(memory), name: 'pusher' })
    for (let round = 0; round < 12; round++) {
      for (const { handle: freed } of world.things.slice(0, 3))
        gone.push(heap.entry(freed!) + BigInt(next(64)))
      world.free()
      world.add()
      world.spread()
      const count = next(WORDS)
      for (let i = 0; i < count; i++) words[i] = noiseWord(world, gone, next)
      const before = new Map(world.things.map((thing) => [thing, heap.entry(thing.handle!)]))
      const isMet = (start: bigint, length: number): boolean =>
        words.subarray(0, count).some((word) => word >= start && word <= start + BigInt(length))
      const mode = next(3) === 0 ? 'drain' : 'slide'
      work = () => {
        const { moves } = heap.compact({ mode })
        run.count('moves', moves.length)
        if (mode === 'slide')
          for (const [thing, start] of before) {
            const moved = heap.entry(thing.handle!) !== start
            must(!moved || !isMet(start, thing.length), `${thing.handle!.name} moved under a pointer`)
            if (isMet(start, thing.length)) run.count('pins')
          }
        world.check()
      }
      must(heap.call(handle, [address, BigInt(count)]) === 77n, 'the call returned something else')
      run.count('calls')
      world.check()
    }
  },
}

/** A word that may or may not be a pointer. */
function noiseWord({ heap, things }: World, gone: readonly bigint[], next: FamilyRun['next']): bigint {
  const { start, end } = heap.reservation
  const { handle, length, fields } = things[next(things.length)]
  const entry = heap.entry(handle!)
  const split = fields.find(({ kind }) => kind === 'split')
  const pick = next(16)
  if (pick === 0) return entry + BigInt(next(length))
  if (pick === 1) return entry + BigInt(length)
  if (pick === 2 && split !== undefined) return entry + BigInt(split.offset + 4 + next(8))
  if (pick < 5 && gone.length > 0) return gone[next(gone.length)]
  if (pick === 5) return start
  if (pick === 6) return end
  return BigInt(next(2 ** 31)) * BigInt(next(2 ** 31))
}

/** g(n) of a ring of objects with frames of different sizes: n = 0 calls back, else the next one. */
function ringMember(base: bigint, next: bigint, callback: bigint, pushes: number): Uint8Array {
  const bytes = [
    ...new Array<number>(pushes).fill(0x53), // push rbx
    ...[0x48, 0x85, 0xff, 0x74, 0x0a, 0x48, 0xff, 0xcf], // test rdi, rdi; jz 1f; dec rdi
    ...[0xe8, 0, 0, 0, 0, 0xeb, 0x0c], // call next; jmp 2f
    ...[0x48, 0xb8, ...imm64(callback), 0xff, 0xd0], // 1: mov rax, callback; call rax
    ...new Array<number>(pushes).fill(0x5b), // 2: pop rbx
    0xc3,
  ]
  const at = pushes + 9
  const code = Uint8Array.from(bytes)
  new DataView(code.buffer).setInt32(at, Number(next - base) - at - 4, true)
  return code
}

/** Bytes of stack that a recursion may take: koffi gives a call 2 MiB. */
const STACK = 1_500_000

const deep: Family = {
  name: 'deep',
  title:
    'recursions up to 90,000 deep over objects that move at the bottom, again below a second call, and return',
  makers: ['native'],
  run(run) {
    const { next } = run
    const memory = run.memory(256 << 10)
    const heap = new CodeHeap(memory)
    let work: () => bigint = () => 0n
    const callback = heap.callback(() => work(), 0)
    const made = madeFor(memory)
    const count = 2 + next(4)
    const pushes = Array.from({ length: count }, () => next(4))
    const filler = heap.add({ bytes: new Uint8Array(100 + next(5000)).fill(0xc3), base: made - 0x10000n })
    const ring = heap.addAll(
      pushes.map((n, i) => {
        const base = made + BigInt(0x100 * i)
        const after = made + BigInt(0x100 * ((i + 1) % count))
        return { bytes: ringMember(base, after, callback, n), base, name: `ring ${i}` }
      }),
    )
    heap.free(filler)
    const frame = 8 + 8 * Math.max(...pushes)
    const most = Math.min(90_000, Math.floor(STACK / frame / 2))
    let calls = 0
    work = () => {
      const mode = next(4) === 0 ? 'drain' : 'slide'
      const to = memory.base + BigInt(0x8000 + 16 * next(0x1000))
      const picked = ring[next(count)]
      if (next(2) === 0) run.count('moves', heap.compact({ mode }).moves.length)
      else if (heap.translate(to) === undefined && tryMove(heap, picked, to, mode)) run.count('moves')
      must(heap.verify().length === 0, 'not verified')
      // Half of the stack is for this, half for another one below.
      return calls++ % 2 === 0 ? 1n + heap.call(ring[next(count)], [BigInt(next(most))]) : 10n
    }
    for (let i = 0; i < 3; i++) {
      const depth = next(most)
      calls = 0
      must(heap.call(ring[next(count)], [BigInt(depth)]) === 11n, `depth ${depth} returned something else`)
      run.count('calls', 2)
      run.count('frames', depth)
    }
  },
}

function tryMove(heap: CodeHeap, handle: CodeHandle, to: bigint, mode: 'slide' | 'drain'): boolean {
  try {
    heap.move(handle, { to, mode })
    return true
  } catch (error) {
    const { code } = error as { code?: string }
    must(code === 'no-room' || code === 'refused', String(error))
    return false
  }
}

/** Those of below 2 GiB, and those of far above; made once, since they need their own addresses. */
const guests = new Map<boolean, FixtureGuest[]>()
let outsides: Outsides | undefined
let home: NativeMemory | undefined

function guestsOf(low: boolean): FixtureGuest[] {
  home ??= new NativeMemory()
  outsides ??= new Outsides(home)
  const known = guests.get(low)
  if (known !== undefined) return known
  const features = cpuFeatures()
  const made = guestFixtures(low).map((fixture) => new FixtureGuest(fixture, home!, outsides!, features))
  guests.set(
    low,
    made.filter((guest) => guest.calls > 0),
  )
  return guests.get(low)!
}

const HIGH = 0x7e00_2000_0000n

const differential: Family = {
  name: 'differential',
  title: 'programs in C and assembly give and write the same wherever they were moved',
  makers: ['native'],
  run(run) {
    const { next } = run
    const low = run.seed % 2 === 0
    const all = guestsOf(low)
    const memory = run.memory(256 << 10, low ? LOW : HIGH, true)
    const heap = new CodeHeap(memory)
    for (const guest of all) guest.handle = undefined
    for (let i = 0; i < 200; i++) {
      const guest = all[next(all.length)]
      if (guest.handle === undefined) guest.add(heap, next(2) === 0)
      const pick = next(8)
      const to = memory.base + BigInt(64 * next(memory.size / 64))
      if (pick === 0) {
        heap.free(guest.handle!)
        guest.handle = undefined
      } else if (pick === 1) run.count('moves', heap.compact().moves.length)
      else if (pick === 2 && tryMove(heap, guest.handle!, to, 'slide')) run.count('moves')
      else {
        guest.call(heap, next(guest.calls))
        run.count('calls')
      }
    }
    must(heap.verify().length === 0, 'not verified')
  },
}

/** Lines of the process's mappings that are a heap's. */
const heapMappings = (): number =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('memfd:x64-reloc')).length

const leak: Family = {
  name: 'leak',
  title: 'a thousand compactions leave as many mappings as there were, and hardly more memory',
  makers: ['native'],
  run(run) {
    const { next } = run
    const world = new World(run.seed, run.memory(256 << 10))
    for (let i = 0; i < 6; i++) world.add()
    let mappings = 0
    let resident = 0
    for (let i = 0; i < 1200; i++) {
      if (i === 200) {
        mappings = heapMappings()
        resident = process.memoryUsage.rss()
      }
      if (next(20) === 0) world.free()
      if (world.things.length < 10) world.add()
      world.spread()
      run.count('moves', world.heap.compact().moves.length)
    }
    world.check()
    must(heapMappings() === mappings, `${heapMappings()} mappings, there were ${mappings}`)
    const grown = (process.memoryUsage.rss() - resident) >> 20
    must(grown < 100, `${grown} MiB more after 1,000 compactions`)
    run.count('compactions', 1200)
  },
}

export const RUNNING: readonly Family[] = [noise, deep, differential, leak]
