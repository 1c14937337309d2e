/**
 * What an analysis costs: `npx tsx scripts/analyze-cost.ts [FILE] [--bytes N] [--rounds N]`, after `npm run
 * build`. Prints one JSON object.
 *
 * The .text of an ELF file (this node by default), 6 MB of it: the time of `analyze` over that of a plain
 * sweep with iced in turn with it, medians; and the peak memory of a process that analyses once, above that
 * of one that loads the library and the bytes and does not.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { race } from './bench/measure.ts'
import { sweepWithIced } from './bench/rivals.ts'
import { textOf } from './support/elf-text.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { bytes: { type: 'string', default: '6000000' }, rounds: { type: 'string', default: '7' } },
})
const [path = process.execPath] = positionals
const all = textOf(readFileSync(path))
const size = Math.min(Number(values.bytes), all.length)
// The first bytes of a text are start-up code; what follows is typical.
const from = Math.min(1 << 20, all.length - size)
const text = all.slice(from, from + size)
const BASE = 0x40_0000n
const library = join(import.meta.dirname, '../dist/index.js')

const work = mkdtempSync(join(tmpdir(), 'analyze-cost-'))
try {
  const input = join(work, 'text.bin')
  writeFileSync(input, text)
  const { analyze } = (await import(pathToFileURL(library).href)) as typeof import('../src/index.ts')
  const hints = { ranges: [{ start: 0, end: size, kind: 'code' as const }] }
  const medians = race(
    [
      { name: 'analyze', run: () => analyze(text, { base: BASE }).hash },
      { name: 'given', run: () => analyze(text, { base: BASE, hints }).hash },
      { name: 'iced', run: () => String(sweepWithIced(text, false).count) },
    ],
    { short: false, rounds: Number(values.rounds) },
  )
  const empty = peakOf(library, input, '')
  const peak = peakOf(library, input, `analyze(code, { base: ${BASE}n })`)
  const round = (value: number): number => Number(value.toFixed(2))
  console.log(
    JSON.stringify({
      file: path,
      bytes: size,
      milliseconds: {
        analyze: round(medians.analyze),
        given: round(medians.given),
        iced: round(medians.iced),
      },
      timesIced: {
        analyze: round(medians.analyze / medians.iced),
        given: round(medians.given / medians.iced),
      },
      peakMegabytes: { empty: round(empty / 2 ** 20), analyze: round(peak / 2 ** 20) },
      bytesPerByte: round((peak - empty) / size),
    }),
  )
} finally {
  rmSync(work, { recursive: true })
}

/**
 * The largest resident set of a fresh process that runs `action`. (getrusage's is never below that of the
 * process that started it.)
 */
function peakOf(library: string, input: string, action: string): number {
  const script = `
    const { analyze } = await import(${JSON.stringify(pathToFileURL(library).href)})
    const { readFileSync } = await import('node:fs')
    const code = new Uint8Array(readFileSync(${JSON.stringify(input)}))
    ${action}
    console.log(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'latin1'))[1])`
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(stderr)
  return Number(stdout) * 1024
}
