/**
 * Exception tables in the blob: .eh_frame and the language data that it, or nothing, points to. They are data
 * by their form, and each pointer says itself how wide it is and what it is relative to, so their sites need
 * no judgement.
 */
import { wrapAddress } from '../core/address.ts'
import { viewOf } from '../core/bytes.ts'
import type { EncodedPointer } from '../core/encoded-pointer.ts'
import { readLanguageData } from '../core/language-data.ts'
import { lowerBound } from '../core/search.ts'
import { type FrameEntry, frameEntries } from '../core/unwind.ts'
import type { TableBuilder } from '../table/builder.ts'
import { ABS32, ABS32S, ABS64, DIFF32, DIFF64 } from '../table/kinds.ts'
import { ADDRESS_FLOW } from '../table/site.ts'
import type { CheckedHints, RangeHint } from './hints.ts'
import { isTaken, take } from './marks.ts'
import type { Window } from './window.ts'

/**
 * An exception table in [start, end), its pointers, and the offsets of the functions that it tells of, where
 * they are in the blob.
 */
export interface ExceptionTable {
  readonly start: number
  readonly end: number
  readonly pointers: readonly EncodedPointer[]
  readonly functions: readonly number[]
}

/** 'z', the first letter of every augmentation that compilers write, and where it stands in a CIE. */
const LETTER = 0x7a
const LETTER_AT = 9
const LONGEST_CIE = 64

/**
 * Every .eh_frame in the bytes, from a CIE to the last entry that refers to one, and the language data that
 * they lead to.
 */
export function findFrames(code: Uint8Array, base: bigint): ExceptionTable[] {
  const view = viewOf(code)
  const found: ExceptionTable[] = []
  let end = 0
  for (let i = code.indexOf(LETTER); i >= 0; i = code.indexOf(LETTER, i + 1)) {
    const start = i - LETTER_AT
    if (start < end || !isCommon(view, start)) continue
    const entries: FrameEntry[] = []
    for (const entry of frameEntries(view, start, code.length, wrapAddress(base + BigInt(start)))) {
      if (entry.pointers.length === 0) break
      entries.push(entry)
    }
    if (!entries.some((entry) => entry.range !== undefined)) continue
    end = entries[entries.length - 1].end
    const functions = entries
      .map(({ range, isSignal }) =>
        range === undefined || isSignal ? -1 : Number(wrapAddress(range.start - base)),
      )
      .filter((offset) => offset >= 0 && offset < code.length)
    found.push({ start, end, pointers: entries.flatMap((entry) => entry.pointers), functions })
    for (const { language } of entries) addLanguage(view, base, language, found)
  }
  return found
}

/** Whether a CIE can begin at `at`: its length, 0, version 1. */
function isCommon(view: DataView, at: number): boolean {
  if (at < 0 || at + LETTER_AT >= view.byteLength) return false
  const length = view.getUint32(at, true)
  return (
    length >= 8 && length <= LONGEST_CIE && view.getUint32(at + 4, true) === 0 && view.getUint8(at + 8) === 1
  )
}

function addLanguage(
  view: DataView,
  base: bigint,
  address: bigint | undefined,
  found: ExceptionTable[],
): void {
  if (address === undefined) return
  const start = Number(wrapAddress(address - base))
  if (start >= view.byteLength) return
  const data = readLanguageData(view, start, base)
  if (data !== undefined) found.push({ start, end: data.end, pointers: data.types, functions: [] })
}

/** Language data in the data of the blob, pairs of offsets, that nothing leads to. */
export function findLanguageData(code: Uint8Array, data: Uint32Array, base: bigint): ExceptionTable[] {
  const view = viewOf(code)
  const found: ExceptionTable[] = []
  for (let i = 0; i < data.length; i += 2) {
    for (let at = code.indexOf(0xff, data[i]); at >= 0 && at < data[i + 1]; at = code.indexOf(0xff, at + 1)) {
      if (((Number(base & 3n) + at) & 3) !== 0) continue
      const read = readLanguageData(view, at, base)
      if (read === undefined || read.types.length === 0 || read.end > data[i + 1]) continue
      found.push({ start: at, end: read.end, pointers: read.types, functions: [] })
      at = read.end - 1
    }
  }
  return found
}

/** What the tables say where nobody told more: they are data, and functions start where they say. */
export function hintsOf(tables: readonly ExceptionTable[], hints: CheckedHints): CheckedHints {
  if (hints.ranged || tables.length === 0) return hints
  const ranges: RangeHint[] = []
  let last = 0
  for (const { start, end } of [...tables].sort((a, b) => a.start - b.start)) {
    if (start < last || end <= start) continue
    ranges.push({ start, end, kind: 'data' })
    last = end
  }
  const ends = ranges.map((range) => range.end)
  const isData = (offset: number): boolean => ranges[lowerBound(ends, offset + 1)]?.start <= offset
  const functions = tables.flatMap((table) => table.functions).filter((offset) => !isData(offset))
  const entries = [...new Set([...hints.entries, ...functions])].sort((a, b) => a - b)
  return { ...hints, ranges, entries }
}

/** Adds the pointers of the tables that a move changes. */
export function addExceptionTables(
  tables: readonly ExceptionTable[],
  window: Window,
  marks: Uint8Array,
  builder: TableBuilder,
): void {
  const { base, span } = builder.blob
  for (const { pointers } of tables)
    for (const { address, width, signed, relative, target } of pointers) {
      const offset = Number(address - base)
      if (width === 2 || isTaken(marks, offset, width)) continue
      if (relative) {
        const distance = wrapAddress(target - base)
        if (distance < BigInt(span)) continue
        builder.addDifference(offset, width === 4 ? DIFF32 : DIFF64, target, address, ADDRESS_FLOW)
      } else {
        const [low, high] = [Number(target & 0xffff_ffffn), Number(target >> 32n)]
        if (!window.has(low, high)) continue
        builder.addAbsolute(offset, width === 8 ? ABS64 : signed ? ABS32S : ABS32, low, high, ADDRESS_FLOW)
      }
      take(marks, offset, width)
    }
}
