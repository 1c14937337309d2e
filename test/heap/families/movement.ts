/** Moves of all kinds, at all places, ended at any step. */
import { CodeHeap } from '../../../src/heap/heap.ts'
import type { HeapMemory } from '../../../src/heap/memory.ts'
import type { Block } from '../../../src/heap/object.ts'
import { World } from '../support/world.ts'
import { BOTH, type Family, type FamilyRun, must, thrown } from './family.ts'

const modeOf = ({ next }: FamilyRun): 'slide' | 'drain' => (next(2) === 0 ? 'slide' : 'drain')

/** A compaction before and after whatever is done. */
const always: Family = {
  name: 'always',
  title: 'everything moves before and after every add, move, free and change of roots',
  makers: BOTH,
  run(run) {
    const { next } = run
    const world = new World(run.seed, run.memory())
    const compact = (): void => {
      const { moves } = world.heap.compact({ mode: modeOf(run) })
      run.count('moves', moves.length)
    }
    for (let i = 0; i < 40; i++) {
      compact()
      const pick = next(4)
      if (pick < 2) world.add()
      else if (pick === 2) world.free()
      else world.spread()
      compact()
      world.check()
    }
    world.finish()
  },
}

/** Objects that are picked at random go to random places. */
const anywhere: Family = {
  name: 'random',
  title: 'random objects go to random free places, and to places that are not free not at all',
  makers: BOTH,
  run(run) {
    const { next } = run
    const memory = run.memory()
    const world = new World(run.seed, memory)
    for (let i = 0; i < 8; i++) world.add()
    for (let i = 0; i < 120; i++) {
      const { handle, align } = world.things[next(world.things.length)]
      const to = memory.base + BigInt(align * next(memory.size / align))
      const end = thrown(() => world.heap.move(handle!, { to, mode: modeOf(run) }))
      must(end === 'nothing' || end === 'no-room' || end === 'bad-argument', `a move ended with ${end}`)
      must(end !== 'nothing' || world.heap.entry(handle!) === to, 'an object is not where it was sent')
      run.count(end === 'nothing' ? 'moves' : 'refused')
      if (i % 10 === 0) world.check()
    }
    world.finish()
  },
}

const abort: Family = {
  name: 'abort',
  title:
    'whatever fails at any step before publishing leaves not one byte changed; a throwing side table changes nothing',
  makers: BOTH,
  run(run) {
    for (const mode of ['slide', 'drain'] as const) {
      const memory = run.memory()
      const world = new World(run.seed, memory)
      for (let i = 0; i < 4; i++) world.add()
      world.spread()
      const before = image(memory)
      const map = world.heap.describe()
      for (let failAt = 0; ; failAt++) {
        let step = 0
        const probe = (): void => {
          if (step++ === failAt) throw new Error('injected')
        }
        if (thrown(() => world.heap.compact({ mode, probe })) === 'nothing') break
        must(Buffer.compare(image(memory), before) === 0, `step ${failAt} changed bytes`)
        must(world.heap.describe() === map, `step ${failAt} changed the map`)
        run.count('aborts')
      }
      must(world.heap.describe() !== map, 'nothing moved in the end')
      world.check()
    }
  },
}

/** The bytes that are there. */
const image = (memory: HeapMemory<Block>): Uint8Array => memory.bytes.slice(0, memory.committed)

const SIZE = 64 << 10
/** Places where addresses change their upper half, their sign, or end. */
const PLACES: readonly bigint[] = [
  0x10000n,
  0x8000_0000n - BigInt(SIZE / 2),
  0x8000_0000n - BigInt(SIZE),
  0x8000_0000n,
  0x1_0000_0000n - BigInt(SIZE / 2),
  0x1_0000_0000n,
  0x7fff_ffff_0000n - BigInt(SIZE),
]
/** No process has these. */
const SIMULATED_PLACES: readonly bigint[] = [0x8000_0000_0000n, (1n << 63n) - 0x8000n, (1n << 64n) - 0x20000n]

/** Memory at exactly `base`; undefined where something else of the process is there. */
function memoryAt(run: FamilyRun, base: bigint): HeapMemory<Block> | undefined {
  try {
    return run.memory(SIZE, base, true)
  } catch (error) {
    if ((error as { code?: string }).code !== 'bad-argument' || run.maker === 'simulated') throw error
    return undefined
  }
}

const placement: Family = {
  name: 'placement',
  title: 'a heap holds at any address: low, across 2^31 and 2^32, at the end of user space and of memory',
  makers: BOTH,
  run(run) {
    for (const base of run.maker === 'simulated' ? [...PLACES, ...SIMULATED_PLACES] : PLACES) {
      const memory = memoryAt(run, base)
      if (memory === undefined) continue
      must(memory.base === base, 'it is elsewhere')
      const world = new World(run.seed, memory)
      for (let i = 0; i < 5; i++) world.add()
      world.spread()
      world.check()
      world.heap.compact({ mode: modeOf(run) })
      world.check()
      world.finish()
      // Places overlap.
      memory.close()
      run.count('places')
    }
  },
}

/** Above 2^31, so that there is something at that distance below as well. */
const HIGH = 0x7e00_0000_0000n

/** A `call` that reaches from one place exactly, and from the granule beside it not. */
const boundary: Family = {
  name: 'boundary',
  title: 'a field that would just not reach keeps its object where it is, and not one byte changes',
  makers: BOTH,
  run(run) {
    for (const reach of [2n ** 31n - 1n, -(2n ** 31n)]) {
      const memory = run.memory(SIZE, HIGH)
      const heap = new CodeHeap(memory)
      const edge = memory.base + 0x2000n + 16n * BigInt(run.next(0x100))
      // Towards its target it may go, away from it it may not.
      const away = reach > 0n ? -1n : 1n
      const made = memory.base + away * -0x10_0000n
      const bytes = Uint8Array.of(0xe8, 0, 0, 0, 0, 0xc3)
      new DataView(bytes.buffer).setInt32(1, Number(edge + 5n + reach - (made + 5n)), true)
      const free = edge - memory.base - BigInt(memory.registry.used)
      const filler = heap.add({ bytes: new Uint8Array(Number(free) - 1).fill(0xc3), base: made + 0x2_0000n })
      const call = heap.add({ bytes, base: made, name: 'call' })
      must(heap.entry(call) === edge, 'it lies elsewhere')
      heap.free(filler)
      for (const by of [16n, 0x1000n]) {
        const to = edge + away * by
        const before = image(memory)
        must(thrown(() => heap.move(call, { to, mode: modeOf(run) })) === 'refused', `it went ${by} too far`)
        must(Buffer.compare(image(memory), before) === 0, 'a refused move changed bytes')
        must(thrown(() => heap.move(call, { to: edge + 1n })) === 'bad-argument', 'it lies on no granule')
        heap.move(call, { to: edge - away * by })
        heap.move(call, { to: edge })
      }
      heap.move(call, { to: edge })
      const { kept, moves } = heap.compact()
      must(away > 0n ? moves.length === 1 : kept.length === 1, 'compaction does not see the edge')
      must(heap.verify().length === 0, 'not verified')
      run.count('edges')
    }
  },
}

/** Functions that return their own address by a field which holds no address from `limit` on. */
const NARROW: readonly { readonly limit: bigint; readonly make: (at: bigint) => number[] }[] = [
  // mov eax, imm32
  { limit: 1n << 32n, make: (at) => [0xb8, ...low32(at), 0xc3] },
  // lea eax, [eip+disp32]
  { limit: 1n << 32n, make: () => [0x67, 0x8d, 0x05, ...low32(-7n), 0xc3] },
  // mov rax, simm32
  { limit: 1n << 31n, make: (at) => [0x48, 0xc7, 0xc0, ...low32(at), 0xc3] },
]

const low32 = (value: bigint): number[] => [
  ...new Uint8Array(new BigUint64Array([BigInt.asUintN(32, value)]).buffer).subarray(0, 4),
]

const narrow: Family = {
  name: 'narrow',
  title: 'an address in 32 bits goes up to the last granule that it can name, and not one further',
  makers: BOTH,
  run(run) {
    for (const { limit, make } of NARROW) {
      const memory = memoryAt(run, limit - 0x8000n)
      if (memory === undefined) continue
      const heap = new CodeHeap(memory)
      const made = limit - 0x10_0000n
      const handle = heap.add({ bytes: Uint8Array.from(make(made)), base: made, name: 'narrow' })
      for (let i = 0; i < 5; i++) {
        const near = limit - 16n * BigInt(1 + (i === 0 ? 0 : run.next(0x100)))
        heap.move(handle, { to: near, mode: modeOf(run) })
        const before = image(memory)
        const far = limit + 16n * BigInt(i === 0 ? 0 : run.next(0x700))
        must(thrown(() => heap.move(handle, { to: far, mode: modeOf(run) })) === 'refused', 'it went too far')
        must(Buffer.compare(image(memory), before) === 0, 'a refused move changed bytes')
        if (memory.call !== undefined) must(heap.call(handle) === near, 'it returns another address')
        must(heap.verify().length === 0, 'not verified')
        run.count('edges')
      }
      memory.close()
    }
  },
}

export const MOVEMENT: readonly Family[] = [always, anywhere, abort, placement, boundary, narrow]
