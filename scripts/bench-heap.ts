/** npm run bench:heap: what moving code costs, as JSON. Medians; every figure is of code that is published and checked as said. */
import { CodeHeap } from '../src/heap/heap.ts'
import { type HeapMemory, PAGE } from '../src/heap/memory.ts'
import { nativeUnavailable } from '../src/heap/native/memory.ts'
import { nativeMemory } from '../src/heap/native/reservation.ts'
import type { Block, CodeHandle } from '../src/heap/object.ts'
import { simulatedMemory } from '../src/heap/simulated.ts'
import type { SiteInput } from '../src/table/from-sites.ts'
import { RelocationTable } from '../src/table/table.ts'

const HEAP = 0x4000_0000n
const OUTSIDE = 0x3000_0000n

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]
const round = (value: number): number => Number(value.toPrecision(4))
const time = (work: () => void): number => {
  const start = performance.now()
  work()
  return performance.now() - start
}

const makers: Readonly<Record<string, ((size: number) => HeapMemory<Block>) | undefined>> = {
  simulated: (size) => simulatedMemory({ base: HEAP, size }),
  native: nativeUnavailable() === undefined ? (size) => nativeMemory({ size }) : undefined,
}

/** `count` objects of `length` bytes, each with `sites` fields: calls of the object before, and addresses of its own. */
function fill(heap: CodeHeap, count: number, length: number, sites: number): CodeHandle[] {
  const handles: CodeHandle[] = []
  const bytes = new Uint8Array(length).fill(0x90)
  const base = heap.reservation.start - (HEAP - OUTSIDE)
  const moved = heap.moved(base, length)
  for (let i = 0; i < count; i++) {
    const view = new DataView(bytes.buffer)
    const list: SiteInput[] = []
    for (let s = 0; s < sites; s++) {
      const offset = Math.floor((s * (length - 8)) / sites)
      if (s % 4 === 3) view.setBigUint64(offset, base + 8n, true)
      else {
        const to =
          handles.length === 0 ? heap.reservation.start - 64n : heap.entry(handles[handles.length - 1])
        view.setInt32(offset, Number(to - base) - offset - 4, true)
      }
      list.push({ offset, kind: s % 4 === 3 ? 'abs64' : 'pc32' })
    }
    const table = RelocationTable.fromSites(list, { code: bytes, base, moved })
    handles.push(heap.add({ bytes, base, table }))
  }
  return handles
}

const sizeFor = (count: number, length: number): number =>
  Math.ceil((3 * count * (length + 32)) / PAGE) * PAGE

/** Every object goes down by one object's size, and up again, `rounds` times. */
function compaction(
  make: (size: number) => HeapMemory<Block>,
  count: number,
  length: number,
  sites: number,
  verify: boolean,
): Record<string, number> {
  const memory = make(sizeFor(count, length))
  const heap = new CodeHeap(memory, { verify })
  const filler = (): CodeHandle =>
    heap.add({
      bytes: new Uint8Array(length),
      base: heap.reservation.start - 0x10_0000n,
      hints: { ranges: [{ start: 0, end: length, kind: 'data' }] },
      entries: [],
    })
  const times: number[] = []
  for (let round = 0; round < 7; round++) {
    const first = filler()
    const handles = fill(heap, count, length, sites)
    heap.free(first)
    times.push(time(() => heap.compact()))
    heap.free(...handles)
  }
  heap.close()
  const source = new Uint8Array(count * length).fill(1)
  const target = new Uint8Array(count * length)
  const set = median(
    Array.from({ length: 15 }, () =>
      time(() => {
        for (let i = 0; i < count * length; i += length) target.set(source.subarray(i, i + length), i)
      }),
    ),
  )
  const took = median(times)
  return {
    objects: count,
    bytes: length,
    sites,
    verify: verify ? 1 : 0,
    milliseconds: round(took),
    nsPerObject: round((took * 1e6) / count),
    nsPerByte: round((took * 1e6) / (count * length)),
    speedOfSet: round(set / took),
  }
}

function translation(count: number): Record<string, number> {
  const heap = new CodeHeap(simulatedMemory({ base: HEAP, size: Math.ceil((count * 80) / PAGE + 1) * PAGE }))
  const handles = fill(heap, count, 60, 0)
  const addresses = Array.from(
    { length: 100_000 },
    (_, i) => heap.entry(handles[(i * 7919) % count]) + BigInt(i % 60),
  )
  const run = (): void => {
    for (const address of addresses) if (heap.translate(address) === undefined) throw new Error('lost')
  }
  run()
  const took = median(Array.from({ length: 7 }, () => time(run)))
  return { objects: count, ns: round((took * 1e6) / addresses.length) }
}

/** Half of the objects freed, some pinned: how much of the free memory is one range before and after, and at best. */
function fragmentation(pinned: number): Record<string, number> {
  const heap = new CodeHeap(simulatedMemory({ base: HEAP, size: 1 << 20 }))
  let seed = 1
  const next = (): number => (seed = Math.imul(seed, 1_103_515_245) + 12345) >>> 16
  const handles: CodeHandle[] = []
  try {
    for (;;) handles.push(...fill(heap, 1, 40 + (next() % 900), 2))
  } catch {
    // full
  }
  const live = handles.filter((handle) => {
    if (next() % 2 === 0) return true
    try {
      heap.free(handle)
      return false
    } catch {
      return true
    }
  })
  for (const handle of live) if (next() % 100 < pinned) heap.pin(handle)
  const { before, after } = heap.compact().fragmentation
  return { pinnedPercent: pinned, before: round(before), after: round(after) }
}

function pauses(): Record<string, number>[] {
  return [1 << 14, 1 << 16, 1 << 18, 1 << 20].map((bytes) => {
    const heap = new CodeHeap(simulatedMemory({ base: HEAP, size: 16 << 20 }))
    const first = fill(heap, 1, 512, 0)
    fill(heap, 5000, 512, 4)
    heap.free(...first)
    const times: number[] = []
    for (let moved = 1; moved > 0; )
      times.push(time(() => (moved = heap.compact({ budget: { bytes } }).moves.length)))
    return {
      budget: bytes,
      pauses: times.length,
      medianMs: round(median(times)),
      worstMs: round(Math.max(...times)),
    }
  })
}

const result = {
  compaction: Object.entries(makers).flatMap(([memory, make]) =>
    make === undefined
      ? []
      : [true, false].flatMap((verify) =>
          (
            [
              [10_000, 512, 4],
              [2000, 4096, 8],
              [2000, 4096, 64],
            ] as const
          ).map(([count, length, sites]) => ({
            memory,
            ...compaction(make, count, length, sites, verify),
          })),
        ),
  ),
  translate: [1e2, 1e4, 1e6].map(translation),
  fragmentation: [0, 5, 30].map(fragmentation),
  pauses: pauses(),
}
process.stdout.write(JSON.stringify(result, null, 2) + '\n')
