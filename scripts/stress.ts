/**
 * npm run stress -- [--minutes N | --seeds N] [--seed N] [--memory simulated|native] [--family NAME|all]
 * [--sabotage NAME]: random programs under random moves, and after each one of the families of
 * test/heap/families in turn. With --family no programs: that family, or all, for each seed.
 *
 * Prints one line of JSON; exit status 1 where something was wrong (with --sabotage: where nothing was found;
 * a process that dies of it has found it).
 */
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { NativeMemory, nativeUnavailable } from '../src/heap/native/memory.ts'
import { nativeMemory } from '../src/heap/native/reservation.ts'
import type { Block } from '../src/heap/object.ts'
import { simulatedMemory } from '../src/heap/simulated.ts'
import { FAMILIES } from '../test/heap/families/families.ts'
import { type Family, type Maker, runFamily } from '../test/heap/families/family.ts'
import { sameScript, Watch } from '../test/heap/support/footprint.ts'
import { SABOTAGES } from '../test/heap/support/sabotage.ts'
import { Stress } from '../test/heap/support/stress.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '0.1' },
    seeds: { type: 'string' },
    seed: { type: 'string', default: '1' },
    memory: { type: 'string' },
    family: { type: 'string' },
    sabotage: { type: 'string' },
    inner: { type: 'boolean', default: false },
  },
})
const STEPS = 400
const maker: Maker =
  values.memory === 'simulated' || (values.memory === undefined && nativeUnavailable() !== undefined)
    ? 'simulated'
    : 'native'
const families = FAMILIES.filter(({ makers }) => makers.includes(maker))
const sabotage = named(values.sabotage, 'sabotage', SABOTAGES)
const family = named(values.family, 'family', ['all', ...families.map(({ name }) => name)])

/** `value` where it is one of `names`; the process ends where it is none. */
function named<N extends string>(
  value: string | undefined,
  what: string,
  names: readonly N[],
): N | undefined {
  const found = names.find((name) => name === value)
  if (value === undefined || found !== undefined) return found
  process.stderr.write(`unknown ${what} ${value}: ${names.join(', ')}\n`)
  process.exit(2)
}

if (!values.inner) {
  const { signal, stdout, status } = spawnSync(process.execPath, sameScript('--inner'), {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  })
  process.stdout.write(
    signal === null ? stdout : `${JSON.stringify({ sabotage, found: `died of ${signal}` })}\n`,
  )
  process.exit(signal === null ? (status ?? 1) : sabotage === undefined ? 1 : 0)
}

const cells: { readonly address: bigint; bytes: Uint8Array } = {
  address: 0x7000_0000_0000n,
  bytes: new Uint8Array(4096),
}
if (maker === 'native') {
  const memory = new NativeMemory()
  memory.map(cells.address, 4096)
  cells.bytes = memory.view(cells.address, 4096, 'rw')
}

const total: Record<string, number> = {}
function add(counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) total[name] = (total[name] ?? 0) + count
}

function runProgram(seed: number): void {
  const bases = [0x4000_0000n, 0x10000n, 0xffff_8000n & ~0xfffn, 0x7fff_fff0_0000n]
  const memory =
    maker === 'native'
      ? nativeMemory<Block>({ size: 1 << 20 })
      : simulatedMemory<Block>({ base: bases[seed % bases.length], size: 256 << 10 })
  const stress = new Stress({ seed, memory, cells, sabotage })
  try {
    for (let step = 0; step < STEPS; step++) stress.step()
    stress.check()
  } finally {
    add({ ...stress.counts, programs: 1 })
    stress.heap.close()
  }
}

const familyRuns: Record<string, number> = {}
function runOne(one: Family, seed: number): void {
  try {
    add(runFamily(one, maker, seed))
  } catch (error) {
    throw new Error(`${one.name}, seed ${seed}: ${error instanceof Error ? error.stack : error}`)
  }
  familyRuns[one.name] = (familyRuns[one.name] ?? 0) + 1
}

const start = performance.now()
const watch = new Watch(() => false, [0.1, 0.25, 0.5, 0.75, 0.97])
let found = ''
const first = Number(values.seed)
let seed = first
/** How much of it is done, 0 to 1. */
const progress = (): number =>
  values.seeds === undefined
    ? (performance.now() - start) / (60_000 * Number(values.minutes))
    : (seed - first) / Number(values.seeds)
do {
  try {
    if (family === undefined) runProgram(seed)
    if (family === undefined && sabotage === undefined) runOne(families[seed % families.length], seed)
    for (const one of families) if (family === 'all' || family === one.name) runOne(one, seed)
  } catch (error) {
    found = error instanceof Error ? error.message : String(error)
  }
  if (maker === 'native') {
    watch.sample()
    await watch.settle(progress())
  }
  if (watch.writableCode.length > 0) found ||= `written and executed: ${watch.writableCode[0]}`
  seed++
} while (progress() < 1 && found === '')
const { peak, settled } = watch
process.stdout.write(
  `${JSON.stringify({
    memory: maker,
    sabotage,
    seconds: Math.round((performance.now() - start) / 1000),
    seeds: seed - first,
    ...total,
    families: familyRuns,
    ...(maker === 'native' ? { peak, settled } : {}),
    found,
  })}\n`,
)
process.exitCode = (found !== '') === (sabotage !== undefined) ? 0 : 1
