/** Two readings of a blob as one: the linear one around the zones of doubt, the careful one in them. */
import { lowerBound } from '../core/search.ts'
import { findNotable, type Notable } from '../x86/notable.ts'
import type { StartBits } from '../x86/start-bits.ts'
import type { CodeMap, MapInput } from './code-map.ts'
import type { Forms } from './forms.ts'
import type { CheckedHints } from './hints.ts'
import { notableOptions, type Swept } from './linear.ts'
import { Mark } from './marks.ts'
import { LABEL_WINDOW } from './watched.ts'

/** Zones whose ends are starts of the linear reading, so that what lies around them can be kept. */
export function alignZones(zones: readonly number[], bits: StartBits, length: number): number[] {
  const aligned: number[] = []
  for (let i = 0; i < zones.length; i += 2) {
    let start = zones[i]
    while (start > 0 && !bits.has(start)) start--
    let end = zones[i + 1]
    while (end < length && !bits.has(end)) end++
    if (aligned.length > 0 && start <= aligned[aligned.length - 1]) aligned[aligned.length - 1] = end
    else aligned.push(start, end)
  }
  return aligned
}

/** Whether an offset lies in a zone, asked in ascending or any order. */
export function zoneTest(zones: readonly number[]): (offset: number) => boolean {
  let last = 0
  return (offset) => {
    while (last > 0 && offset < zones[last]) last -= 2
    while (last + 2 < zones.length && offset >= zones[last + 2]) last += 2
    return zones.length > 0 && offset >= zones[last] && offset < zones[last + 1]
  }
}

/** Joins the linear reading around the zones with the careful one in them; the bits become those of both. */
export function joinReadings(
  input: MapInput,
  marks: Uint8Array,
  { bits, notable }: Swept,
  zones: readonly number[],
  inside: readonly number[],
  forms: Forms,
): Pick<CodeMap, 'runs' | 'data' | 'bits' | 'notable'> {
  const { code, hints } = input
  const runs: number[] = []
  const addRun = (start: number, end: number): void => {
    if (runs.length > 0 && runs[runs.length - 1] === start) runs[runs.length - 1] = end
    else if (end > start) runs.push(start, end)
  }
  const addSolid = (start: number, end: number): void => {
    const first = bits.next(start)
    if (first < 0 || first >= end) return
    for (const [begin, stop] of splitAtData(hints, first, end, marks)) addRun(begin, stop)
  }
  let from = 0
  let run = 0
  for (let zone = 0; zone < zones.length; zone += 2) {
    addSolid(from, zones[zone])
    for (; run < inside.length && inside[run] < zones[zone + 1]; run += 2)
      addRun(inside[run], inside[run + 1])
    from = zones[zone + 1]
  }
  addSolid(from, code.length)
  const careful = forms.startsOf(inside)
  for (let i = 0; i < zones.length; i += 2) bits.clear(zones[i], zones[i + 1])
  bits.add(careful)
  const found = findNotable(code, careful, notableOptions(input))
  notable.operands.replace(zones, found.operands)
  notable.ends.replace(zones, found.ends)
  notable.jumps.replace(zones, found.jumps)
  notable.outside.replace(zones, found.outside)
  notable.joins.replace(zones, found.joins)
  addUses(input, notable, found.labels.starts, bits)
  notable.ends.markLasts(runs.flatMap((end, i) => ((i & 1) === 0 ? [] : [bits.lastUpTo(end - 1)])))
  const packed = Uint32Array.from(runs)
  return { runs: packed, data: gapsBetween(packed, code.length), bits, notable }
}

/** What may use the labels that the linear reading did not know of. */
function addUses(input: MapInput, { joins, labels }: Notable, careful: Uint32Array, bits: StartBits): void {
  let done = 0
  for (const label of careful) {
    if (labels.starts[lowerBound(labels.starts, label)] === label) continue
    const [from, to] = [Math.max(done, label), Math.min(label + LABEL_WINDOW, input.code.length)]
    const starts: number[] = []
    for (let at = bits.next(from, to); at >= 0 && at < to; at = bits.next(at + 1, to)) starts.push(at)
    joins.replace([from, to], findNotable(input.code, Uint32Array.from(starts), notableOptions(input)).joins)
    done = to
  }
}

/** [start, end) without the ranges that are data by hint. */
function splitAtData(hints: CheckedHints, start: number, end: number, marks: Uint8Array): [number, number][] {
  if (hints.ranges.length === 0) return [[start, end]]
  const pieces: [number, number][] = []
  let from = start
  for (const range of hints.ranges) {
    if (range.kind !== 'data' || range.end <= from || range.start >= end) continue
    if (range.start > from) pieces.push([from, range.start])
    from = range.end
  }
  if (from < end && (marks[from] & Mark.forbidden) === 0) pieces.push([from, end])
  return pieces
}

/** The stretches of [0, length) that no run covers. */
function gapsBetween(runs: Uint32Array, length: number): Uint32Array {
  const gaps: number[] = []
  let at = 0
  for (let i = 0; i < runs.length; i += 2) {
    if (runs[i] > at) gaps.push(at, runs[i])
    at = Math.max(at, runs[i + 1])
  }
  if (at < length) gaps.push(at, length)
  return Uint32Array.from(gaps)
}
