/**
 * npm run stress -- [--minutes N] [--seed N] [--memory simulated|native] [--sabotage NAME]: random programs under random moves. Prints
 * one line of JSON; exit status 1 where something was wrong (with --sabotage: where nothing was found; a process that dies of it has found it).
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { NativeMemory, nativeUnavailable } from '../src/heap/native/memory.ts'
import { nativeMemory } from '../src/heap/native/reservation.ts'
import type { Block } from '../src/heap/object.ts'
import { simulatedMemory } from '../src/heap/simulated.ts'
import { SABOTAGES, type Sabotage } from '../test/heap/support/sabotage.ts'
import { Stress, type StressCounts } from '../test/heap/support/stress.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '0.1' },
    seed: { type: 'string', default: '1' },
    memory: { type: 'string' },
    sabotage: { type: 'string' },
    inner: { type: 'boolean', default: false },
  },
})
const STEPS = 400
const sabotage = SABOTAGES.find((name) => name === values.sabotage) as Sabotage | undefined
if (values.sabotage !== undefined && sabotage === undefined) {
  process.stderr.write(`unknown sabotage ${values.sabotage}: ${SABOTAGES.join(', ')}\n`)
  process.exit(2)
}
if (sabotage !== undefined && !values.inner) {
  const { signal, stdout, status } = spawnSync(
    process.execPath,
    [...process.execArgv, ...process.argv.slice(1), '--inner'],
    { encoding: 'utf8' },
  )
  process.stdout.write(
    signal === null ? stdout : `${JSON.stringify({ sabotage, found: `died of ${signal}` })}\n`,
  )
  process.exit(signal === null ? (status ?? 1) : 0)
}
const native = values.memory === undefined ? nativeUnavailable() === undefined : values.memory === 'native'
const cells: { readonly address: bigint; bytes: Uint8Array } = {
  address: 0x7000_0000_0000n,
  bytes: new Uint8Array(4096),
}
if (native) {
  const memory = new NativeMemory()
  memory.map(cells.address, 4096)
  cells.bytes = memory.view(cells.address, 4096, 'rw')
}

/** Mappings of this process, those of heaps that can be written and executed, and its resident MiB. */
function footprint(): {
  readonly mappings: number
  readonly writableCode: number
  readonly residentMiB: number
} {
  const maps = native ? readFileSync('/proc/self/maps', 'utf8').split('\n') : []
  return {
    mappings: maps.length,
    writableCode: maps.filter((line) => line.includes('memfd:x64-reloc ') && /^\S+ .w.?x/.test(line)).length,
    residentMiB: process.memoryUsage().rss >> 20,
  }
}

const total: Record<string, number> = {}
const end = performance.now() + 60_000 * Number(values.minutes)
let seed = Number(values.seed)
let found = ''
let first: ReturnType<typeof footprint> | undefined
let last = footprint()
for (; performance.now() < end && found === ''; seed++) {
  const bases = [0x4000_0000n, 0x10000n, 0xffff_8000n & ~0xfffn, 0x7fff_fff0_0000n]
  const memory = native
    ? nativeMemory<Block>({ size: 1 << 20 })
    : simulatedMemory<Block>({ base: bases[seed % bases.length], size: 256 << 10 })
  const stress = new Stress({ seed, memory, cells, sabotage })
  try {
    for (let step = 0; step < STEPS; step++) stress.step()
    stress.check()
  } catch (error) {
    found = error instanceof Error ? error.message : String(error)
  }
  last = footprint()
  first ??= last
  if (last.writableCode > 0) found ||= 'code that can be written and executed'
  for (const [name, count] of Object.entries(stress.counts satisfies StressCounts))
    total[name] = (total[name] ?? 0) + count
  stress.heap.close()
}
process.stdout.write(
  `${JSON.stringify({ memory: native ? 'native' : 'simulated', sabotage, programs: seed - Number(values.seed), ...total, first, last, found })}\n`,
)
process.exitCode = (found !== '') === (sabotage !== undefined) ? 0 : 1
