/**
 * Which bytes are instructions. Two readings of the same kind: the first knows only the hints and the statistics of
 * instruction forms; from what it takes for code come the places that branches reach, that memory operands read, and where outside targets
 * cluster; with those as evidence the second decides.
 */
import { type ProgressOptions, reportProgress } from '../core/progress.ts'
import { CODE_GIVEN, CODE_GUESS } from '../table/site.ts'
import { Instruction, type InstructionDecoder, Memory } from '../x86/instruction.ts'
import type { CheckedHints } from './hints.ts'
import { Mark } from './marks.ts'
import { OutsideTargets } from './outside.ts'
import { segment } from './segment.ts'
import type { Window } from './window.ts'

export interface CodeMap {
  /** Pairs of offsets, ascending: each run decodes linearly from its start to exactly its end. */
  readonly runs: Uint32Array
  /** Code evidence of each run. */
  readonly levels: Uint8Array
  /** Pairs of offsets of what is not code. */
  readonly data: Uint32Array
  readonly outside: OutsideTargets
  /** Bits of `Mark` for each offset. */
  readonly marks: Uint8Array
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
}

const GIVEN_CODE = { form: -24, least: -(1 << 20), leave: 200, leaveForced: 200, skip: 0, enter: 48 }
const SHORT_CODE = { form: 0, least: 4, leave: 200, leaveForced: 16, skip: 160, enter: 16 }

/** Blobs up to this many bytes are code unless something says otherwise. */
const SHORT = 512

/** Maps a blob. */
export function mapCode(input: MapInput, options: ProgressOptions): CodeMap {
  const { code, hints } = input
  const marks = new Uint8Array(code.length)
  for (const { start, end, kind } of hints.ranges)
    marks.fill(kind === 'data' ? Mark.forbidden : Mark.given, start, end)
  // A code range begins with code.
  for (const { start, kind } of hints.ranges) if (kind === 'code') marks[start] |= Mark.target
  // Who hands over a few hundred bytes hands over code.
  const short = code.length <= SHORT
  if (short && !hints.ranged) marks.fill(Mark.given)
  for (const entry of hints.entries) if (entry < code.length) marks[entry] |= Mark.entry
  const context = {
    code,
    view: new DataView(code.buffer, code.byteOffset, code.length),
    decoder: input.decoder,
    marks,
    span: input.span,
    outside: () => -4,
    window: input.window,
    reread: false,
    given: short ? SHORT_CODE : GIVEN_CODE,
  }
  const first = segment(context, 0, code.length, input.alignment)
  reportProgress(options, code.length >> 1, code.length, 'code map')
  const outside = new OutsideTargets(collect(input, context.view, first, marks))
  const runs = Uint32Array.from(
    segment(
      {
        ...context,
        reread: true,
        outside: (distance) => Math.max(-64, Math.min(64, Math.round(16 * outside.score(distance)))),
      },
      0,
      code.length,
      input.alignment,
    ),
  )
  const levels = new Uint8Array(runs.length / 2).fill(hints.ranged ? CODE_GIVEN : CODE_GUESS)
  return { runs, levels, data: gapsBetween(runs, code.length), outside, marks }
}

/** Marks what the code of a reading points at inside the blob, and lists what it points at outside. */
function collect(input: MapInput, view: DataView, runs: readonly number[], marks: Uint8Array): number[] {
  const instruction = new Instruction()
  const outside: number[] = []
  const { length } = input.code
  for (let run = 0; run < runs.length; run += 2) {
    for (let at = runs[run]; at < runs[run + 1]; at += instruction.length) {
      input.decoder.decode(at, instruction)
      marks[at] |= Mark.start
      const next = at + instruction.length
      if (instruction.branchSize !== 0) {
        const field = at + instruction.branchOffset
        const target =
          next +
          (instruction.branchSize === 4
            ? view.getInt32(field, true)
            : instruction.branchSize === 1
              ? view.getInt8(field)
              : view.getInt16(field, true))
        if (target >= 0 && target < length) marks[target] |= Mark.target
        else if (target < 0 || target >= input.span) outside.push(target)
      } else if (instruction.memory === Memory.rip) {
        const target = next + view.getInt32(at + instruction.displacementOffset, true)
        if (target >= 0 && target < length) {
          if (instruction.opcode !== 0x8d || instruction.map !== 0) marks[target] |= Mark.data
        } else if (target < 0 || target > input.span) outside.push(target)
      }
    }
  }
  return outside
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
