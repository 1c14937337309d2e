/** The linear reading of a blob: where instructions start if one follows another, where they point, and which of them can hold sites. */
import type { ProgressOptions } from '../core/progress.ts'
import { Flow, Instruction, Memory } from '../x86/instruction.ts'
import { findNotable } from '../x86/notable.ts'
import { sweep } from '../x86/sweep.ts'
import type { MapInput } from './code-map.ts'
import { findReferences, type References } from './references.ts'
import { WatchedRegisters } from './watched.ts'

export interface Swept {
  readonly starts: Uint32Array
  readonly references: References
  readonly rejected: readonly number[]
}

/** The reading of nothing. */
export const EMPTY: Swept = {
  starts: new Uint32Array(0),
  references: findReferences(new Uint8Array(0), 0, new Uint32Array(0), new Uint32Array(0)),
  rejected: [],
}

/** The linear reading of everything that the hints allow to be code. */
export function sweepCode(input: MapInput, options: ProgressOptions): Swept {
  const { code, hints, cpu, span } = input
  const rejected: number[] = []
  const starts: Uint32Array[] = []
  const sites: Uint32Array[] = []
  let from = 0
  const data = hints.ranges.filter((range) => range.kind === 'data')
  for (const { start, end } of [...data, { start: code.length, end: code.length }]) {
    if (start > from) {
      const part = sweep(code, {
        start: from,
        end: start,
        cpu,
        decoder: input.kind,
        rejected,
        onProgress: options.onProgress,
        signal: options.signal,
      })
      starts.push(part.starts)
      sites.push(part.sites)
    }
    from = end
  }
  const all = concat(starts)
  return { starts: all, references: findReferences(code, span, all, concat(sites)), rejected }
}

/** Lists behind one another. */
export function concat(parts: readonly Uint32Array[]): Uint32Array {
  if (parts.length === 1) return parts[0]
  const whole = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** Which instructions there is something to do about: offsets, ascending. */
export interface ToDo {
  /** Can hold sites: they point outside, hold constants near the covered ranges, are odd, or were read with care. */
  readonly operands: Uint32Array
  /** Divert the flow or take an address: they end blocks. */
  readonly ends: Uint32Array
  /** May put an address together. */
  readonly watched: Uint32Array
}

/** What there is to do about the instructions at `starts`; `careful` are those in zones. */
export function toDo(
  input: MapInput,
  swept: Swept,
  starts: Uint32Array,
  careful: readonly number[],
  inZone: (offset: number) => boolean,
): ToDo {
  const { code, cpu, window } = input
  if (input.kind === 'iced') return { operands: starts, ends: endsOf(input, starts), watched: starts }
  const watch = new WatchedRegisters(code)
  const found = findNotable(code, starts, { cpu, window: window.neighbourhood(), watch })
  const { outsideSources, odd } = swept.references
  const solid = (list: Uint32Array): Uint32Array => list.filter((start) => !inZone(start))
  const operands = mergeAscending(
    mergeAscending(found.constants, Uint32Array.from(careful)),
    mergeAscending(solid(outsideSources), solid(Uint32Array.from(odd))),
  )
  return { operands, ends: found.ends, watched: found.watched }
}

/** The same ends, by any decoder. */
function endsOf({ decoder }: MapInput, starts: Uint32Array): Uint32Array {
  const instruction = new Instruction()
  return starts.filter((start) => {
    decoder.decode(start, instruction)
    return instruction.flow !== Flow.next || instruction.memory >= Memory.rip
  })
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
