/**
 * Which bytes are instructions.
 *
 * A linear reading comes first: compiled code reads well from its first byte to its last. Where it does not
 * (zones.ts), every offset is weighed as code and as data (segment.ts), twice: the first time by the hints
 * and the statistics of instruction forms alone; from what that takes for code come the places that branches
 * reach, that memory operands read, and where outside targets cluster, and with those as evidence the second
 * reading decides. A short blob is one zone.
 */

import { viewOf } from '../core/bytes.ts'
import { type ProgressOptions, reportProgress } from '../core/progress.ts'
import { lowerBound } from '../core/search.ts'
import { fastTablesFor } from '../x86/fast.ts'
import type { Cpu, DecoderKind, InstructionDecoder } from '../x86/instruction.ts'
import { Flow, Instruction } from '../x86/instruction.ts'
import type { Notable } from '../x86/notable.ts'
import { createLayoutDecoder } from '../x86/scanner.ts'
import type { StartBits } from '../x86/start-bits.ts'
import { relativeTarget } from '../x86/target.ts'
import { Form, FormReader, Forms, flowOf } from './forms.ts'
import { isSelfLabelAt } from './got.ts'
import type { CheckedHints } from './hints.ts'
import { alignZones, joinReadings, zoneTest } from './join-readings.ts'
import { findJumpTables, isIndirectJump, type JumpTable } from './jump-tables.ts'
import { nothingSwept, type Swept, sweepCode } from './linear.ts'
import { Mark } from './marks.ts'
import { OutsideTargets } from './outside.ts'
import { followOverlaps, placeOverlaps } from './overlap.ts'
import { passRejected, type Rejected } from './rejected.ts'
import { isConfirmed, type SegmentContext, segment, UNKNOWN_OUTSIDE } from './segment.ts'
import { dropStrange, ISLAND, withoutSpecks } from './strange.ts'
import type { Window } from './window.ts'
import { findZones } from './zones.ts'

export interface CodeMap {
  /** Pairs of offsets, ascending: each run decodes linearly from its start to exactly its end. */
  readonly runs: Uint32Array
  /** Pairs of offsets of what is not code. */
  readonly data: Uint32Array
  /** Where each instruction starts. */
  readonly bits: StartBits
  readonly notable: Notable
  /** Where instructions start that share bytes with those: branches lead into their middle. */
  readonly shared: readonly number[]
  /** What given code runs into, and is no instruction. */
  readonly rejected: readonly Rejected[]
  /** Number of instructions that look like large-model position-independent code taking its own address. */
  readonly selfLabels: number
  readonly outside: OutsideTargets
  /** Ascending. */
  readonly tables: readonly JumpTable[]
  /** Bits of `Mark` for each offset. */
  readonly marks: Uint8Array
  /** What was read with all care, not in a line: pairs of offsets, ascending. */
  readonly zones: readonly number[]
}

export interface MapInput {
  readonly code: Uint8Array
  /** Bytes of the moved range. */
  readonly span: number
  /** Low bits of the base. */
  readonly alignment: number
  readonly hints: CheckedHints
  readonly decoder: InstructionDecoder
  readonly window: Window
  readonly cpu: Cpu | undefined
  /** Which decoder reads. */
  readonly kind: DecoderKind | undefined
}

const GIVEN_CODE = { form: -24, least: -(1 << 20), leave: 200, leaveForced: 200, skip: 0, enter: 48 }
const SHORT_CODE = { form: 0, least: 4, leave: 200, leaveForced: 16, skip: 160, enter: 16 }

/** Blobs up to this many bytes are code unless something says otherwise, and read with all care everywhere. */
const SHORT = 512

/** Maps a blob. */
export function mapCode(input: MapInput, options: ProgressOptions): CodeMap {
  const { code } = input
  const { length } = code
  const marks = markHints(input)
  const reader = formReader(input)
  const swept = length > SHORT ? sweepCode(input, reader, options) : nothingSwept(input)
  reportProgress(options, length >> 1, length, 'code map')
  const { bits } = swept
  const linear = new OutsideTargets(swept.notable.outside.distances)
  const found =
    length > SHORT ? findZones({ ...swept, code, entries: input.hints.entries, cpu: input.cpu }, linear) : []
  const zones = length > SHORT ? alignZones(found, bits, length) : [0, length]
  const { ends } = swept.notable
  const solid = solidRows(ends.starts, zones)
  for (let i = 0; i < solid.length; i += 2)
    markReferences(ends.kinds, ends.targets, solid[i], solid[i + 1], marks)
  for (let i = 0; i < zones.length; i += 2) bits.clear(zones[i], zones[i + 1])
  const context = contextOf(input, marks)
  const forms = new Forms(reader, zones)
  const first = readZones(context, forms, zones, input.alignment)
  const inside = forms.startsOf(first)
  bits.add(inside)
  const outside: number[] = []
  let selfLabels = countSelfLabels(input, swept.notable)
  const likely = withoutSpecks({ ...input, marks, goesOnTo: new Set(zones) }, first)
  selfLabels += collect(input, forms, forms.startsOf(likely), marks, outside)
  selfLabels += collect(input, forms, forms.startsOf(runsWithout(first, likely)), marks)
  followOverlaps({ ...context, forms, bits }, certain(first, inside, marks))
  const targets = clusters(swept, zones, outside, linear)
  const jumps = indirectJumps(input, swept, zones, inside, forms)
  const tables = findJumpTables({ ...input, bits, marks, outside: targets }, jumps)
  const doubtful = withTables(zones, tables, bits, length)
  const again = doubtful === zones ? forms : new Forms(reader, doubtful)
  const learnt = { ...context, earlier: bits, outside: targets }
  const before = doubtful === zones ? { context, runs: first } : undefined
  const read = readZones(learnt, again, doubtful, input.alignment, before)
  collect(input, again, again.startsOf(read), marks)
  // In a few hundred bytes nothing clusters, so nothing is strange.
  const second =
    length <= SHORT
      ? read
      : dropStrange({ ...input, forms: again, marks, goesOnTo: new Set(doubtful), outside: targets }, read)
  const layouts = createLayoutDecoder(code, { cpu: input.cpu })
  const { runs: passed, rejected } = passRejected({ ...input, layouts, marks, zones: doubtful }, second)
  const { runs, shared } = withOverlaps(context, again, doubtful, passed, bits)
  const joined = joinReadings(input, marks, swept, doubtful, runs, again)
  return { ...joined, shared, rejected, selfLabels, outside: targets, tables, marks, zones: doubtful }
}

/** Where iced decodes it tells the forms too. */
const formReader = ({ code, decoder, window, cpu, kind }: MapInput): FormReader =>
  new FormReader({
    view: viewOf(code),
    decoder,
    window,
    fast: kind === 'iced' ? undefined : fastTablesFor(cpu ?? 'intel'),
  })

/** Where outside targets cluster: of the linear reading around the zones, and of likely code in them. */
function clusters(
  { notable }: Swept,
  zones: readonly number[],
  inZones: readonly number[],
  linear: OutsideTargets,
): OutsideTargets {
  const { starts, distances, count } = notable.outside
  const rows = solidRows(starts, zones)
  let sum = inZones.length
  for (let i = 0; i < rows.length; i += 2) sum += rows[i + 1] - rows[i]
  // A few targets more or less do not change where they cluster.
  if (Math.abs(sum - count) * 100 < count) return linear
  const all = new Float64Array(sum)
  all.set(inZones)
  let at = inZones.length
  for (let i = 0; i < rows.length; i += 2) {
    all.set(distances.subarray(rows[i], rows[i + 1]), at)
    at += rows[i + 1] - rows[i]
  }
  return new OutsideTargets(all)
}

/** The rows in no zone of what starts at `starts`, ascending: pairs of indices. */
function solidRows(starts: Uint32Array, zones: readonly number[]): number[] {
  const rows: number[] = [0]
  for (const bound of zones) rows.push(lowerBound(starts, bound))
  rows.push(starts.length)
  return rows
}

/** The indirect jumps of the linear reading around the zones, then those of the first reading in them. */
function indirectJumps(
  { code }: MapInput,
  { notable: { jumps } }: Swept,
  zones: readonly number[],
  inside: Uint32Array,
  forms: Forms,
): number[] {
  const found: number[] = []
  const rows = solidRows(jumps.starts, zones)
  for (let i = 0; i < rows.length; i += 2)
    for (const start of jumps.starts.subarray(rows[i], rows[i + 1]))
      if (isIndirectJump(code, start)) found.push(start)
  for (const at of inside)
    if (flowOf(forms.at(at)) === Flow.indirectJump && isIndirectJump(code, at)) found.push(at)
  return found
}

/** The runs of `all` that are not in `some`, which are of them. */
function runsWithout(all: readonly number[], some: readonly number[]): number[] {
  const rest: number[] = []
  for (let i = 0, k = 0; i < all.length; i += 2) {
    if (some[k] === all[i]) k += 2
    else rest.push(all[i], all[i + 1])
  }
  return rest
}

/** The runs of the zones, and what their branches reach in the middle of them. */
function withOverlaps(
  context: SegmentContext,
  forms: Forms,
  zones: readonly number[],
  runs: readonly number[],
  bits: StartBits,
): { readonly runs: readonly number[]; readonly shared: readonly number[] } {
  for (let i = 0; i < zones.length; i += 2) bits.clear(zones[i], zones[i + 1])
  const starts = forms.startsOf(runs)
  bits.add(starts)
  const sources = certain(runs, starts, context.marks)
  return placeOverlaps(followOverlaps({ ...context, forms, bits }, sources), runs, context.decoder)
}

/** Of the starts of `runs` those that are code by hint, or by the length of their run. */
function certain(runs: readonly number[], starts: Uint32Array, marks: Uint8Array): Uint32Array {
  const found = new Uint32Array(starts.length)
  let count = 0
  for (let run = 0, i = 0; run < runs.length; run += 2) {
    const end = runs[run + 1]
    const isLong = end - runs[run] > ISLAND
    for (; i < starts.length && starts[i] < end; i++)
      if (isLong || (marks[starts[i]] & Mark.given) !== 0) found[count++] = starts[i]
  }
  return found.subarray(0, count)
}

/** The zones, and the tables beside them that the linear reading took for code. */
function withTables(
  zones: readonly number[],
  tables: readonly JumpTable[],
  bits: StartBits,
  length: number,
): readonly number[] {
  const inZone = zoneTest(zones)
  const hidden = tables.filter(({ start, end }) => {
    for (let at = start; at < end; at++) if (!inZone(at) && bits.has(at)) return true
    return false
  })
  if (hidden.length === 0) return zones
  const all = Array.from({ length: zones.length / 2 }, (_, i) => [zones[2 * i], zones[2 * i + 1]])
  for (const { start, end } of hidden) {
    const wider = alignZones([start, end], bits, length)
    bits.clear(wider[0], wider[1])
    all.push(wider)
  }
  const merged: number[] = []
  for (const [start, end] of all.sort((a, b) => a[0] - b[0])) {
    const last = merged.length - 1
    if (last >= 0 && start <= merged[last]) merged[last] = Math.max(merged[last], end)
    else merged.push(start, end)
  }
  return merged
}

/** What the hints say of each offset. */
function markHints({ code, hints }: MapInput): Uint8Array {
  // Written once before it is read: untouched memory that is read first is mapped twice.
  const marks = new Uint8Array(code.length).fill(0)
  for (const { start, end, kind } of hints.ranges)
    marks.fill(kind === 'data' ? Mark.forbidden : Mark.given, start, end)
  // A code range begins with code.
  for (const { start, kind } of hints.ranges) if (kind === 'code') marks[start] |= Mark.target
  // Who hands over a few hundred bytes hands over code.
  if (code.length <= SHORT && !hints.ranged) marks.fill(Mark.given)
  for (const entry of hints.entries) if (entry < code.length) marks[entry] |= Mark.entry
  return marks
}

function contextOf({ code, decoder, span, window }: MapInput, marks: Uint8Array): SegmentContext {
  return {
    code,
    view: viewOf(code),
    decoder,
    marks,
    span,
    outside: UNKNOWN_OUTSIDE,
    window,
    earlier: undefined,
    given: code.length <= SHORT ? SHORT_CODE : GIVEN_CODE,
  }
}

/** By bits of `Ends.rip` and `Ends.lea`: the mark of what is referred to so. */
const REFERENCE_MARKS = Uint8Array.of(Mark.target, Mark.data, 0, 0)

/**
 * Marks what rows [from, to) refer to; without a branch in the loop, so that its cache misses overlap. With
 * nothing to look up before it: code that is compiled in the first call has not seen that a second time, and
 * would be thrown away in the next.
 */
function markReferences(
  kinds: Uint8Array,
  targets: Int32Array,
  from: number,
  to: number,
  marks: Uint8Array,
): void {
  for (let i = from; i < to; i++) {
    const target = targets[i]
    // All ones but for the target -1.
    const isInside = ~(target >> 31)
    marks[target & isInside] |= REFERENCE_MARKS[(kinds[i] >> 4) & 3] & isInside
  }
}

/** The number of instructions of the linear reading that take the address of the code they are in, before a movabs. */
function countSelfLabels({ code, decoder }: MapInput, { own }: Notable): number {
  const instruction = new Instruction()
  const view = viewOf(code)
  return own.starts.filter((start) => {
    const next = start + decoder.decode(start, instruction)
    return isSelfLabelAt(code, start, next, relativeTarget(view, instruction)!)
  }).length
}

/** Reads the zones; not again those that `before` has read as code from end to end, and that nothing speaks against. */
function readZones(
  context: SegmentContext,
  forms: Forms,
  zones: readonly number[],
  alignment: number,
  before?: { readonly context: SegmentContext; readonly runs: readonly number[] },
): number[] {
  const runs: number[] = []
  let run = 0
  for (let i = 0; i < zones.length; i += 2) {
    const [start, end] = [zones[i], zones[i + 1]]
    if (before !== undefined) {
      while (before.runs[run] < start) run += 2
      const isCode = before.runs[run] === start && before.runs[run + 1] === end
      if (isCode && isConfirmed(context, before.context, forms.zone(i / 2), start, alignment)) {
        runs.push(start, end)
        continue
      }
    }
    const edges = { before: start > 0, behind: end < context.code.length }
    for (const offset of segment(context, forms.zone(i / 2), start, alignment, edges)) runs.push(offset)
  }
  return runs
}

/**
 * Marks what the instructions at `starts` point at inside the blob, and lists what they point at outside.
 * Returns the number of self labels.
 */
function collect(
  { code, span }: MapInput,
  forms: Forms,
  starts: Uint32Array,
  marks: Uint8Array,
  outside?: number[],
): number {
  let selfLabels = 0
  for (let i = 0; i < starts.length; i++) {
    const at = starts[i]
    const form = forms.at(at)
    const target = forms.target(at, form)
    if (target === undefined) continue
    const next = at + (form & Form.lengthMask)
    if (target < 0 || target > span) outside?.push(target)
    else if (target < code.length) {
      // `call $+5` says nothing of what it is followed by.
      if ((form & Form.rip) === 0) marks[target] |= target === next ? 0 : Mark.target
      else if ((form & Form.lea) === 0) marks[target] |= Mark.data
      else if (isSelfLabelAt(code, at, next, target)) selfLabels++
    }
  }
  return selfLabels
}
