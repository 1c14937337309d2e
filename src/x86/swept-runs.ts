/**
 * Where the instructions of code runs start, and their relative fields: all runs in one sweep, as far as that
 * reads them as they are to be read.
 */
import { lowerBound } from '../core/search.ts'
import { Instruction, type InstructionDecoder } from './instruction.ts'
import { createTableDecoder } from './scanner.ts'
import { type SweepResult, sweep } from './sweep.ts'

/** A run as far as it decodes: it ends where its bytes are no instruction. */
export interface SweptRun extends Pick<SweepResult, 'starts' | 'sites'> {
  readonly end: number
}

/** Runs closer than this to one another, on average, are swept together. */
const GAP = 64

export class SweptRuns {
  readonly #code: Uint8Array
  readonly #decoder: InstructionDecoder
  /** All from the first run to the last, and the offsets that began no instruction, ascending. */
  readonly #all: SweptRun | undefined
  readonly #rejected: Uint32Array = new Uint32Array(0)
  /** Where the run before began: its offset, and what of `#all` was the first of it. */
  #readTo = 0
  #start = 0
  #site = 0

  /** `runs`: pairs of offsets, ascending by start. */
  constructor(code: Uint8Array, runs: Uint32Array) {
    this.#code = code
    this.#decoder = createTableDecoder(code)
    const [start, end] = [runs[0], runs[runs.length - 1]]
    let gaps = 0
    for (let i = 2; i < runs.length; i += 2) gaps += Math.max(0, runs[i] - runs[i - 1])
    if (runs.length < 4 || gaps > GAP * runs.length) return
    const rejected: number[] = []
    this.#all = { ...sweep(code, { start, end, rejected }), end }
    this.#rejected = new Uint32Array(rejected).sort()
  }

  /** The run [start, end), one of those that were given; fastest in their order. */
  run(start: number, end: number): SweptRun {
    const all = this.#all
    if (all === undefined || this.#rejected[lowerBound(this.#rejected, start)] < end)
      return this.#alone(start, end)
    const { starts, sites } = all
    if (start < this.#readTo) this.#start = this.#site = 0
    this.#readTo = start
    const [first, site] = [seek(starts, this.#start, start), seek(sites, this.#site, start)]
    const [last, siteEnd] = [seek(starts, first, end), seek(sites, site, end)]
    const endsThere = end === all.end || starts[last] === end
    if (starts[first] !== start || !endsThere) return this.#alone(start, end)
    this.#start = first
    this.#site = site
    return { starts: starts.subarray(first, last), sites: sites.subarray(site, siteEnd), end }
  }

  /** Decodes one instruction. */
  decode(offset: number, into: Instruction): number {
    return this.#decoder.decode(offset, into)
  }

  #alone(start: number, end: number): SweptRun {
    const rejected: number[] = []
    const { starts, sites } = sweep(this.#code, { start, end, rejected })
    if (rejected.length === 0) return { starts, sites, end }
    const stop = this.#firstRejected(starts, rejected) ?? end
    return {
      starts: starts.subarray(0, lowerBound(starts, stop)),
      sites: sites.subarray(0, lowerBound(sites, stop)),
      end: stop,
    }
  }

  /** Of the offsets that may begin no instruction the first that lies inside of none. */
  #firstRejected(starts: Uint32Array, rejected: readonly number[]): number | undefined {
    const instruction = new Instruction()
    return [...rejected]
      .sort((a, b) => a - b)
      .find((at) => {
        const n = lowerBound(starts, at + 1)
        return n === 0 || starts[n - 1] + this.decode(starts[n - 1], instruction) <= at
      })
  }
}

/** Index of the first of the ascending `values` from `at` on that is not below `least`. */
function seek(values: Uint32Array, at: number, least: number): number {
  let [low, step] = [at, 1]
  while (low + step < values.length && values[low + step] < least) {
    low += step
    step *= 2
  }
  let high = Math.min(values.length, low + step)
  while (low < high) {
    const middle = (low + high) >> 1
    if (values[middle] < least) low = middle + 1
    else high = middle
  }
  return low
}
