/** Moving: a known table against C and `set`; functions and prologues one by one against iced's BlockEncoder. */
import { copyRuns, RelocationTable, relocate } from '../../src/index.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { functionsOf } from './functions.ts'
import { type Contestant, checksum, type Result, race, type Settings } from './measure.ts'
import { encodeWithIced, loadNative } from './rivals.ts'

const BASE = 0x40_0000n
const DELTA = 0x1234_5670n

/** Noise with 18 pc32 and as many abs64 fields in each KiB. */
function denseBlob(length: number): {
  code: Uint8Array
  pc: Uint32Array
  pointers: Uint32Array
  table: RelocationTable
} {
  const code = new Uint8Array(length)
  let state = 1
  const next = (): number => (state = (Math.imul(state, 0x0019_660d) + 0x3c6e_f35f) >>> 0)
  for (let i = 0; i < length; i++) code[i] = next() >>> 24
  const view = new DataView(code.buffer)
  const sites: SiteInput[] = []
  for (let block = 0; block + 1024 <= length; block += 1024)
    for (let i = 0; i < 36; i++) {
      const offset = block + 28 * i + (next() >>> 28)
      if (i % 2 === 0) {
        view.setInt32(offset, -0x100_0000 - (next() >>> 12), true)
        sites.push({ offset, kind: 'pc32', target: BASE - 1n })
      } else {
        view.setBigUint64(offset, BASE + BigInt(next() % length), true)
        sites.push({ offset, kind: 'abs64' })
      }
    }
  const offsetsOf = (kind: string): Uint32Array =>
    Uint32Array.from(sites.filter((site) => site.kind === kind).map((site) => site.offset!))
  const table = RelocationTable.fromSites(sites, { code, base: BASE })
  return { code, pc: offsetsOf('pc32'), pointers: offsetsOf('abs64'), table }
}

export function benchApply(length: number, settings: Settings): Result[] {
  const { code, pc, pointers, table } = denseBlob(length)
  const into = new Uint8Array(length)
  const to = BASE + DELTA
  const right = checksum(relocate(code, table, { to }).bytes)
  /** The whole checksum once, then a byte that every move changes. */
  const done = new Set<string>()
  const check = (name: string): string => {
    if (!done.has(name) && checksum(into) !== right) return 'wrong'
    done.add(name)
    return String(into[pc[0]] + into[pointers[pointers.length - 1]])
  }
  const contestants: Contestant[] = [
    {
      name: 'relocate',
      agrees: 'bytes',
      run() {
        relocate(code, table, { to, into })
        return check('relocate')
      },
    },
    {
      name: 'set',
      run() {
        into.set(code)
        return String(into[length - 1])
      },
    },
  ]
  const prototype = 'void move_code(void*, void*, size_t, void*, size_t, int32_t, void*, size_t, int64_t)'
  const [inC] = loadNative('move.c', [prototype]) ?? []
  if (inC !== undefined)
    contestants.push({
      name: 'C',
      agrees: 'bytes',
      run() {
        inC(into, code, length, pc, pc.length, Number(-DELTA), pointers, pointers.length, DELTA)
        return check('C')
      },
    })
  const medians = race(contestants, settings)
  const size = `${length / 2 ** 20} MiB`
  const note = `${pc.length} pc32, ${pointers.length} abs64`
  const large = length >= 1 << 24
  const againstC: Result = {
    work: `apply a known table, 18 pc32 + 18 abs64 a KiB, against C: ${size}`,
    unit: 'x',
    value: medians.C / medians.relocate,
    floor: large ? '0.6x' : '0.3x',
    aim: large ? '0.8x' : '0.5x',
    medians,
    note: inC === undefined ? `${note}; no gcc or koffi here` : note,
  }
  const againstSet: Result = {
    ...againstC,
    work: `one into move of ${size} against set of the same bytes`,
    value: medians.set / medians.relocate,
    floor: '0.2x',
    aim: '0.33x',
    note,
  }
  return large ? [againstC, againstSet] : [againstC]
}

/** Runs that iced encodes byte for byte as they are but for their fields, and moves: what both sides can do. */
function commonRuns(
  text: Uint8Array,
  runs: Uint32Array,
  places: Uint32Array,
  to: bigint,
  into: Uint8Array,
): number[] {
  const { ends } = copyRuns(text, { base: BASE, runs, into, to, places })
  return [...ends.keys()].filter((i) => {
    const start = runs[2 * i]
    if (ends[i] === start) return false
    try {
      const run = text.subarray(start, ends[i])
      const encoded = encodeWithIced(run, BASE + BigInt(start), to + BigInt(places[i]))
      return Buffer.compare(encoded, into.subarray(places[i], places[i] + run.length)) === 0
    } catch {
      return false
    }
  })
}

function benchRuns(
  text: Uint8Array,
  all: Uint32Array,
  settings: Settings,
): { medians: Record<string, number>; note: string; count: number } {
  const to = BASE + 0x10_0000n
  const room = (start: number, end: number): number => end - start + 16
  const placesOf = (runs: Uint32Array): Uint32Array => {
    let next = 0
    return Uint32Array.from({ length: runs.length / 2 }, (_, i) => {
      const place = next
      next += room(runs[2 * i], runs[2 * i + 1])
      return place
    })
  }
  const size = all.reduce((sum, at, i) => (i % 2 === 0 ? sum : sum + room(all[i - 1], at)), 0)
  const common = commonRuns(text, all, placesOf(all), to, new Uint8Array(size))
  const starts = Uint32Array.from(common.flatMap((i) => [all[2 * i], all[2 * i + 1]]))
  const places = placesOf(starts)
  const [ours, theirs] = [new Uint8Array(size), new Uint8Array(size)]
  const { ends } = copyRuns(text, { base: BASE, runs: starts, into: ours, to, places })
  const runs = starts.map((at, i) => (i % 2 === 0 ? at : ends[i >> 1]))
  const slices = common.map((_, i) => text.subarray(runs[2 * i], runs[2 * i + 1]))
  const right = checksum(ours)
  let isChecked = false
  const medians = race(
    [
      {
        name: 'copyRuns',
        agrees: 'runs',
        run() {
          const { refused } = copyRuns(text, { base: BASE, runs: starts, into: ours, to, places })
          if (!isChecked && checksum(ours) !== right) return 'wrong'
          isChecked = true
          return `${common.length - refused} ${right}`
        },
      },
      {
        name: 'iced WASM BlockEncoder',
        agrees: 'runs',
        run() {
          slices.forEach((slice, i) => {
            const from = BASE + BigInt(runs[2 * i])
            theirs.set(encodeWithIced(slice, from, to + BigInt(places[i])), places[i])
          })
          return `${common.length} ${checksum(theirs)}`
        },
      },
    ],
    settings,
  )
  const bytes = slices.reduce((sum, slice) => sum + slice.length, 0)
  const note = `${common.length} runs of ${(bytes / common.length).toFixed(0)} bytes, of ${all.length / 2}: the others iced refuses or encodes anew`
  return { medians, note, count: common.length }
}

export function benchFunctions(text: Uint8Array, settings: Settings): Result[] {
  const functions = functionsOf(text)
  const prologues = functions.map((at, i) => (i % 2 === 0 ? at : Math.min(at, functions[i - 1] + 5)))
  const whole = benchRuns(text, functions, settings)
  const short = benchRuns(text, prologues, settings)
  const ratio = ({ medians }: { medians: Record<string, number> }): number =>
    medians['iced WASM BlockEncoder'] / medians.copyRuns
  return [
    {
      work: 'function by function, same size, against iced WASM BlockEncoder',
      unit: 'x',
      value: ratio(whole),
      floor: '25x',
      aim: '50x',
      medians: whole.medians,
      note: whole.note,
    },
    {
      work: '5-byte prologues moved per second, against iced WASM BlockEncoder',
      unit: 'x',
      value: ratio(short),
      floor: '20x',
      aim: '100x',
      medians: short.medians,
      note: `${short.note}; ${(short.count / short.medians.copyRuns / 1e3).toFixed(1)} million a second`,
    },
  ]
}
