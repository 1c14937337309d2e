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
          // The checksum takes longer than the sweep: that the sites are those of the first sweep is asked by
          // their ends.
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

/** Parts that the largest text is cut into. */
const PARTS = 16

/**
 * Time of a whole text over that of its parts, one after the other: the same code, so that nothing but its
 * size differs. What parts of other sizes take is told beside it.
 */
export function benchLinear(text: Uint8Array, settings: Settings): Result {
  const whole = text.subarray(0, Math.min(text.length, settings.short ? 1 << 19 : 1 << 24))
  const size = Math.floor(whole.length / PARTS)
  const parts = Array.from({ length: PARTS }, (_, i) => whole.subarray(i * size, (i + 1) * size))
  const inParts: Contestant = {
    name: `${PARTS} parts`,
    run: () => checksum(Uint32Array.from(parts, (part) => analyze(part, { base: BASE }).size)),
  }
  const firsts = [1, 2, 4, 8].map((count) =>
    analyzer(`the first ${count * size} bytes`, whole.subarray(0, count * size)),
  )
  const medians = race([analyzer('whole', whole), inParts, ...firsts], {
    ...settings,
    rounds: Math.min(settings.rounds, 7),
  })
  return {
    work: `analyze ${whole.length} bytes, against ${PARTS} parts of ${size} bytes`,
    unit: 'x',
    value: medians.whole / medians[inParts.name],
    floor: '0.8-1.2x',
    aim: '',
    medians,
    note: '',
  }
}
