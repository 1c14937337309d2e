/** The linear reading of a blob: where instructions start if one follows another, and what is notable of them. */
import type { ProgressOptions } from '../core/progress.ts'
import { findNotable, type Notable, type NotableOptions } from '../x86/notable.ts'
import { sweepForLooks } from '../x86/sweep.ts'
import type { MapInput } from './code-map.ts'

export interface Swept {
  /** Ascending. */
  readonly starts: Uint32Array
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
export function nothingSwept(input: MapInput): Swept {
  const starts = new Uint32Array(0)
  return { starts, notable: findNotable(input.code, starts, notableOptions(input)), rejected: [] }
}

/** The linear reading of everything that the hints allow to be code. */
export function sweepCode(input: MapInput, options: ProgressOptions): Swept {
  const { code, hints, cpu } = input
  const rejected: number[] = []
  const starts: Uint32Array[] = []
  const looks: Uint32Array[] = []
  let from = 0
  const data = hints.ranges.filter((range) => range.kind === 'data')
  for (const { start, end } of [...data, { start: code.length, end: code.length }]) {
    if (start > from) {
      const part = sweepForLooks(code, {
        start: from,
        end: start,
        cpu,
        decoder: input.kind,
        rejected,
        onProgress: options.onProgress,
        signal: options.signal,
      })
      starts.push(part.starts)
      looks.push(part.looks)
    }
    from = end
  }
  return {
    starts: concat(starts),
    notable: findNotable(code, concat(looks), notableOptions(input)),
    rejected,
  }
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

/** Two ascending lists as one, each offset once. */
export function mergeAscending(a: Uint32Array, b: Uint32Array): Uint32Array {
  const merged = new Uint32Array(a.length + b.length)
  let count = 0
  for (let i = 0, k = 0; i < a.length || k < b.length; ) {
    const next = k >= b.length || (i < a.length && a[i] <= b[k]) ? a[i++] : b[k++]
    if (count === 0 || merged[count - 1] !== next) merged[count++] = next
  }
  return merged.subarray(0, count)
}
