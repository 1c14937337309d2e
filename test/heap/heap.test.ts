import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RelocError } from '../../src/core/errors.ts'
import { CodeHeap } from '../../src/heap/heap.ts'
import type { CodeHandle } from '../../src/heap/object.ts'
import { simulatedMemory } from '../../src/heap/simulated.ts'
import { expectedBytes, type Thing } from './support/program.ts'
import { World } from './support/world.ts'

const codeOf = (error: unknown): string => (error instanceof RelocError ? error.code : String(error))
const thrown = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    return codeOf(error)
  }
  return 'nothing'
}

describe('CodeHeap over simulated memory', () => {
  it('every field holds what the places say after any sequence of adds, moves, compactions, frees, pins and root changes', {
    timeout: 30_000,
  }, () => {
    fc.assert(
      fc.property(fc.integer(), fc.array(fc.nat(7), { minLength: 5, maxLength: 40 }), (seed, operations) => {
        const world = new World(seed)
        const { heap, next } = world
        world.add(3)
        for (const operation of operations) {
          const some = world.things[next(Math.max(world.things.length, 1))]
          if (operation <= 1) world.add()
          else if (operation === 2) world.free()
          else if (operation === 3) heap.compact({ mode: next(2) === 0 ? 'slide' : 'drain' })
          else if (operation === 4 && some !== undefined)
            heap.move(some.handle!, { mode: next(2) === 0 ? 'slide' : 'drain' })
          else if (operation === 5) heap.compact({ budget: { objects: 1 + next(3) } })
          else if (operation === 6 && some !== undefined) {
            const before = heap.entry(some.handle!)
            heap.pin(some.handle!)
            heap.compact()
            expect(heap.entry(some.handle!)).toBe(before)
            heap.unpin(some.handle!)
          } else if (operation === 7) {
            const by = BigInt(64 * next(100))
            heap.forwardRoots((address) => address + by)
            for (const root of world.roots) root.address += by
          }
          world.check()
        }
        expect(heap.compact().fragmentation.after).toBeLessThan(0.2)
        world.check()
        heap.free(...world.things.map((thing) => thing.handle!))
        expect(heap.verify()).toEqual([])
        const adds = world.events.filter((event) => event.startsWith('add')).map((event) => event.slice(4))
        const frees = world.events.filter((event) => event.startsWith('free')).map((event) => event.slice(5))
        expect(frees.sort()).toEqual(adds.sort())
      }),
      { numRuns: 60 },
    )
  })

  it('a failure at any step before publishing leaves not one byte changed, and the next try succeeds', () => {
    for (const mode of ['slide', 'drain'] as const) {
      const world = new World(7)
      for (let i = 0; i < 6; i++) world.add()
      world.spread()
      const before = world.memory.bytes.slice()
      const map = world.heap.describe()
      let steps = 0
      world.heap.verify()
      for (let failAt = 0; ; failAt++) {
        let step = 0
        const end = thrown(() =>
          world.heap.compact({
            mode,
            probe: () => {
              if (step++ === failAt) throw new Error('injected')
            },
          }),
        )
        if (end === 'nothing') break
        expect(end).toBe('Error: injected')
        expect(Buffer.compare(world.memory.bytes, before)).toBe(0)
        expect(world.heap.describe()).toBe(map)
        steps++
      }
      expect(steps).toBeGreaterThan(10)
      expect(world.heap.describe()).not.toBe(map)
      world.check()
    }
  })

  it('moving there and back gives the same bytes, and two moves are one', () => {
    const world = new World(11)
    for (let i = 0; i < 4; i++) world.add()
    const { heap, memory } = world
    for (const thing of world.things) {
      const home = heap.entry(thing.handle!)
      const before = memory.bytes.slice()
      heap.move(thing.handle!, { to: memory.base + 0xc000n })
      heap.move(thing.handle!, { to: memory.base + 0xd000n })
      const twice = memory.bytes.slice(0xd000, 0xd000 + thing.length)
      heap.move(thing.handle!, { to: home })
      expect(Buffer.compare(memory.bytes, before)).toBe(0)
      heap.move(thing.handle!, { to: memory.base + 0xd000n })
      expect(memory.bytes.slice(0xd000, 0xd000 + thing.length)).toEqual(twice)
      heap.move(thing.handle!, { to: home })
    }
    world.check()
  })

  it.each([
    ['low', 0x10000n],
    ['across 2^31', 0x8000_0000n - 0x8000n],
    ['across 2^32', 0x1_0000_0000n - 0x8000n],
    ['at the end of user space', 0x7fff_ffff_0000n - 0x10000n],
    ['at the end of memory', (1n << 64n) - 0x20000n],
  ])('holds at any address: %s', (_, base) => {
    const world = new World(3, base)
    for (let i = 0; i < 5; i++) world.add()
    world.spread()
    const { moves } = world.heap.compact()
    world.check()
    expect(moves.length).toBeGreaterThan(0)
  })

  it('translates every byte, the end included, before and after a move', () => {
    const world = new World(5)
    for (let i = 0; i < 5; i++) world.add()
    const places = (): string[] =>
      world.things.flatMap((thing) =>
        [0, 1, thing.length - 1, thing.length].map((offset) => {
          const place = world.heap.translate(world.heap.entry(thing.handle!) + BigInt(offset))
          expect(place?.handle).toBe(thing.handle)
          return `${place!.offset}`
        }),
      )
    const before = places()
    world.spread()
    world.heap.compact()
    expect(world.heap.translate(world.heap.reservation.start - 1n)).toBeUndefined()
    expect(world.heap.translate(world.heap.reservation.end)).toBeUndefined()
    expect(places()).toEqual(before)
  })

  it('a stable entry follows its object and never moves', () => {
    const world = new World(9)
    world.add(1)
    world.add(1)
    const { heap, memory } = world
    const { handle } = world.things[1]
    const stub = heap.stableEntry(handle!)
    const target = (): bigint => {
      const at = Number(stub - memory.base)
      expect(memory.bytes[at]).toBe(0xe9)
      return stub + 5n + BigInt(new DataView(memory.bytes.buffer).getInt32(at + 1, true))
    }
    expect(target()).toBe(heap.entry(handle!))
    heap.move(handle!, { to: memory.base + 0x8000n })
    expect(target()).toBe(memory.base + 0x8000n)
    expect(thrown(() => heap.free(handle!))).toBe('refused')
    heap.releaseStableEntry(handle!)
    heap.free(handle!)
    expect(thrown(() => heap.entry(handle!))).toBe('stale')
    expect(heap.verify()).toEqual([])
  })

  it('old copies stay while code runs, are kept right, and go when nothing points into them', () => {
    const world = new World(26)
    for (let i = 0; i < 4; i++) world.add()
    const { heap, memory } = world
    const release = heap.hold()
    expect(thrown(() => heap.compact({ mode: 'slide' }))).toBe('refused')
    // Where code stands is not known: what others build the address of from pieces stays; what builds its own
    // goes on in its old copy.
    const referred = (kinds: readonly string[]): Set<Thing> =>
      new Set(
        world.things.flatMap((some) =>
          some.fields.flatMap(({ kind, to }) =>
            kinds.includes(kind) && 'thing' in to && to.thing !== some ? [to.thing] : [],
          ),
        ),
      )
    for (const { handle } of referred(['split']))
      expect(thrown(() => heap.move(handle!, { mode: 'drain' }))).toBe('refused')
    const all = referred(['split', 'pc32', 'abs64', 'diff64'])
    const thing = world.things.find(
      (some) => !all.has(some) && some.fields.some(({ to }) => 'thing' in to && to.thing !== some),
    )!
    const old = heap.entry(thing.handle!)
    heap.move(thing.handle!, { mode: 'drain' })
    expect(heap.translate(old)).toMatchObject({ handle: thing.handle, offset: 0, retired: true })
    // What it refers to moves on, where that can be told by one store: the old copy must follow, since it may
    // still run.
    const moved = world.things.filter(
      (other) => other !== thing && thrown(() => heap.move(other.handle!, { mode: 'drain' })) === 'nothing',
    )
    expect(moved.length).toBeGreaterThan(0)
    const at = Number(old - memory.base)
    expect(memory.bytes.slice(at, at + thing.length)).toEqual(expectedBytes(heap, thing, old))
    world.check()
    expect(heap.drain([old + BigInt(thing.length)])).toBe(1)
    world.check()
    release()
    expect(heap.drain()).toBe(0)
    expect(heap.translate(old)).toBeUndefined()
    expect(memory.bytes.slice(at, at + thing.length).every((byte) => byte === 0xcc)).toBe(true)
    world.check()
  })

  it('what a word may point into stays, for one cycle', () => {
    const world = new World(33)
    for (let i = 0; i < 4; i++) world.add()
    world.spread()
    const { heap } = world
    const entries = (): bigint[] => world.things.map((thing) => heap.entry(thing.handle!))
    const before = entries()
    const words = world.things.map((thing, i) => before[i] + BigInt(world.next(thing.length + 1)))
    heap.pinAmbiguous([0n, 1n << 63n, heap.reservation.end, ...words])
    expect(heap.compact().moves).toEqual([])
    expect(entries()).toEqual(before)
    heap.pinAmbiguous([])
    expect(heap.compact().moves.length).toBeGreaterThan(0)
    world.check()
  })

  it('an error of a side table comes when all were told, and the moves are made', () => {
    const world = new World(2)
    world.add(1)
    const told: CodeHandle[] = []
    const heap = new CodeHeap(simulatedMemory({ base: 0x1000_0000n, size: 0x10000 }), {
      sideTables: [
        {
          onAdd() {},
          onMove: () => {
            throw new Error('full disk')
          },
          onDealloc() {},
        },
        { onAdd() {}, onMove: (moves) => told.push(...moves.map((move) => move.handle)), onDealloc() {} },
      ],
    })
    const handle = heap.add({ bytes: Uint8Array.of(0xc3), base: 0x5000n })
    expect(() => heap.move(handle, { to: 0x1000_4000n })).toThrow('full disk')
    expect(told).toEqual([handle])
    expect(heap.entry(handle)).toBe(0x1000_4000n)
    expect(heap.verify()).toEqual([])
  })

  it('a side table that throws keeps no other from hearing of every object once; what it did not take is not added', () => {
    const events: string[] = []
    let isBroken = false
    const broken = (): void => {
      if (isBroken) throw new Error('broken')
    }
    const note = (event: string) => (handle: CodeHandle) => events.push(`${event} ${handle.name}`)
    const heap = new CodeHeap(simulatedMemory({ base: 0x1000_0000n, size: 0x10000 }), {
      sideTables: [
        { onAdd: broken, onMove() {}, onDealloc: broken },
        { onAdd: ({ handle }) => note('add')(handle), onMove() {}, onDealloc: note('end') },
      ],
    })
    const inputs = ['a', 'b'].map((name, i) => ({
      bytes: Uint8Array.of(0xc3),
      base: 0x5000n + BigInt(i),
      name,
    }))
    const handles = heap.addAll(inputs)
    isBroken = true
    expect(() => heap.free(...handles)).toThrow('broken')
    expect(() => heap.addAll(inputs)).toThrow('broken')
    expect(events.join()).toBe('add a,add b,end a,end b,add a,add b,end a,end b')
    expect(heap.describe()).toContain('0 blocks')
    expect(heap.verify()).toEqual([])
  })

  it('refuses what would break: dangling references, short reach, foreign and double frees, no room', () => {
    const base = 0x1000_0000n
    const heap = new CodeHeap(simulatedMemory({ base, size: 0x4000 }))
    const call = (to: bigint, from: bigint): Uint8Array => {
      const bytes = Uint8Array.of(0xe8, 0, 0, 0, 0, 0xc3)
      new DataView(bytes.buffer).setInt32(1, Number(to - from - 5n), true)
      return bytes
    }
    expect(thrown(() => heap.add({ bytes: call(base + 0x200n, 0x2000_0000n), base: 0x2000_0000n }))).toBe(
      'bad-argument',
    )
    expect(
      thrown(() => heap.add({ bytes: call(0x2_0000_1000n, 0x2_0000_0000n), base: 0x2_0000_0000n })),
    ).toBe('refused')
    expect(
      thrown(() =>
        heap.add({
          bytes: new Uint8Array(0x4000),
          base: 0x2000_0000n,
          hints: { ranges: [{ start: 0, end: 0x4000, kind: 'data' }] },
          entries: [],
        }),
      ),
    ).toBe('no-room')
    expect(heap.verify()).toEqual([])
    expect(heap.describe()).toContain('1 holes of 16384 bytes')
    const callee = heap.add({ bytes: Uint8Array.of(0xc3), base: 0x2000_0000n, name: 'callee' })
    const caller = heap.add({
      bytes: call(heap.entry(callee), 0x2000_0000n),
      base: 0x2000_0000n,
      name: 'caller',
    })
    expect(thrown(() => heap.free(callee))).toBe('refused')
    heap.free(callee, caller)
    expect(thrown(() => heap.free(caller))).toBe('stale')
    expect(heap.verify()).toEqual([])
  })

  it('what is not added takes no index, whichever of several inputs is wrong', () => {
    const heap = new CodeHeap(simulatedMemory({ base: 0x1000_0000n, size: 0x4000 }))
    const input = (i: number) => ({ bytes: Uint8Array.of(0xc3), base: 0x2000_0000n + BigInt(16 * i) })
    const wrong = [{ align: 3 }, { entries: [2] }, { base: 0x2000_0000n }]
    for (const part of wrong)
      expect([part, thrown(() => heap.addAll([input(0), input(1), { ...input(2), ...part }]))]).toEqual([
        part,
        'bad-argument',
      ])
    const handles = heap.addAll([input(0), input(1), input(2)])
    expect(handles.map(({ index }) => index).sort()).toEqual([0, 1, 2])
  })

  it('a mode that there is not is refused, and nothing moves', () => {
    const heap = new CodeHeap(simulatedMemory({ base: 0x1000_0000n, size: 0x4000 }))
    const [first, second] = [1, 2].map(() => heap.add({ bytes: Uint8Array.of(0xc3), base: 0x2000_0000n }))
    heap.free(first)
    const before = heap.entry(second)
    const mode = 'glide' as 'slide'
    expect(thrown(() => heap.compact({ mode }))).toBe('bad-argument')
    expect(thrown(() => heap.move(second, { mode }))).toBe('bad-argument')
    expect(heap.entry(second)).toBe(before)
  })

  it('a closed heap is stale in everything that needs its memory', () => {
    const heap = new CodeHeap(simulatedMemory({ base: 0x1000_0000n, size: 0x4000 }))
    const input = { bytes: Uint8Array.of(0xc3), base: 0x2000_0000n }
    const handle = heap.add(input)
    heap.close()
    heap.close()
    const uses = [
      () => heap.add(input),
      () => heap.entry(handle),
      () => heap.stableEntry(handle),
      () => heap.call(handle),
      () => heap.callback(() => 0n, 0),
      () => heap.hold(),
      () => heap.move(handle),
      () => heap.compact(),
      () => heap.free(handle),
      () => heap.translate(0x1000_0000n),
      () => heap.freeze(handle),
      () => heap.forwardRoots((address) => address),
      () => heap.pinAmbiguous([0x1000_0000n]),
      () => heap.verify(),
      () => heap.describe(),
      () => heap.reservation,
    ]
    expect(uses.map(thrown)).toEqual(uses.map(() => 'stale'))
  })
})
