/**
 * npm run bench:heap [-- --quick]: what moving code costs, as JSON. Every figure is of code that is
 * published, and checked where it says so. Times are CPU times of the process, all its threads: medians, and
 * `least`, the fastest round, which is nearer to the truth on a machine that does other things.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { CodeHeap } from '../src/heap/heap.ts'
import { type HeapMemory, PAGE } from '../src/heap/memory.ts'
import { nativeUnavailable } from '../src/heap/native/machine.ts'
import { nativeMemory } from '../src/heap/native/reservation.ts'
import type { Block, CodeHandle } from '../src/heap/object.ts'
import { simulatedMemory } from '../src/heap/simulated.ts'
import type { SiteInput } from '../src/table/from-sites.ts'
import { RelocationTable } from '../src/table/table.ts'

const HEAP = 0x4000_0000n
const OUTSIDE = 0x1000_0000n
const QUICK = process.argv.includes('--quick')
const ROUNDS = QUICK ? 5 : 61

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b)
const median = (values: readonly number[]): number => sorted(values)[values.length >> 1]
const round = (value: number): number => Number(value.toPrecision(3))
const milliseconds = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}
const time = (work: () => void): number => {
  const start = milliseconds()
  work()
  return milliseconds() - start
}

type Maker = (size: number) => HeapMemory<Block>
const makers: Readonly<Record<string, Maker>> = {
  simulated: (size) => simulatedMemory({ base: HEAP, size }),
  ...(nativeUnavailable() === undefined ? { native: (size: number) => nativeMemory<Block>({ size }) } : {}),
}

/**
 * `count` objects of `length` bytes, each with `sites` fields: three in four call the object before, the rest
 * hold addresses of its own.
 */
function fill(heap: CodeHeap, count: number, length: number, sites: number): CodeHandle[] {
  const handles: CodeHandle[] = []
  const bytes = new Uint8Array(length).fill(0x90)
  const view = new DataView(bytes.buffer)
  const base = heap.reservation.start - (HEAP - OUTSIDE)
  const moved = heap.moved(base, length)
  for (let i = 0; i < count; i++) {
    const list: SiteInput[] = []
    for (let s = 0; s < sites; s++) {
      const offset = Math.floor((s * (length - 8)) / sites)
      const kind = s % 4 === 3 ? 'abs64' : 'pc32'
      const to = i === 0 ? heap.reservation.start - 64n : heap.entry(handles[i - 1])
      if (kind === 'abs64') view.setBigUint64(offset, base + 8n, true)
      else view.setInt32(offset, Number(to - base) - offset - 4, true)
      list.push({ offset, kind })
    }
    handles.push(
      heap.add({ bytes, base, table: RelocationTable.fromSites(list, { code: bytes, base, moved }) }),
    )
  }
  return handles
}

const sizeFor = (count: number, length: number): number =>
  Math.ceil((count * (length + 32)) / PAGE + 1) * PAGE

/** Milliseconds of `Uint8Array.set`, object by object. */
function copying(count: number, length: number): number[] {
  const source = new Uint8Array(count * length).fill(1)
  const target = new Uint8Array(count * length)
  return Array.from({ length: ROUNDS }, () =>
    time(() => {
      for (let i = 0; i < count * length; i += length) target.set(source.subarray(i, i + length), i)
    }),
  )
}

/** Every round frees the object below the others, and all go down by its size. */
function compaction(make: Maker, count: number, length: number, sites: number, verify: boolean) {
  const heap = new CodeHeap(make(sizeFor(count + ROUNDS + 8, length)), { verify })
  const fillers = fill(heap, ROUNDS, length, 0)
  fill(heap, count, length, sites)
  const times = fillers.reverse().map((filler) => {
    heap.free(filler)
    return time(() => {
      if (heap.compact().moves.length !== count) throw new Error('not all moved')
    })
  })
  heap.close()
  const [took, least] = [median(times), Math.min(...times)]
  const set = copying(count, length)
  return {
    objects: count,
    bytes: length,
    sites,
    verify,
    ms: round(took),
    least: round(least),
    first: round(times[0]),
    nsPerObject: round((took * 1e6) / count),
    nsPerByte: round((took * 1e6) / (count * length)),
    speedOfSet: round(median(set) / took),
    leastSpeedOfSet: round(Math.min(...set) / least),
  }
}

function compactions() {
  const shapes = [
    [10_000, 512, 4],
    [10_000, 512, 16],
    [2000, 4096, 0],
    [2000, 4096, 8],
    [2000, 4096, 72],
  ] as const
  return Object.entries(makers).flatMap(([memory, make]) =>
    shapes.flatMap(([count, length, sites]) =>
      [false, true].map((verify) => ({ memory, ...compaction(make, count, length, sites, verify) })),
    ),
  )
}

/** Addresses at random: what `translate` takes, and what it takes with a look at the object's handle. */
function translation(count: number) {
  const heap = new CodeHeap(simulatedMemory({ base: HEAP, size: sizeFor(count, 60) }))
  const handles = fill(heap, count, 60, 0)
  const addresses = Array.from(
    { length: 100_000 },
    (_, i) => heap.entry(handles[(i * 7919) % count]) + BigInt(i % 60),
  )
  const look = (use: (place: NonNullable<ReturnType<CodeHeap['translate']>>) => unknown): number => {
    const times = Array.from({ length: 15 }, () =>
      time(() => {
        for (const address of addresses)
          if (use(heap.translate(address)!) === undefined) throw new Error('lost')
      }),
    )
    return round((median(times) * 1e6) / addresses.length)
  }
  return { objects: count, ns: look((place) => place.offset), nsWithHandle: look((place) => place.handle) }
}

/**
 * Bytes that the process takes for an object beside its code, without sites and with some, and for each further one.
 */
function bookkeeping() {
  const [count, length] = [4000, 1024]
  const taken = (sites: number): number => {
    const heap = new CodeHeap(simulatedMemory({ base: HEAP, size: sizeFor(count, length) }))
    // The first object makes what all need.
    fill(heap, 1, length, sites)
    const used = (): number => {
      const { heapUsed, arrayBuffers } = process.memoryUsage()
      return heapUsed + arrayBuffers
    }
    collect()
    collect()
    const before = used()
    const handles = fill(heap, count, length, sites)
    collect()
    collect()
    const bytes = (used() - before) / handles.length
    heap.close()
    return bytes
  }
  taken(4)
  const [bare, few, many] = [0, 4, 68].map(taken)
  return {
    codeBytesPerObject: length,
    bytesPerObject: round(bare),
    bytesPerObjectWithFourSites: round(few),
    bytesPerFurtherSite: round((many - few) / 64),
  }
}

/** Half of the objects freed, some pinned: how much of the free memory is not one range, before, after, and at best. */
function fragmentation(pinned: number) {
  const size = 1 << 20
  const heap = new CodeHeap(simulatedMemory({ base: HEAP, size }))
  let seed = 1
  const next = (): number => (seed = Math.imul(seed, 1_103_515_245) + 12345) >>> 16
  const handles: CodeHandle[] = []
  const lengths: number[] = []
  try {
    for (;;) {
      const length = 40 + (next() % 900)
      handles.push(...fill(heap, 1, length, 2))
      lengths.push(length)
    }
  } catch {
    // full
  }
  const pins: { start: number; end: number }[] = []
  let movable = 0
  handles.forEach((handle, i) => {
    const bytes = (lengths[i] | 15) + 1
    if (next() % 2 === 0) heap.free(handle)
    else if (next() % 100 >= pinned) movable += bytes
    else {
      heap.pin(handle)
      const start = Number(heap.entry(handle) - HEAP)
      pins.push({ start, end: start + bytes })
    }
  })
  const { before, after } = heap.compact().fragmentation
  // Whatever moves fills the other gaps first, as if it were a liquid.
  const gaps = [...pins, { start: size, end: size }].map(({ start }, i) => start - (pins[i - 1]?.end ?? 0))
  const all = gaps.reduce((sum, gap) => sum + gap, 0)
  const longest = Math.max(...gaps.map((gap) => gap - Math.max(0, movable - (all - gap))))
  return {
    pinnedPercent: pinned,
    before: round(before),
    after: round(after),
    best: round(1 - longest / (all - movable)),
    longestOfBest: round(((1 - after) * (all - movable)) / longest),
  }
}

/** Everything goes down by one object's size, as much at a time as the budget lets. */
function pauses() {
  return [1 << 14, 1 << 16, 1 << 18, 1 << 20].map((bytes) => {
    const heap = new CodeHeap(simulatedMemory({ base: HEAP, size: sizeFor(5010, 512) }))
    const first = fill(heap, 1, 512, 0)
    fill(heap, 5000, 512, 4)
    heap.free(...first)
    const times: number[] = []
    for (let moved = 1; moved > 0; )
      times.push(time(() => (moved = heap.compact({ budget: { bytes } }).moves.length)))
    const steps = sorted(times.slice(0, -1))
    return {
      budget: bytes,
      pauses: steps.length,
      ms: round(median(steps)),
      p95: round(steps[Math.floor(0.95 * steps.length)]),
      worst: round(steps[steps.length - 1]),
    }
  })
}

const result = {
  bookkeeping: bookkeeping(),
  compaction: compactions(),
  translate: (QUICK ? [1e2, 1e4] : [1e2, 1e4, 1e6]).map(translation),
  fragmentation: [0, 5, 30].map(fragmentation),
  pauses: pauses(),
}
process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
