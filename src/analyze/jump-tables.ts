/**
 * Jump tables: where they are, so that nobody reads them as code, and where they lead, so that it is read as
 * code. What is believed of a table is what its entries confirm: each leads to an instruction, or outside to
 * where other code goes as well.
 */
import { wrapAddress } from '../core/address.ts'
import { readSigned, viewOf } from '../core/bytes.ts'
import type { TableBuilder } from '../table/builder.ts'
import { ABS32, ABS64, DIFF32, DIFF64 } from '../table/kinds.ts'
import { ADDRESS_FLOW } from '../table/site.ts'
import { Instruction, type InstructionDecoder } from '../x86/instruction.ts'
import type { StartBits } from '../x86/start-bits.ts'
import { type Dispatch, DispatchReader, type EntryWidth } from './dispatch.ts'
import { isTaken, Mark, take } from './marks.ts'
import type { OutsideTargets } from './outside.ts'
import type { Window } from './window.ts'

/**
 * Entries [start, end): addresses, distances from `anchor` (a distance from the base itself), or numbers of
 * another table's entries.
 */
export interface JumpTable {
  readonly start: number
  readonly end: number
  readonly width: EntryWidth
  /** Whether entries of 1 or 2 bytes are sign-extended. */
  readonly signed: boolean
  readonly isIndex: boolean
  readonly anchor: number | undefined
  /** Offsets of the jumps that go by it. */
  readonly jumps: readonly number[]
}

export interface TableContext {
  readonly code: Uint8Array
  readonly decoder: InstructionDecoder
  /** Where the instructions of a first reading start. */
  readonly bits: StartBits
  /** Gets the tables and their targets. */
  readonly marks: Uint8Array
  readonly window: Window
  readonly outside: OutsideTargets
  /** Bytes of the moved range. */
  readonly span: number
}

/** Bytes between two parts of a function that a table leads to. */
const BESIDE = 512
/** Bytes between two parts of the outside. */
const NEAR = 1 << 16

/** Whether FF /4 is at `start`, with up to two prefixes (REX, notrack, bnd) before it or not. */
export function isIndirectJump(code: Uint8Array, start: number): boolean {
  let at = start
  for (const last = start + 2; at < last && code[at] !== 0xff; at++)
    if ((code[at] & 0xf0) !== 0x40 && code[at] !== 0x3e && code[at] !== 0xf2) return false
  return code[at] === 0xff && (code[at + 1] & 0x38) === 0x20
}

/**
 * The tables of the indirect jumps at `jumps`, ascending by start. Marks their bytes as no code, and what
 * they lead to as targets.
 */
export function findJumpTables(context: TableContext, jumps: readonly number[]): JumpTable[] {
  const { code, bits, decoder, marks, window } = context
  const view = viewOf(code)
  const reader = new DispatchReader(code, decoder, bits, window)
  const tables = new Map<number, JumpTable>()
  const add = (table: JumpTable): void => {
    const known = tables.get(table.start)
    const jumps = [...(known?.jumps ?? []), ...table.jumps]
    tables.set(table.start, { ...(known !== undefined && known.end >= table.end ? known : table), jumps })
  }
  for (const jump of jumps) {
    const dispatch = reader.read(jump)
    if (dispatch === undefined) continue
    const announced = confirm(context, view, dispatch, dispatch.count)
    // A comparison may have been of something else; of small entries nothing else tells how many there are.
    const table = announced ?? (dispatch.width < 4 ? undefined : confirm(context, view, dispatch, undefined))
    if (table === undefined) continue
    add(table)
    const { index } = dispatch
    if (announced !== undefined && index !== undefined)
      add({ ...index, signed: false, isIndex: true, anchor: undefined, jumps: [jump] })
  }
  const found = endAtNext([...tables.values()].sort((a, b) => a.start - b.start))
  for (const { start, end } of found) marks.fill(Mark.forbidden, start, end)
  for (const table of found)
    for (const target of targetsOf(view, table, window))
      if (target >= 0 && target < code.length && (marks[target] & Mark.forbidden) === 0)
        marks[target] |= Mark.target
  return found
}

/** One table may run on into the next, whose entries lead to code as well. */
const endAtNext = (tables: readonly JumpTable[]): JumpTable[] =>
  tables.map((table, i) => {
    const next = tables[i + 1]?.start ?? table.end
    const end = next < table.end ? next - ((next - table.start) % table.width) : table.end
    return { ...table, end }
  })

/** Where entry `at` leads, as a distance from the base. */
export function entryTarget(
  view: DataView,
  at: number,
  { width, signed, anchor }: Pick<JumpTable, 'width' | 'signed' | 'anchor'>,
  window: Window,
): number {
  if (anchor !== undefined) return anchor + distanceAt(view, at, width, signed)
  return window.distance(view.getUint32(at, true), width === 8 ? view.getUint32(at + 4, true) : 0)
}

function distanceAt(view: DataView, at: number, width: EntryWidth, signed: boolean): number {
  if (width === 8) return view.getInt32(at + 4, true) * 2 ** 32 + view.getUint32(at, true)
  const value = readSigned(view, at, width)
  return signed || value >= 0 ? value : value + 2 ** (8 * width)
}

/** Where the entries lead, as distances from the base. */
export function targetsOf(view: DataView, table: JumpTable, window: Window): number[] {
  const { start, end, width, isIndex } = table
  if (isIndex) return []
  return Array.from({ length: (end - start) / width }, (_, i) =>
    entryTarget(view, start + i * width, table, window),
  )
}

const hasMark = (marks: Uint8Array, offset: number, width: number, mark: number): boolean => {
  for (let i = offset; i < offset + width; i++) if ((marks[i] & mark) !== 0) return true
  return false
}

/** Whether an instruction of the first reading begins before `target` and reaches over it. */
function isInside(target: number, { bits, decoder }: TableContext): boolean {
  const instruction = new Instruction()
  for (let at = target - 1; at >= Math.max(0, target - 14); at--)
    if (bits.has(at)) return at + decoder.decode(at, instruction) > target
  return false
}

/** Whether the upper half of 64 bits is that of an address: of 48 bits, extended by their sign. */
const isCanonical = (high: number): boolean => high >> 15 === 0 || high >> 15 === -1

/** The table as far as its entries confirm it: all that were announced, or all up to the first that leads nowhere. */
function confirm(
  context: TableContext,
  view: DataView,
  { at, table, width, signed, anchor }: Dispatch,
  count: number | undefined,
): JumpTable | undefined {
  const { code, bits, marks, window, outside, span } = context
  const most = count ?? Number.POSITIVE_INFINITY
  let inside = 0
  let lowest = at
  let highest = at
  let end = table
  // Where the first entry stands that only the table's end confirms: code begins right behind the table,
  // where its lowest entry leads.
  let hoped: { readonly end: number; readonly inside: number } | undefined
  // Where the first distance leads that no other code knows.
  let unknown: number | undefined
  // What an entry leads to cannot be in the table.
  let limit = Math.min(code.length, at >= table ? at : code.length)
  while (end >= 0 && end + width <= limit && end - table < most * width) {
    if (hasMark(marks, end, width, Mark.entry)) break
    if (end > table && count === undefined && (marks[end] & (Mark.target | Mark.data)) !== 0) break
    const target = entryTarget(view, end, { width, signed, anchor }, window)
    if (target >= 0 && target < code.length) {
      if (target >= table && target < end + width) break
      // The first reading does not know all that only this table leads to: it is near the rest. A pointer
      // there, or an entry that a comparison announced, is no number by chance.
      const isNear = target > lowest - BESIDE && target < highest + BESIDE
      const isSure = isNear && ((width === 8 && anchor === undefined) || count !== undefined)
      const known = bits.has(target)
      if (!known && !isSure && (count === undefined || isInside(target, context))) {
        if (!isNear || count !== undefined) break
        hoped ??= { end, inside }
      }
      lowest = Math.min(lowest, target)
      highest = Math.max(highest, target)
      inside++
      if (target > table) limit = Math.min(limit, target)
    } else if (target >= 0 && target <= span) break
    else if (anchor === undefined) {
      // A mask announces up to a power of two, more than there may be: what no processor jumps to is no entry.
      if (count === undefined || (width === 8 && !isCanonical(view.getInt32(end + 4, true)))) break
    } else if (!outside.near(target).exact) {
      // That nothing else refers to it is no wonder in a few hundred bytes; that two such distances agree is
      // none by chance.
      if (count === undefined || Math.abs(target - (unknown ?? target)) > NEAR) break
      unknown ??= target
    }
    end += width
  }
  if (hoped !== undefined && end !== limit) ({ end, inside } = hoped)
  const isWhole = count === undefined || end - table === count * width
  return inside >= 2 && isWhole
    ? { start: table, end, width, signed, anchor, isIndex: false, jumps: [at] }
    : undefined
}

/** Adds the entries that a move changes: addresses in a covered range, distances that cross its edge. */
export function addJumpTables(
  tables: readonly JumpTable[],
  view: DataView,
  window: Window,
  marks: Uint8Array,
  builder: TableBuilder,
): void {
  const { base, span } = builder.blob
  const isInside = (distance: number): boolean => distance >= 0 && distance < span
  for (const table of tables) {
    const { start, end, width, anchor, isIndex } = table
    for (let at = start; at < end; at += width) {
      if (isTaken(marks, at, width)) continue
      if (anchor === undefined && !isIndex) {
        const low = view.getUint32(at, true)
        const high = width === 8 ? view.getUint32(at + 4, true) : 0
        if (!window.has(low, high)) continue
        builder.addAbsolute(at, width === 8 ? ABS64 : ABS32, low, high, ADDRESS_FLOW)
      } else if (anchor !== undefined && width >= 4) {
        const target = entryTarget(view, at, table, window)
        if (isInside(target) !== isInside(anchor))
          builder.addDifference(
            at,
            width === 8 ? DIFF64 : DIFF32,
            wrapAddress(base + BigInt(target)),
            wrapAddress(base + BigInt(anchor)),
            ADDRESS_FLOW,
          )
      }
      take(marks, at, width)
    }
  }
}
