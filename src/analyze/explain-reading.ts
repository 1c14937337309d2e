/** Why a byte was read as code or as data. */
import { readSigned } from '../core/bytes.ts'
import { lowerBound } from '../core/search.ts'
import { ADDRESS_NONE, type CodeEvidence, packEvidence, unpackEvidence } from '../table/site.ts'
import type { CodeRun } from '../table/table.ts'
import { Flow, Instruction, Memory } from '../x86/instruction.ts'
import type { Findings } from './analyze.ts'
import type { Reason } from './judge.ts'
import type { JumpTable } from './jump-tables.ts'
import { Mark } from './marks.ts'
import { opcodeScore } from './opcode-stats.ts'
import { FROM_ENTRY } from './reach.ts'
import { isBehindLock, leadsBehindLock, WEIGHTS } from './segment.ts'

/** One stretch of code on the way of execution. */
export interface FlowStep {
  /** Where it is entered. */
  readonly at: number
  /** The instruction, or the word of data, that leads there; absent at an entry. */
  readonly from?: number
  readonly by: 'entry' | 'call' | 'jump' | 'branch' | 'table' | 'address' | 'pointer' | 'next'
}

/** What the code map took a byte for. */
export interface Reading {
  readonly as: 'code' | 'data'
  /**
   * How that came about: data `given` as such; a `table` that a jump goes by; code that was read in a `line`,
   * one instruction after the other; or every offset around was `weighed` as code and as data.
   */
  readonly by: 'given' | 'table' | 'line' | 'weighed'
  /** How sure that is: given, reached by the flow from a certain start, or a guess. */
  readonly evidence: CodeEvidence
  /** The instruction that holds the byte; in data, what would begin there. Absent where nothing decodes. */
  readonly instruction?: CodeRun
  /** Other instructions that hold the byte: a branch leads into the middle of the first. */
  readonly shared?: readonly CodeRun[]
  /** How execution comes there, from the entry on, where that is the evidence. */
  readonly path?: readonly FlowStep[]
  readonly table?: JumpTable
  /** What speaks for the instruction (odds above 0) and against it, as logarithms of odds. */
  readonly reasons: readonly Reason[]
}

export function explainReading(found: Findings, offset: number): Reading {
  const { map, decoder, evidence: levels } = found
  const instruction = new Instruction()
  const holder = found.places.holder(offset)
  const isCode = holder >= 0
  const length = decoder.decode(isCode ? holder : offset, instruction)
  const shared = sharedAt(found, offset)
  const table = map.tables.find(({ start, end }) => offset >= start && offset < end)
  const evidence = unpackEvidence(packEvidence(levels.at(offset), ADDRESS_NONE)).code
  return {
    as: isCode ? 'code' : 'data',
    by: methodOf(found, offset, isCode, table),
    evidence,
    ...(length === 0 ? {} : { instruction: { start: instruction.offset, end: instruction.offset + length } }),
    ...(shared.length === 0 ? {} : { shared }),
    ...(isCode && evidence === 'flow' ? { path: pathTo(found, levels.reach.path(holder)) } : {}),
    ...(table === undefined ? {} : { table }),
    reasons: length === 0 ? [] : weighReading(found, instruction),
  }
}

/** The instructions that share the byte with the one that the reading gives it to. */
function sharedAt({ map, decoder }: Findings, offset: number): CodeRun[] {
  const instruction = new Instruction()
  return map.shared
    .filter((start) => start <= offset && start + decoder.decode(start, instruction) > offset)
    .map((start) => ({ start, end: start + decoder.decode(start, instruction) }))
}

function methodOf(
  { map }: Findings,
  offset: number,
  isCode: boolean,
  table: JumpTable | undefined,
): Reading['by'] {
  if (!isCode && table !== undefined) return 'table'
  if (!isCode && (map.marks[offset] & Mark.forbidden) !== 0) return 'given'
  // An odd number of bounds up to an offset: it is in a zone.
  return (lowerBound(map.zones, offset + 1) & 1) === 1 ? 'weighed' : 'line'
}

/** From the entry on. */
const pathTo = (
  found: Findings,
  steps: readonly { readonly from: number; readonly via: number }[],
): FlowStep[] =>
  steps
    .map(({ from, via }): FlowStep => {
      if (via === FROM_ENTRY) return { at: from, by: 'entry' }
      return { at: from, from: via, by: linkOf(found, via, from) }
    })
    .reverse()

/** How the instruction or word at `via` leads to `target`. */
function linkOf({ map, decoder, view }: Findings, via: number, target: number): FlowStep['by'] {
  if (!map.bits.has(via) && !map.shared.includes(via)) return 'pointer'
  const instruction = new Instruction()
  const next = via + decoder.decode(via, instruction)
  const { flow } = instruction
  if (flow === Flow.indirectJump) return 'table'
  const size = instruction.branchSize
  if (size === 0) return next === target ? 'next' : 'address'
  if (next + readSigned(view, via + instruction.branchOffset, size) !== target) return 'next'
  return flow === Flow.call ? 'call' : flow === Flow.jump ? 'jump' : 'branch'
}

/** What speaks for and against an instruction, by the weights of the segmentation. */
function weighReading(found: Findings, instruction: Instruction): Reason[] {
  const { map, view, window, table, code } = found
  const { offset, length } = instruction
  const isStart = (target: number): boolean => map.bits.has(target) || leadsBehindLock(code, map.bits, target)
  const reasons: Reason[] = []
  const add = (what: string, weight: number): void => {
    reasons.push({ what, odds: weight / 16 })
  }
  add('the form of the instruction, in code against in data', opcodeScore(instruction))
  const mark = map.marks[offset]
  if ((mark & Mark.entry) !== 0) add('execution is known to start here', WEIGHTS.entry)
  if ((mark & Mark.target) !== 0) add('a branch leads here', WEIGHTS.target)
  if ((mark & Mark.data) !== 0) add('an instruction reads or writes data here', WEIGHTS.data)
  for (let at = offset + 1; at < offset + length; at++) {
    const inner = map.marks[at]
    if ((inner & Mark.entry) !== 0) add('execution is known to start inside of it', -WEIGHTS.entry)
    if ((inner & Mark.target) !== 0 && !isBehindLock(code, offset, at))
      add('a branch leads into its middle', WEIGHTS.through)
    if ((inner & Mark.data) !== 0) add('an instruction reads or writes data inside of it', WEIGHTS.data)
  }
  const size = instruction.branchSize
  const isRip = size === 0 && instruction.memory === Memory.rip
  if (size > 0 || isRip) {
    const field = offset + (isRip ? instruction.displacementOffset : instruction.branchOffset)
    const target = offset + length + readSigned(view, field, size || 4)
    const isInside = target >= 0 && target < table.span
    if (!isInside && size === 1) add('a short branch out of the blob', WEIGHTS.rel8Outside)
    else if (!isInside) {
      const odds = 16 * map.outside.score(target)
      add(
        odds < 0 ? 'it points outside, far from all others' : 'it points outside, where others do',
        Math.max(-64, Math.min(64, Math.round(odds))),
      )
      if (instruction.flow === Flow.conditional)
        add('a conditional branch out of the blob', WEIGHTS.jccOutside)
    } else if (isRip) add('its operand lies in the blob', WEIGHTS.ripInside)
    else {
      if (size === 4) add('a far branch that stays in the blob', WEIGHTS.insideFar)
      if (target < map.marks.length)
        add(
          isStart(target) ? 'it leads to an instruction' : 'it leads to where no instruction starts',
          isStart(target) ? WEIGHTS.toStart : WEIGHTS.toMiddle,
        )
    }
  }
  const constants = [
    [instruction.displacementOffset, isRip ? 0 : instruction.displacementSize],
    [instruction.immediateOffset, instruction.immediateSize],
  ]
  for (const [at, bytes] of constants) {
    if (bytes < 4) continue
    const low = view.getInt32(offset + at, true)
    const high = bytes === 8 ? view.getUint32(offset + at + 4, true) : low < 0 ? 0xffff_ffff : 0
    if (window.has(low >>> 0, high))
      add(
        'a constant that is an address of a covered range',
        bytes === 8 ? WEIGHTS.inRange64 : WEIGHTS.inRange32,
      )
  }
  return reasons
}
