/**
 * Reads damaged files: npm run fuzz:input -- [--count N] [--seed S] [--only INDEX]
 *
 * A fifth each of ELF files, object files, binary tables, JSON tables and hints. Each must be read, or
 * refused with a sentence, within a second; whatever else happens ends the run with the number to give to
 * --only.
 */
import { parseArgs } from 'node:util'
import { tryDamaged } from '../test/support/hostile.ts'

const { values } = parseArgs({
  options: { count: { type: 'string' }, seed: { type: 'string' }, only: { type: 'string' } },
})
const seed = Number(values.seed ?? 1)
const first = Number(values.only ?? 0)
const count = values.only === undefined ? Number(values.count ?? 20_000) : 1
const results = new Map<string, number>()
let slowest = { index: 0, milliseconds: 0 }
const started = performance.now()
for (let index = first; index < first + count; index++) {
  try {
    const { kind, result, milliseconds } = tryDamaged(seed, index)
    results.set(`${kind}: ${result}`, (results.get(`${kind}: ${result}`) ?? 0) + 1)
    if (milliseconds > slowest.milliseconds) slowest = { index, milliseconds }
    if (milliseconds > 1000) throw new Error(`It took ${milliseconds.toFixed(0)} ms.`)
  } catch (error) {
    console.error(`--seed ${seed} --only ${index}:`, error)
    process.exit(1)
  }
}
for (const [what, times] of [...results].sort()) console.log(`${what.padEnd(30)} ${times}`)
const seconds = (performance.now() - started) / 1000
const memory = process.resourceUsage().maxRSS / 1024
console.log(
  `${count} inputs in ${seconds.toFixed(1)} s, the slowest (${slowest.index}) ${slowest.milliseconds.toFixed(1)} ms, at most ${memory.toFixed(0)} MiB.`,
)
