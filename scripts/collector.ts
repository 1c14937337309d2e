/**
 * npm run collector -- [--seconds N | --steps N] [--seed N]: a small copying collector of data and code over
 * the native heap, and a program that makes, calls and drops closures under it. Prints one line of JSON; exit
 * status 1 where anything was wrong. See scripts/collector/.
 */
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { CodeHeap } from '../src/heap/heap.ts'
import type { HeapMemory } from '../src/heap/memory.ts'
import { NativeMemory, nativeUnavailable } from '../src/heap/native/memory.ts'
import { nativeMemory } from '../src/heap/native/reservation.ts'
import type { Block } from '../src/heap/object.ts'
import { cpuFeatures, FixtureGuest, guestFixtures, Outsides } from '../test/heap/support/fixture-guest.ts'
import { sameScript, Watch } from '../test/heap/support/footprint.ts'
import { random } from '../test/heap/support/program.ts'
import { Collector } from './collector/collector.ts'
import { Mutator } from './collector/mutator.ts'
import { Space } from './collector/space.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    steps: { type: 'string' },
    seed: { type: 'string', default: '1' },
    inner: { type: 'boolean', default: false },
  },
})
const reason = nativeUnavailable()
if (reason !== undefined) {
  process.stdout.write(`${JSON.stringify({ skipped: reason })}\n`)
  process.exit(0)
}
if (!values.inner) {
  // What runs is native code: its process may die of it, and says so here.
  const { signal, status } = spawnSync(process.execPath, sameScript('--inner'), { stdio: 'inherit' })
  if (signal !== null) process.stdout.write(`${JSON.stringify({ found: `died of ${signal}` })}\n`)
  process.exit(signal === null ? (status ?? 1) : 1)
}

/** Below 2 GiB, in reach of the fixtures' data and below it, and not where those were linked for. */
const CODE_AT = 0x5400_0000n
const DATA_AT = 0x5c00_0000
const CODE_SIZE = 4 << 20
const HALF_SIZE = 192 << 10
/** Steps between two looks at everything. */
const CHECK_EVERY = 500
const SAMPLE_EVERY_MS = 20
/** Write scopes between two looks from inside one. */
const SAMPLE_EVERY_SCOPE = 100

const watch = new Watch((line) => line.startsWith('5c0'), [0.1, 0.25, 0.5, 0.75, 0.99])
const data = new NativeMemory()
const outsides = new Outsides(data)
const features = cpuFeatures()
const guests = guestFixtures(true).map((fixture) => new FixtureGuest(fixture, data, outsides, features))
const collector = new Collector(new Space(data, DATA_AT, HALF_SIZE))
const heap = new CodeHeap(watched(nativeMemory<Block>({ base: CODE_AT, size: CODE_SIZE })), {
  managed: [{ start: DATA_AT, length: 2 * HALF_SIZE }],
  sideTables: [collector],
})
collector.heap = heap
const mutator = new Mutator(
  heap,
  collector,
  random(Number(values.seed)),
  guests.filter((guest) => guest.calls > 0),
)

const start = performance.now()
let steps = 0
/** How much of it is done, 0 to 1. */
const progress = (): number =>
  values.steps === undefined
    ? (performance.now() - start) / (1000 * Number(values.seconds))
    : steps / Number(values.steps)
let nextSample = start
let found = ''
try {
  for (; progress() < 1; steps++) {
    mutator.step()
    if (steps % CHECK_EVERY === 0) mutator.check()
    await watch.settle(progress())
    if (performance.now() < nextSample) continue
    watch.sample()
    nextSample = performance.now() + SAMPLE_EVERY_MS
  }
  mutator.finish()
} catch (error) {
  found = error instanceof Error ? (error.stack ?? error.message) : String(error)
}
if (watch.writableCode.length > 0) found ||= `written and executed: ${watch.writableCode[0]}`
if (collector.alive.size > 0) found ||= `${collector.alive.size} objects were never given back`
process.stdout.write(
  `${JSON.stringify({
    seconds: Math.round((performance.now() - start) / 100) / 10,
    seed: Number(values.seed),
    steps,
    ...mutator.counts,
    ...collector.counts,
    deallocs: collector.deallocs,
    fixtures: guests.length,
    samples: watch.samples,
    writableCode: watch.writableCode.length,
    peak: watch.peak,
    settled: watch.settled,
    found,
  })}\n`,
)
heap.close()
process.exitCode = found === '' ? 0 : 1

/** The same memory, looked at from inside a write scope now and then. */
function watched(memory: HeapMemory<Block>): HeapMemory<Block> {
  let scopes = 0
  return new Proxy(memory, {
    get(target, name) {
      if (name !== 'write') {
        const value: unknown = Reflect.get(target, name)
        return typeof value === 'function' ? value.bind(target) : value
      }
      const write: HeapMemory<Block>['write'] = (from, to, work) =>
        target.write(from, to, (writer) => {
          if (scopes++ % SAMPLE_EVERY_SCOPE === 0) watch.sample()
          return work(writer)
        })
      return write
    },
  })
}
