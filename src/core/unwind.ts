/**
 * .eh_frame: its entries say where each function (or part of one) starts and ends, in stripped files too, and
 * hold addresses themselves: where that is, how wide and relative to what, each says in its own header. So
 * they are read by their format, not by the linker's records, which lld writes without regard to the entries
 * that it merged. Format: Linux Standard Base 5.0 core, 10.6 ".eh_frame"; DWARF 5, 6.4.1; pointer encodings
 * of LSB 10.5.
 *
 *     CIE   length, 0, version, augmentation "zPLR...", factors, register, then for P a pointer (personality),
 *           for L and R the encodings of pointers in its FDEs
 *     FDE   length, distance back to its CIE, pointer to the code (R), bytes of code, then a pointer (L) to language data
 */
import { EncodedCursor, type EncodedPointer, OMITTED } from './encoded-pointer.ts'

/** Addresses `[start, end)` that one entry describes. */
export interface FrameRange {
  readonly start: bigint
  readonly end: bigint
}

/**
 * What one entry says: an FDE's range, whether it is a signal's frame (then the code may begin behind the
 * range's start: glibc has it cover the byte before), its language data (LSDA), and the pointers that are in
 * it.
 */
export interface FrameEntry {
  readonly range: FrameRange | undefined
  readonly isSignal: boolean
  readonly language: bigint | undefined
  readonly pointers: readonly EncodedPointer[]
  /** Offset of the next entry. */
  readonly end: number
}

/** Known ones have up to six letters ("zPLRSB"). */
const LONGEST_AUGMENTATION = 8

interface Common {
  readonly code: number
  readonly language: number
  readonly augmented: boolean
  readonly isSignal: boolean
  readonly personality: EncodedPointer | undefined
}
const UNKNOWN: Common = {
  code: OMITTED,
  language: OMITTED,
  augmented: false,
  isSignal: false,
  personality: undefined,
}

function readCommon(cursor: EncodedCursor): Common {
  const version = cursor.byte()
  if (version !== 1 && version !== 3) return UNKNOWN
  let letters = ''
  for (let byte = cursor.byte(); byte !== 0; byte = cursor.byte()) {
    letters += String.fromCharCode(byte)
    if (letters.length > LONGEST_AUGMENTATION) return UNKNOWN
  }
  if (letters !== '' && letters[0] !== 'z') return UNKNOWN
  cursor.uleb()
  cursor.uleb()
  if (version === 1) cursor.byte()
  else cursor.uleb()
  if (letters === '') return { ...UNKNOWN, code: 0 }
  cursor.uleb()
  let [code, language] = [0, OMITTED]
  let personality: EncodedPointer | undefined
  for (const letter of letters.slice(1)) {
    if (letter === 'R') code = cursor.byte()
    else if (letter === 'L') language = cursor.byte()
    else if (letter === 'P') {
      personality = cursor.pointer(cursor.byte())
      if (personality === undefined) return UNKNOWN
    } else if (letter !== 'S' && letter !== 'B') return UNKNOWN
  }
  return { code, language, augmented: true, isSignal: letters.includes('S'), personality }
}

function readEntry(cursor: EncodedCursor, common: Common, end: number): FrameEntry {
  const start = cursor.pointer(common.code)
  const length = cursor.number(common.code & 7)
  if (start === undefined || length === undefined)
    return { range: undefined, isSignal: false, language: undefined, pointers: [], end }
  if (common.augmented) cursor.uleb()
  const language = common.augmented ? cursor.pointer(common.language) : undefined
  const { isSignal } = common
  const range = length.value === 0n ? undefined : { start: start.target, end: start.target + length.value }
  // A missing one is 0, whatever it is relative to; entries for code that was dropped have length 0.
  if (language === undefined || language.target === (language.relative ? language.address : 0n))
    return { range, isSignal, language: undefined, pointers: [start], end }
  return { range, isSignal, language: language.target, pointers: [start, language], end }
}

/**
 * An entry at `at`: where its CIE pointer is, and where the next begins; undefined at the end and where it is damaged.
 */
function entryAt(view: DataView, at: number, end: number): { id: number; next: number } | undefined {
  if (at + 8 > end) return undefined
  const short = view.getUint32(at, true)
  const wide = short === 0xffff_ffff
  if (wide && at + 16 > end) return undefined
  const length = wide ? Number(view.getBigUint64(at + 4, true)) : short
  const id = at + (wide ? 12 : 4)
  return length < 4 || id + length > end ? undefined : { id, next: id + length }
}

/**
 * Every entry of the .eh_frame whose bytes are `[start, end)` of `view` and whose first byte is at `address`. What is
 * damaged or of an unknown kind says nothing.
 */
export function* frameEntries(
  view: DataView,
  start: number,
  end: number,
  address: bigint,
): Generator<FrameEntry> {
  const bias = address - BigInt(start)
  const commonAt = (at: number): Common => {
    const entry = at < start ? undefined : entryAt(view, at, end)
    if (entry === undefined || view.getUint32(entry.id, true) !== 0) return UNKNOWN
    return readCommon(new EncodedCursor(view, entry.id + 4, entry.next, bias))
  }
  // Only the last CIE is kept: entries follow theirs, and a file that says otherwise costs time, not memory.
  let last = -1
  let common = UNKNOWN
  for (let at = start, entry = entryAt(view, at, end); entry !== undefined; entry = entryAt(view, at, end)) {
    const { id, next } = entry
    const back = view.getUint32(id, true)
    const owner = back === 0 ? at : id - back
    if (owner !== last) common = commonAt((last = owner))
    if (back !== 0) yield readEntry(new EncodedCursor(view, id + 4, next, bias), common, next)
    else if (common.personality !== undefined)
      yield {
        range: undefined,
        isSignal: false,
        language: undefined,
        pointers: [common.personality],
        end: next,
      }
    at = next
  }
}

/**
 * Where .eh_frame begins, by the pointer in .eh_frame_hdr at `[start, end)` of `view`, which is at `address`;
 * or undefined.
 */
export function frameAddress(
  view: DataView,
  start: number,
  end: number,
  address: bigint,
): bigint | undefined {
  if (end - start < 4 || view.getUint8(start) !== 1) return undefined
  return new EncodedCursor(view, start + 4, end, address - BigInt(start)).pointer(view.getUint8(start + 1))
    ?.target
}
