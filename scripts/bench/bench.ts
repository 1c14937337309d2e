/**
 * Benchmarks: what the package is for, against what there is. Usage: bench.ts [--short] [--json] [--only TEXT]
 *
 * The input is the text of the running node executable and the fixtures. Every figure is a median of at least
 * 7 rounds in turn with its rivals in this run, every result is checked. --short: small inputs, one round, to
 * see that everything still runs.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { textOf } from '../support/elf-text.ts'
import { benchAnalyze, benchLinear, benchSweep } from './decode.ts'
import { benchFar } from './far.ts'
import type { Result, Settings } from './measure.ts'
import { benchApply, benchFunctions } from './moves.ts'
import { benchProcesses } from './processes.ts'

const { values } = parseArgs({
  options: { short: { type: 'boolean' }, json: { type: 'boolean' }, only: { type: 'string' } },
})
const short = values.short === true
const settings: Settings = { short, rounds: short ? 1 : 9 }
const MIB = 1 << 20

/** The first bytes of a text are start-up code; what follows is typical. */
const text = textOf(readFileSync(process.execPath)).subarray(MIB)
const sized = (size: number): Uint8Array => text.slice(0, short ? size >> 4 : size)
const fixture = readFileSync(join(import.meta.dirname, '../../fixtures/gcc-O2-image/from.bin'))

/** Each kind of work by a word for --only. */
const WORK: Readonly<Record<string, () => readonly Result[]>> = {
  sweep: () => [benchSweep(sized(6_000_000), settings)],
  analyze: () => [benchAnalyze(sized(6_000_000), settings)],
  functions: () => benchFunctions(sized(2 * MIB), settings),
  far: () => benchFar(sized(MIB), settings),
  apply: () => [16 * MIB, MIB].flatMap((size) => benchApply(short ? size >> 4 : size, settings)),
  processes: () => benchProcesses(new Uint8Array(fixture.subarray(0, 4096)), sized(6_000_000), settings),
  linear: () => [benchLinear(text, settings)],
}

function print({ work, value, unit, floor, aim, medians, note }: Result): void {
  const shown =
    value === undefined || Number.isNaN(value)
      ? '-'
      : unit === 'x'
        ? `${value.toFixed(2)}x`
        : `${value.toFixed(1)} ms`
  const goal = aim === '' ? floor : `${floor}, aim ${aim}`
  console.log(`${shown.padStart(9)}  ${work}  (${goal})`)
  const times = Object.entries(medians).map(([name, time]) => `${name} ${time.toFixed(time < 1 ? 4 : 1)} ms`)
  console.log(`${' '.repeat(11)}${[...times, note].filter((part) => part !== '').join('; ')}`)
}

const results: Result[] = []
for (const [name, work] of Object.entries(WORK)) {
  if (values.only !== undefined && !name.includes(values.only)) continue
  for (const result of work()) {
    results.push(result)
    if (values.json !== true) print(result)
  }
}
if (values.json === true)
  console.log(JSON.stringify({ node: process.version, settings, results }, undefined, 2))
