/** The linear reading of a blob: where instructions start if one follows another, and what is notable of them. */
import type { ProgressOptions } from '../core/progress.ts'
import { findNotable, type Notable, type NotableOptions } from '../x86/notable.ts'
import { StartBits } from '../x86/start-bits.ts'
import { sweepForLooks } from '../x86/sweep.ts'
import type { MapInput } from './code-map.ts'

export interface Swept {
  readonly bits: StartBits
  readonly notable: Notable
  /** Offsets where nothing decodes. */
  readonly rejected: readonly number[]
}

/** What to note of the instructions of `input`. */
export const notableOptions = ({ cpu, decoder, kind, span, window }: MapInput): NotableOptions => ({
  cpu,
  span,
  window: window.neighbourhood(),
  decoder: kind === 'iced' ? decoder : undefined,
})

/** The reading of nothing. */
export const nothingSwept = (input: MapInput): Swept => ({
  bits: new StartBits(input.code.length),
  notable: findNotable(input.code, new Uint32Array(0), notableOptions(input)),
  rejected: [],
})

/** The linear reading of everything that the hints allow to be code. */
export function sweepCode(input: MapInput, options: ProgressOptions): Swept {
  const { code, hints, cpu, kind } = input
  const { onProgress, signal } = options
  const bits = new StartBits(code.length)
  const rejected: number[] = []
  const looks: Uint32Array[] = []
  let start = 0
  const data = hints.ranges.filter((range) => range.kind === 'data')
  for (const range of [...data, { start: code.length, end: code.length }]) {
    const { start: end } = range
    if (end > start)
      looks.push(sweepForLooks(code, bits, { start, end, cpu, decoder: kind, rejected, onProgress, signal }))
    start = range.end
  }
  return { bits, notable: findNotable(code, concat(looks), notableOptions(input)), rejected }
}

/** Lists behind one another. */
function concat(parts: readonly Uint32Array[]): Uint32Array {
  if (parts.length === 1) return parts[0]
  const whole = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
