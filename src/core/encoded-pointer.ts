/**
 * Pointers as exception tables hold them: a byte before says how wide each is, whether it is signed and what
 * it is relative to. Format: Linux Standard Base 5.0 core, 10.5 "DWARF Extensions".
 */
import { wrapAddress } from './address.ts'
import { readField } from './bytes.ts'

/** A pointer as its field holds it. */
export interface EncodedPointer {
  /** Of the field. */
  readonly address: bigint
  readonly width: 2 | 4 | 8
  readonly signed: boolean
  /** Whether the value is relative to the field's own address. */
  readonly relative: boolean
  /** What it points at, modulo 2^64. */
  readonly target: bigint
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
/**
 * ... the next three what it is relative to; the top one (to a pointer, not to the thing) does not change
 * what the field holds.
 */
const RELATIVE = 0x70
const PC_RELATIVE = 0x10
export const OMITTED = 0xff
/** Reads fields one after another; past the end everything is 0 and every pointer missing. */
export class EncodedCursor {
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

  /** Offset of what is read next. */
  get at(): number {
    return this.#at
  }

  byte(): number {
    return this.#at < this.#end ? this.#view.getUint8(this.#at++) : 0
  }
  /** An unsigned LEB128 number, modulo 2^32. */
  uleb(): number {
    let value = 0
    for (let shift = 0, byte = 128; byte >= 128; shift += 7) {
      byte = this.byte()
      if (shift < 32) value |= (byte & 127) << shift
    }
    return value >>> 0
  }
  /** A signed LEB128 number of at most 32 bits. */
  sleb(): number {
    let value = 0
    for (let shift = 0, byte = 128; byte >= 128; ) {
      byte = this.byte()
      if (shift < 32) value |= (byte & 127) << shift
      shift += 7
      if (byte < 128 && (byte & 64) !== 0 && shift < 32) value |= -1 << shift
    }
    return value
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
  pointer(encoding: number): EncodedPointer | undefined {
    const address = this.#bias + BigInt(this.#at)
    const relative = (encoding & RELATIVE) === PC_RELATIVE
    if (!relative && (encoding & RELATIVE) !== 0) return undefined
    const number = this.number(encoding)
    if (number === undefined) return undefined
    const { value, width, signed } = number
    return { address, width, signed, relative, target: wrapAddress(relative ? address + value : value) }
  }
}
