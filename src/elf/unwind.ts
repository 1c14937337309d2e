/**
 * .eh_frame: its entries say where each function (or part of one) starts and ends, in stripped files too, and hold addresses
 * themselves: where that is, how wide and relative to what, each says in its own header. So they are read by their format, not by the
 * linker's records, which lld writes without regard to the entries that it merged.
 * Format: Linux Standard Base 5.0 core, 10.6 ".eh_frame"; DWARF 5, 6.4.1; pointer encodings of LSB 10.5.
 *
 *     CIE   length, 0, version, augmentation "zPLR...", factors, register, then for P a pointer (personality),
 *           for L and R the encodings of pointers in its FDEs
 *     FDE   length, distance back to its CIE, pointer to the code (R), bytes of code, then a pointer (L) to language data
 */
import { wrapAddress } from '../core/address.ts'
import { readField } from '../core/bytes.ts'

/** Addresses `[start, end)` that one entry describes. */
export interface FrameRange {
  readonly start: bigint
  readonly end: bigint
}

/** A pointer in an entry. */
export interface FramePointer {
  /** Of the field. */
  readonly address: bigint
  readonly width: 2 | 4 | 8
  readonly signed: boolean
  /** Whether the value is relative to the field's own address. */
  readonly relative: boolean
  /** What it points at, modulo 2^64. */
  readonly target: bigint
}

/** What one entry says: an FDE's range, and the pointers that are in it. */
export interface FrameEntry {
  readonly range: FrameRange | undefined
  readonly pointers: readonly FramePointer[]
}

/** DW_EH_PE: the low four bits say how wide a pointer is and whether it is signed ... */
const FORMATS: Readonly<{ [format: number]: readonly [width: 2 | 4 | 8, signed: boolean] }> = {
  0: [8, false],
  2: [2, false],
  3: [4, false],
  4: [8, false],
  8: [8, true],
  10: [2, true],
  11: [4, true],
  12: [8, true],
}
/** ... the next three what it is relative to; the top one (to a pointer, not to the thing) does not change what the field holds. */
const RELATIVE = 0x70
const PC_RELATIVE = 0x10
const OMITTED = 0xff
/** Known ones have up to six letters ("zPLRSB"). */
const LONGEST_AUGMENTATION = 8

/** Reads an entry's fields one after another; past its end everything is 0 and every pointer missing. */
class Cursor {
  readonly #view: DataView
  readonly #end: number
  /** Address of the view's byte 0. */
  readonly #bias: bigint
  #at: number

  constructor(view: DataView, at: number, end: number, bias: bigint) {
    this.#view = view
    this.#at = at
    this.#end = end
    this.#bias = bias
  }

  byte(): number {
    return this.#at < this.#end ? this.#view.getUint8(this.#at++) : 0
  }
  skipLeb(): void {
    while (this.byte() >= 128);
  }
  /** A number in the format of `encoding`; undefined where the entry is too short or the format unknown. */
  number(encoding: number): { value: bigint; width: 2 | 4 | 8; signed: boolean } | undefined {
    const format = FORMATS[encoding & 15]
    if (encoding === OMITTED || format === undefined || this.#end - this.#at < format[0]) return undefined
    const [width, signed] = format
    const bits = readField(this.#view, this.#at, width)
    this.#at += width
    return { value: signed ? BigInt.asIntN(8 * width, bits) : bits, width, signed }
  }
  /** A pointer; undefined also where it is relative to something that is not known here. */
  pointer(encoding: number): FramePointer | undefined {
    const address = this.#bias + BigInt(this.#at)
    const relative = (encoding & RELATIVE) === PC_RELATIVE
    if (!relative && (encoding & RELATIVE) !== 0) return undefined
    const number = this.number(encoding)
    if (number === undefined) return undefined
    const { value, width, signed } = number
    return { address, width, signed, relative, target: wrapAddress(relative ? address + value : value) }
  }
}

interface Common {
  readonly code: number
  readonly language: number
  readonly augmented: boolean
  readonly personality: FramePointer | undefined
}
const UNKNOWN: Common = { code: OMITTED, language: OMITTED, augmented: false, personality: undefined }

function readCommon(cursor: Cursor): Common {
  const version = cursor.byte()
  if (version !== 1 && version !== 3) return UNKNOWN
  let letters = ''
  for (let byte = cursor.byte(); byte !== 0; byte = cursor.byte()) {
    letters += String.fromCharCode(byte)
    if (letters.length > LONGEST_AUGMENTATION) return UNKNOWN
  }
  if (letters !== '' && letters[0] !== 'z') return UNKNOWN
  cursor.skipLeb()
  cursor.skipLeb()
  if (version === 1) cursor.byte()
  else cursor.skipLeb()
  if (letters === '') return { code: 0, language: OMITTED, augmented: false, personality: undefined }
  cursor.skipLeb()
  let [code, language] = [0, OMITTED]
  let personality: FramePointer | undefined
  for (const letter of letters.slice(1)) {
    if (letter === 'R') code = cursor.byte()
    else if (letter === 'L') language = cursor.byte()
    else if (letter === 'P') {
      personality = cursor.pointer(cursor.byte())
      if (personality === undefined) return UNKNOWN
    } else if (letter !== 'S' && letter !== 'B') return UNKNOWN
  }
  return { code, language, augmented: true, personality }
}

function readEntry(cursor: Cursor, common: Common): FrameEntry {
  const start = cursor.pointer(common.code)
  const length = cursor.number(common.code & 7)
  if (start === undefined || length === undefined) return { range: undefined, pointers: [] }
  if (common.augmented) cursor.skipLeb()
  const language = common.augmented ? cursor.pointer(common.language) : undefined
  // A missing one is 0, whatever it is relative to; entries for code that was dropped have length 0.
  const missing = language === undefined || language.target === (language.relative ? language.address : 0n)
  const range = length.value === 0n ? undefined : { start: start.target, end: start.target + length.value }
  return { range, pointers: missing ? [start] : [start, language] }
}

/** An entry at `at`: where its CIE pointer is, and where the next begins; undefined at the end and where it is damaged. */
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
    return readCommon(new Cursor(view, entry.id + 4, entry.next, bias))
  }
  // Only the last CIE is kept: entries follow theirs, and a file that says otherwise costs time, not memory.
  let last = -1
  let common = UNKNOWN
  for (let at = start, entry = entryAt(view, at, end); entry !== undefined; entry = entryAt(view, at, end)) {
    const { id, next } = entry
    const back = view.getUint32(id, true)
    const owner = back === 0 ? at : id - back
    if (owner !== last) common = commonAt((last = owner))
    if (back !== 0) yield readEntry(new Cursor(view, id + 4, next, bias), common)
    else if (common.personality !== undefined) yield { range: undefined, pointers: [common.personality] }
    at = next
  }
}

/** Where .eh_frame begins, by the pointer in .eh_frame_hdr at `[start, end)` of `view`, which is at `address`; or undefined. */
export function frameAddress(
  view: DataView,
  start: number,
  end: number,
  address: bigint,
): bigint | undefined {
  if (end - start < 4 || view.getUint8(start) !== 1) return undefined
  return new Cursor(view, start + 4, end, address - BigInt(start)).pointer(view.getUint8(start + 1))?.target
}
