/** The linear reading of a blob: where instructions start if one follows another, and what is notable of them. */
import type { ProgressOptions } from '../core/progress.ts'
import { findNotable, type Notable, NotableFinder, type NotableOptions } from '../x86/notable.ts'
import { StartBits } from '../x86/start-bits.ts'
import { sweepForLooks } from '../x86/sweep.ts'
import type { LookTaker } from '../x86/sweep-takers.ts'
import type { MapInput } from './code-map.ts'
import { FormSampler } from './form-sampler.ts'
import type { FormReader } from './forms.ts'
import { LABEL_WINDOW } from './watched.ts'

export interface Swept {
  readonly bits: StartBits
  readonly notable: Notable
  /** By block: whether its first instructions are not of the forms that code has. */
  readonly strange: Uint8Array
  /** Offsets where nothing decodes. */
  readonly rejected: readonly number[]
}

/** What to note of the instructions of `input`. */
export const notableOptions = ({ cpu, decoder, kind, span, window }: MapInput): NotableOptions => ({
  cpu,
  span,
  window: window.neighbourhood,
  decoder: kind === 'iced' ? decoder : undefined,
})

/** The reading of nothing. */
export const nothingSwept = (input: MapInput): Swept => ({
  bits: new StartBits(input.code.length),
  notable: findNotable(input.code, new Uint32Array(0), notableOptions(input)),
  strange: new Uint8Array(0),
  rejected: [],
})

/** A class: methods of an object that each reading makes anew are new functions, for which V8 throws its code away. */
class LinearTaker implements LookTaker {
  readonly #finder: NotableFinder
  readonly #sampler: FormSampler

  constructor(finder: NotableFinder, sampler: FormSampler) {
    this.#finder = finder
    this.#sampler = sampler
  }

  take(looks: Uint32Array, upTo: number): void {
    this.#finder.take(looks)
    this.#sampler.advance(upTo)
  }
}

/** The linear reading of everything that the hints allow to be code. */
export function sweepCode(input: MapInput, reader: FormReader, options: ProgressOptions): Swept {
  const { code, hints, cpu, kind } = input
  const { onProgress, signal } = options
  const { length } = code
  const bits = new StartBits(length)
  const finder = new NotableFinder(code, length, { ...notableOptions(input), labelReach: LABEL_WINDOW })
  const sampler = new FormSampler(reader, bits)
  const taker = new LinearTaker(finder, sampler)
  const rejected: number[] = []
  let start = 0
  const data = hints.ranges.filter((range) => range.kind === 'data')
  for (const range of [...data, { start: length, end: length }]) {
    const { start: end } = range
    if (end > start)
      sweepForLooks(code, bits, taker, { start, end, cpu, decoder: kind, rejected, onProgress, signal })
    start = range.end
  }
  return { bits, notable: finder.finish(), strange: sampler.finish(), rejected }
}
