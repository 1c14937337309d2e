/**
 * Which bytes are instructions.
 *
 * A linear reading comes first: compiled code reads well from its first byte to its last. Where it does not (zones.ts), every offset is
 * weighed as code and as data (segment.ts), twice: the first time by the hints and the statistics of instruction forms alone; from what that
 * takes for code come the places that branches reach, that memory operands read, and where outside targets cluster, and with those as evidence the
 * second reading decides. A short blob is one zone.
 */

import { readSigned } from '../core/bytes.ts'
import { type ProgressOptions, reportProgress } from '../core/progress.ts'
import type { Cpu, DecoderKind } from '../x86/instruction.ts'
import { Instruction, type InstructionDecoder, Memory } from '../x86/instruction.ts'
import { createLayoutDecoder } from '../x86/scanner.ts'
import { readForms } from './forms.ts'
import { isSelfLabelAt } from './got.ts'
import type { CheckedHints } from './hints.ts'
import { alignZones, joinReadings, startsOf, zoneTest } from './join-readings.ts'
import { findJumpTables, type JumpTable } from './jump-tables.ts'
import { EMPTY, sweepCode, type ToDo } from './linear.ts'
import { Mark } from './marks.ts'
import { OutsideTargets } from './outside.ts'
import { followOverlaps, placeOverlaps } from './overlap.ts'
import { isIndirectJump, type References } from './references.ts'
import { passRejected, type Rejected } from './rejected.ts'
import { type SegmentContext, segment } from './segment.ts'
import { StartBits } from './start-bits.ts'
import { dropStrange, ISLAND, withoutSpecks } from './strange.ts'
import type { Window } from './window.ts'
import { findZones } from './zones.ts'

export interface CodeMap extends ToDo {
  /** Pairs of offsets, ascending: each run decodes linearly from its start to exactly its end. */
  readonly runs: Uint32Array
  /** Pairs of offsets of what is not code. */
  readonly data: Uint32Array
  /** Where each instruction starts, ascending, and as bits. */
  readonly starts: Uint32Array
  readonly bits: StartBits
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
  const marks = markHints(input)
  const { length } = input.code
  const swept = length > SHORT ? sweepCode(input, options) : EMPTY
  reportProgress(options, length >> 1, length, 'code map')
  const bits = new StartBits(length)
  bits.add(swept.starts)
  const entries = input.hints.entries
  const linear = new OutsideTargets(swept.references.outsideTargets)
  const zones =
    length > SHORT
      ? alignZones(
          findZones({ ...swept, bits, length, decoder: input.decoder, entries }, linear),
          bits,
          length,
        )
      : [0, length]
  const inZone = zoneTest(zones)
  const { outsideSources, outsideTargets } = swept.references
  const outside: number[] = []
  for (let i = 0; i < outsideTargets.length; i++)
    if (!inZone(outsideSources[i])) outside.push(outsideTargets[i])
  markReferences(swept.references, marks, inZone)
  for (let i = 0; i < zones.length; i += 2) bits.clear(zones[i], zones[i + 1])
  const context = contextOf(input, marks, undefined, () => -4)
  const forms = zoneForms(context, zones)
  const first = readZones(context, forms, zones, input.alignment)
  const inside = startsOf(first, input.decoder)
  bits.add(inside)
  const likely = withoutSpecks({ ...input, marks, goesOnTo: new Set(zones) }, first)
  const likelyStarts = new Set(startsOf(likely, input.decoder))
  const doubted = inside.filter((start) => !likelyStarts.has(start))
  const selfLabels =
    swept.references.selfLabels +
    collect(input, context.view, [...likelyStarts], marks, outside) +
    collect(input, context.view, doubted, marks, [])
  followOverlaps({ ...input, view: context.view, bits, marks }, certain(first, inside, marks))
  // A few targets more or less do not change where they cluster.
  const same = Math.abs(outside.length - outsideTargets.length) * 100 < outsideTargets.length
  const targets = same ? linear : new OutsideTargets(outside)
  const score = (distance: number): number =>
    Math.max(-64, Math.min(64, Math.round(16 * targets.score(distance))))
  const jumps = [
    ...swept.references.jumps.filter((at) => !inZone(at)),
    ...inside.filter((at) => isIndirectJump(input.code, at)),
  ]
  const tables = findJumpTables({ ...input, bits, marks, outside: targets }, jumps)
  const doubtful = withTables(zones, tables, bits, length)
  const again = doubtful === zones ? forms : zoneForms(context, doubtful)
  const read = readZones({ ...context, earlier: bits, outside: score }, again, doubtful, input.alignment)
  collect(input, context.view, startsOf(read, input.decoder), marks, [])
  const isStrange = (instruction: Instruction): boolean => {
    const target = targetOf(context.view, instruction)
    return target !== undefined && (target < 0 || target > input.span) && targets.score(target) < 0
  }
  // In a few hundred bytes nothing clusters, so nothing is strange.
  const second =
    length <= SHORT ? read : dropStrange({ ...input, marks, goesOnTo: new Set(doubtful), isStrange }, read)
  const layouts = createLayoutDecoder(input.code, { cpu: input.cpu })
  const passed = passRejected({ ...input, layouts, marks, zones: doubtful }, second)
  const { runs, shared } = withOverlaps(input, context.view, doubtful, passed.runs, marks, bits)
  const map = joinReadings(input, marks, swept, bits, doubtful, runs)
  return {
    ...map,
    shared,
    rejected: passed.rejected,
    selfLabels,
    outside: targets,
    tables,
    marks,
    zones: doubtful,
  }
}

/** The runs of the zones, and what their branches reach in the middle of them. */
function withOverlaps(
  input: MapInput,
  view: DataView,
  zones: readonly number[],
  runs: readonly number[],
  marks: Uint8Array,
  bits: StartBits,
): { readonly runs: readonly number[]; readonly shared: readonly number[] } {
  for (let i = 0; i < zones.length; i += 2) bits.clear(zones[i], zones[i + 1])
  const starts = startsOf(runs, input.decoder)
  bits.add(starts)
  const sources = certain(runs, starts, marks)
  return placeOverlaps(followOverlaps({ ...input, view, bits, marks }, sources), runs, input.decoder)
}

/** The starts that are code by hint, or by the length of their run. */
function certain(runs: readonly number[], starts: readonly number[], marks: Uint8Array): number[] {
  let run = 0
  return starts.filter((start) => {
    while (runs[run + 1] <= start) run += 2
    return (marks[start] & Mark.given) !== 0 || runs[run + 1] - runs[run] > ISLAND
  })
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

/** Distance from the base of what the relative operand points at; undefined without one. */
export function targetOf(view: DataView, instruction: Instruction): number | undefined {
  const size = instruction.branchSize
  if (size === 0 && instruction.memory !== Memory.rip) return undefined
  const field = instruction.offset + (size === 0 ? instruction.displacementOffset : instruction.branchOffset)
  return instruction.offset + instruction.length + readSigned(view, field, size || 4)
}

/** What the hints say of each offset. */
function markHints({ code, hints }: MapInput): Uint8Array {
  const marks = new Uint8Array(code.length)
  for (const { start, end, kind } of hints.ranges)
    marks.fill(kind === 'data' ? Mark.forbidden : Mark.given, start, end)
  // A code range begins with code.
  for (const { start, kind } of hints.ranges) if (kind === 'code') marks[start] |= Mark.target
  // Who hands over a few hundred bytes hands over code.
  if (code.length <= SHORT && !hints.ranged) marks.fill(Mark.given)
  for (const entry of hints.entries) if (entry < code.length) marks[entry] |= Mark.entry
  return marks
}

function contextOf(
  input: MapInput,
  marks: Uint8Array,
  earlier: StartBits | undefined,
  outside: (distance: number) => number,
): SegmentContext {
  const { code, decoder, span, window } = input
  return {
    code,
    view: new DataView(code.buffer, code.byteOffset, code.length),
    decoder,
    marks,
    span,
    outside,
    window,
    earlier,
    given: code.length <= SHORT ? SHORT_CODE : GIVEN_CODE,
  }
}

function markReferences(
  references: References,
  marks: Uint8Array,
  inZone: (offset: number) => boolean,
): void {
  for (let i = 0; i < references.count; i++) {
    if (inZone(references.sources[i])) continue
    const target = references.targets[i]
    if (target >= 0) marks[target] |= Mark.target
    else marks[-1 - target] |= Mark.data
  }
}

/** The forms of each zone. */
const zoneForms = (context: SegmentContext, zones: readonly number[]): Int32Array[] =>
  Array.from({ length: zones.length / 2 }, (_, i) => readForms(context, zones[2 * i], zones[2 * i + 1]))

function readZones(
  context: SegmentContext,
  forms: readonly Int32Array[],
  zones: readonly number[],
  alignment: number,
): number[] {
  const runs: number[] = []
  for (let i = 0; i < zones.length; i += 2) {
    const [start, end] = [zones[i], zones[i + 1]]
    for (const offset of segment(context, forms[i / 2], start, alignment, {
      before: start > 0,
      behind: end < context.code.length,
    }))
      runs.push(offset)
  }
  return runs
}

/** Marks what the instructions at `starts` point at inside the blob, and lists what they point at outside. Returns the number of self labels. */
function collect(
  input: MapInput,
  view: DataView,
  starts: readonly number[],
  marks: Uint8Array,
  outside: number[],
): number {
  const instruction = new Instruction()
  const { length } = input.code
  let selfLabels = 0
  for (const at of starts) {
    input.decoder.decode(at, instruction)
    const target = targetOf(view, instruction)
    if (target === undefined) continue
    if (target < 0 || target > input.span) outside.push(target)
    else if (target < length) {
      // `call $+5` says nothing of what it is followed by.
      if (instruction.branchSize !== 0) marks[target] |= target === at + instruction.length ? 0 : Mark.target
      else if (instruction.opcode !== 0x8d || instruction.map !== 0) marks[target] |= Mark.data
      else if (isSelfLabelAt(input.code, at, at + instruction.length, target)) selfLabels++
    }
  }
  return selfLabels
}
