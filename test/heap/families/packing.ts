/** Where compaction puts things: against a model, against the optimum, and against doing it in another order. */
import { CodeHeap } from '../../../src/heap/heap.ts'
import type { CodeHandle } from '../../../src/heap/object.ts'
import { RelocationTable } from '../../../src/table/table.ts'
import { World } from '../support/world.ts'
import { BOTH, type Family, type FamilyRun, must } from './family.ts'

const GRANULE = 16
/** Granules that the small heaps have. */
const CELLS = 8

/** Objects of a small heap: where each lies, in granules. */
interface Cell {
  readonly start: number
  readonly size: number
  readonly isPinned: boolean
}

/** All heaps of up to four objects in eight granules, with all sets of pins. */
export function* smallHeaps(from = 0, before: readonly Cell[] = []): IterableIterator<readonly Cell[]> {
  if (before.length > 0) yield before
  if (before.length === 4) return
  for (let start = from; start < CELLS; start++)
    for (let size = 1; start + size <= CELLS; size++)
      for (const isPinned of [false, true])
        yield* smallHeaps(start + size, [...before, { start, size, isPinned }])
}

/** Where compaction must put them: each in turn as low as there is room, and never higher than it was. */
function expectedStarts(cells: readonly Cell[], drains: boolean): number[] {
  const taken = new Set<number>()
  const mark = (start: number, size: number): void => {
    for (let i = start; i < start + size; i++) taken.add(i)
  }
  for (const { start, size, isPinned } of cells) if (drains || isPinned) mark(start, size)
  return cells.map(({ start, size, isPinned }) => {
    if (isPinned) return start
    let to = 0
    const isFree = (at: number): boolean =>
      Array.from({ length: size }, (_, i) => at + i).every((cell) => !taken.has(cell))
    while (to < start && !isFree(to)) to++
    mark(to, size)
    return to
  })
}

/** One small heap above `floor`, made by moves to exact places. Each object calls the next, the last the first. */
function trySmallHeap(heap: CodeHeap, floor: bigint, cells: readonly Cell[], drains: boolean): void {
  const made = floor - 0x10_0000n
  const inputs = cells.map(({ size }, i) => {
    const bytes = new Uint8Array(GRANULE * size - 1).fill(0x90)
    bytes[0] = 0xe8
    const base = made + BigInt(0x1000 * i)
    const callee = made + BigInt(0x1000 * ((i + 1) % cells.length))
    new DataView(bytes.buffer).setInt32(1, Number(callee - base) - 5, true)
    return { bytes, base }
  })
  const handles = heap.addAll(
    inputs.map(({ bytes, base }) => {
      const others = inputs.filter((other) => other.base !== base)
      const moved = [
        ...heap.moved(base, bytes.length),
        ...others.map((other) => ({ start: other.base, length: BigInt(other.bytes.length) })),
      ]
      const sites = others.length === 0 ? [] : [{ kind: 'pc32' as const, offset: 1 }]
      return { bytes, base, table: RelocationTable.fromSites(sites, { code: bytes, base, moved }) }
    }),
  )
  // From the last: places above are free then.
  for (let i = cells.length - 1; i >= 0; i--)
    heap.move(handles[i], { to: floor + BigInt(GRANULE * cells[i].start) })
  cells.forEach(({ isPinned }, i) => {
    if (isPinned) heap.pin(handles[i])
  })
  heap.compact({ mode: drains ? 'drain' : 'slide' })
  const wanted = expectedStarts(cells, drains)
  const got = handles.map((handle) => Number(heap.entry(handle) - floor) / GRANULE)
  must(got.join() === wanted.join(), `${JSON.stringify(cells)}: at ${got.join()}, not ${wanted.join()}`)
  const violation = heap.verify()[0]
  must(violation === undefined, `${JSON.stringify(cells)}: ${violation?.message}`)
  cells.forEach(({ isPinned }, i) => {
    if (isPinned) heap.unpin(handles[i])
  })
  heap.free(...handles)
}

const exhaustive: Family = {
  name: 'exhaustive',
  title: 'small heaps with all places and pins compact to where a model says',
  makers: BOTH,
  run(run) {
    const memory = run.memory(4096)
    const heap = new CodeHeap(memory)
    const floor = memory.base + BigInt(memory.registry.used)
    let i = 0
    // One in some, by the seed: all of them in as many runs.
    const every = 120
    for (const cells of smallHeaps())
      if (i++ % every === run.seed % every)
        for (const drains of [false, true]) {
          trySmallHeap(heap, floor, cells, drains)
          run.count('heaps')
        }
  },
}

/** Which object goes when there is no room. */
const VICTIMS = {
  first: () => 0,
  last: (count: number) => count - 1,
  random: (count: number, { next }: FamilyRun) => next(count),
  second: (count: number, { next }: FamilyRun) => Math.min(2 * next(Math.ceil(count / 2)) + 1, count - 1),
} as const

/**
 * Objects come and go until the heap is in pieces; then what compaction leaves is compared with the best that
 * pins allow.
 */
const fragmentation: Family = {
  name: 'fragmentation',
  title:
    'below an object that may move compaction leaves no hole that would hold it, however long it was used, with 0 to 30 % pinned',
  makers: BOTH,
  run(run) {
    const { next } = run
    for (const order of Object.values(VICTIMS))
      for (const pinned of [0, 5, 30]) {
        const memory = run.memory(64 << 10)
        const heap = new CodeHeap(memory)
        const live: { readonly handle: CodeHandle; readonly size: number; pinned: boolean }[] = []
        for (let i = 0; i < 300; i++) {
          // As in Robson's worst case: the longer it lasts, the longer objects are.
          const length = 1 + next(16 << (i >> 6))
          const code = new Uint8Array(length).fill(0xc3)
          const base = memory.base - 0x10_0000n
          const table = RelocationTable.fromSites([], { code, base, moved: heap.moved(base, length) })
          while (memory.size - memory.registry.used < 4 * length + 4096 && live.length > 0) {
            const [gone] = live.splice(order(live.length, run), 1)
            if (gone.pinned) heap.unpin(gone.handle)
            heap.free(gone.handle)
          }
          try {
            const handle = heap.add({ bytes: code, base, table })
            live.push({ handle, size: GRANULE * Math.ceil((length + 1) / GRANULE), pinned: false })
          } catch (error) {
            must((error as { code?: string }).code === 'no-room', String(error))
            heap.compact()
            run.count('full')
          }
        }
        for (const object of live)
          if (next(100) < pinned) {
            heap.pin(object.handle)
            object.pinned = true
          }
        const { fragmentation: measured } = heap.compact()
        must(pinned > 0 || measured.after === 0, `in pieces (${measured.after}) although nothing is pinned`)
        checkHoles(heap, memory.base, live)
        run.count('heaps')
      }
  },
}

function checkHoles(
  heap: CodeHeap,
  base: bigint,
  live: readonly { readonly handle: CodeHandle; readonly size: number; readonly pinned: boolean }[],
): void {
  const placed = live
    .map((object) => ({ ...object, at: Number(heap.entry(object.handle) - base) }))
    .sort((a, b) => a.at - b.at)
  let longestHole = 0
  let end = placed[0]?.at ?? 0
  for (const { at, size, pinned } of placed) {
    longestHole = Math.max(longestHole, at - end)
    must(pinned || size > longestHole, `${size} bytes at ${at} would fit into a hole of ${longestHole}`)
    end = at + size
  }
}

const metamorphic: Family = {
  name: 'metamorphic',
  title:
    'compacting what has no holes, adding in another order, going and coming back change addresses at most',
  makers: BOTH,
  run(run) {
    const worlds = [0, 1, 2].map(() => new World(run.seed, run.memory()))
    const [plain, compacted, busy] = worlds
    for (const world of worlds)
      for (let i = 0; i < 6; i++) {
        world.add()
        if (world !== plain) world.heap.compact({ mode: world === busy ? 'drain' : 'slide' })
      }
    // Objects for another order: what they are does not depend on it.
    for (const world of [busy]) {
      world.spread()
      world.heap.compact()
      world.spread()
    }
    for (const world of worlds) world.check()
    const sizes = (world: World): string => world.things.map(({ length }) => length).join()
    must(sizes(busy) === sizes(plain), 'the same seed gave other objects')
    must(places(compacted) === places(plain), 'compacting a heap without holes moved something')
    for (const world of worlds) {
      for (let i = 0; i < 3; i++) world.free()
      world.check()
    }
    must(places(compacted) === places(plain), 'a compaction is seen after frees')
    for (const world of worlds) world.finish()
    run.count('worlds', worlds.length)
  },
}

/** Where everything is, from the heap's start. */
const places = ({ heap, things, memory }: World): string =>
  things.map(({ handle }) => Number(heap.entry(handle!) - memory.base)).join()

export const PACKING: readonly Family[] = [exhaustive, fragmentation, metamorphic]
