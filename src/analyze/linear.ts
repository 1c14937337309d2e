/** The linear reading of a blob: where instructions start if one follows another, where they point, and which of them can hold sites. */
import type { ProgressOptions } from '../core/progress.ts'
import { findNotable } from '../x86/notable.ts'
import { sweep } from '../x86/sweep.ts'
import type { MapInput } from './code-map.ts'
import { findReferences, type References } from './references.ts'

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

/** What an instruction's first byte says of 8-byte constants: nothing; REX, so the opcode follows; a moffs opcode, or a rarer prefix to look behind. */
const WIDE_FIRST = new Uint8Array(256)
for (let rex = 0x40; rex < 0x50; rex++) WIDE_FIRST[rex] = 1
for (const byte of [0xa0, 0xa1, 0xa2, 0xa3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67]) WIDE_FIRST[byte] = 2

/** Starts of what can hold an 8-byte constant. */
function findWide(code: Uint8Array, starts: Uint32Array): number[] {
  const found: number[] = []
  for (let i = 0; i < starts.length; i++) {
    const start = starts[i] | 0
    const first = WIDE_FIRST[code[start]]
    if (first === 0) continue
    if (first === 1) {
      const opcode = code[start + 1]
      // movabs is B8+ with REX.W; of moffs every form.
      const movabs = (code[start] & 8) !== 0 && (opcode & 0xf8) === 0xb8
      if (!movabs && (opcode & 0xfc) !== 0xa0) continue
    }
    found.push(start)
  }
  return found
}

/** What the sites are looked for in: instructions that point outside, that hold constants near the covered ranges, odd ones, and all that were read with care. */
export function notableOf(
  input: MapInput,
  swept: Swept,
  starts: Uint32Array,
  careful: readonly number[],
  inZone: (offset: number) => boolean,
): Uint32Array {
  const { outsideSources, odd } = swept.references
  const window = input.window.neighbourhood()
  let constants: ArrayLike<number> = starts
  if (input.kind !== 'iced')
    constants = input.window.isHigh
      ? findWide(input.code, starts)
      : findNotable(input.code, starts, { cpu: input.cpu, window })
  const solid = (list: readonly number[]): number[] => list.filter((start) => !inZone(start))
  return mergeAscending(
    solid(outsideSources),
    Uint32Array.from([...solid(odd), ...careful, ...Array.from(constants)]).sort(),
  )
}

/** Two ascending lists as one, each offset once. */
export function mergeAscending(a: ArrayLike<number>, b: ArrayLike<number>): Uint32Array {
  const merged = new Uint32Array(a.length + b.length)
  let count = 0
  for (let i = 0, k = 0; i < a.length || k < b.length; ) {
    const next = k >= b.length || (i < a.length && a[i] <= b[k]) ? a[i++] : b[k++]
    if (count === 0 || merged[count - 1] !== next) merged[count++] = next
  }
  return merged.subarray(0, count)
}
