/**
 * Moves out of reach: whole functions with all of their outside sites far away against iced moving the same
 * functions near, and what veneers cost when they run.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { analyze, RelocationTable, relocate } from '../../src/index.ts'
import { functionsOf } from './functions.ts'
import { checksum, type Result, race, type Settings } from './measure.ts'
import { encodeWithIced } from './rivals.ts'

const BASE = 0x40_0000n
const NEAR = 0x10_0000n
const FAR = 0x7000_0000_0000n

interface Functions {
  /** Start and end of each function that iced can encode. */
  readonly runs: readonly { readonly start: number; readonly end: number }[]
  /** What these functions refer to outside the text. */
  readonly table: RelocationTable
}

function commonFunctions(text: Uint8Array): Functions {
  const all = functionsOf(text)
  const runs = Array.from({ length: all.length / 2 }, (_, i) => ({
    start: all[2 * i],
    end: all[2 * i + 1],
  })).filter(({ start, end }) => {
    try {
      return encodeWithIced(text.subarray(start, end), BASE + BigInt(start), BASE + NEAR).length > 0
    } catch {
      return false
    }
  })
  const sites = analyze(text, { base: BASE })
    .sites()
    .filter(
      ({ kind, offset }) => kind === 'pc32' && runs.some(({ start, end }) => offset >= start && offset < end),
    )
    .map(({ offset, target, anchor }) => ({ offset, kind: 'pc32' as const, target, anchor }))
  return { runs, table: RelocationTable.fromSites(sites, { code: text, base: BASE, runs }) }
}

export function benchFar(text: Uint8Array, settings: Settings): Result[] {
  const { runs, table } = commonFunctions(text)
  const slices = runs.map(({ start, end }) => text.subarray(start, end))
  const first = relocate(text, table, { to: FAR, veneers: true })
  const veneers = first.veneers?.bytes ?? new Uint8Array(0)
  const right = `${checksum(first.bytes)} ${checksum(veneers)}`
  const home = relocate(first.bytes, first.table, { to: BASE })
  if (Buffer.compare(home.bytes, text) !== 0) throw new Error('The way back is another.')
  let isChecked = false
  const medians = race(
    [
      {
        name: 'relocate far, with veneers',
        run() {
          const moved = relocate(text, table, { to: FAR, veneers: true })
          if (!isChecked && `${checksum(moved.bytes)} ${checksum(moved.veneers!.bytes)}` !== right)
            return 'wrong'
          isChecked = true
          return String(moved.veneers!.bytes.length)
        },
      },
      {
        name: 'iced WASM BlockEncoder, near',
        run: () =>
          String(
            slices.reduce((sum, slice, i) => {
              const from = BASE + BigInt(runs[i].start)
              return sum + encodeWithIced(slice, from, from + NEAR).length
            }, 0),
          ),
      },
    ],
    settings,
  )
  const bytes = slices.reduce((sum, slice) => sum + slice.length, 0)
  return [
    {
      work: 'whole functions, all outside sites out of reach, against iced WASM BlockEncoder within reach',
      unit: 'x',
      value: medians['iced WASM BlockEncoder, near'] / medians['relocate far, with veneers'],
      floor: '5x',
      aim: '',
      medians,
      note: `${runs.length} functions, ${bytes} bytes, ${table.size} sites out of reach; ${(veneers.length / table.size).toFixed(1)} bytes of veneers a site`,
    },
    ...benchHotLoop(settings),
  ]
}

/** What the child measures: nanoseconds of a round at home and far away. */
export interface HotLoop {
  readonly name: string
  readonly home: number
  readonly far: number
}

/** Code is run in a process of its own. */
function benchHotLoop({ rounds }: Settings): Result[] {
  const child = fileURLToPath(new URL('./far-child.ts', import.meta.url))
  const run = spawnSync(process.execPath, ['--import', 'tsx', child, String(rounds)], {
    encoding: 'utf8',
    timeout: 120_000,
  })
  if (run.status !== 0) return []
  return (JSON.parse(run.stdout) as HotLoop[]).map(({ name, home, far }) => ({
    work: `a loop of ${name}, far against home`,
    unit: 'x',
    value: home / far,
    floor: '',
    aim: '',
    medians: { home: home / 1e6, far: far / 1e6 },
    note: `${home.toFixed(2)} ns and ${far.toFixed(2)} ns a round`,
  }))
}
