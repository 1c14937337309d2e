/**
 * The binary form of a table: small enough to keep beside the code for ever. V8 spends one byte on most of
 * its relocation records, HotSpot a tenth of its code; this form one to two bytes a site.
 *
 * Sites that share kind, ends, evidence and tail form a stream, and of each site only the distance from the
 * field before it is written. What the field points at is in the code, so targets are written only where they
 * differ from what the bytes say: reading a table takes the code that it describes, where it describes it,
 * and checks that it is that.
 *
 *     "X64T"  version: 2, or 3 with veneers
 *     length  span - length  base                        of the blob when the table was built
 *     count of covered ranges, index of the blob's own, then for each: shift, and but for the own one start, length
 *     content hash: 8 bytes
 *     version 3: address and length of the veneers, for each covered range how far it moved since (signed), count of replaced instructions,
 *         then for each: offset - end of the one before, length, and the bytes that it had
 *     count of code runs, then for each: start - end of the one before (signed), length
 *     count of streams, then for each
 *         head      bits 0-3 kind, 4 targets are one constant, 5 anchors are one constant
 *         target    what targets move with: 0 nothing, n the covered range n - 1
 *         anchor    the same, for diff kinds only
 *         evidence  one byte
 *         tail      for pc kinds only
 *         count of sites, then for each: offset - end of the field before
 *         anchors   for diff kinds only: a column; by default the field's own address
 *         targets   a column; by default what the field's value says
 *     for each kind and ends that streams have, as they come first: the sum of the fields' values
 *     count of split sites, then for each: target and anchor as above, evidence, target address, 1 and anchor address or 0,
 *         value, count of pieces, and for each: offset, width + 16 * operation, shift
 *     checksum of all before: 4 bytes
 *
 *     column: the constant, if the head says so; count of exceptions, then for each: sites skipped, value - expected (signed)
 *
 * In a replaced instruction a field's value is the one that it had. Numbers are LEB128 (varint.ts). Addresses
 * are those of the time when the table was built.
 */
import { wrapAddress } from '../core/address.ts'
import { viewOf } from '../core/bytes.ts'
import { FIXED, type Place, siteValue } from './groups.ts'
import { contentHash } from './hash.ts'
import { EIP32, KIND_ROWS } from './kinds.ts'
import { ByteReader } from './varint.ts'
import { type Veneered, withReplaced } from './veneered.ts'

export const MAGIC = [0x58, 0x36, 0x34, 0x54] as const
export const VERSION = 2
export const VERSION_WITH_VENEERS = 3
export const CHECKSUM = 4
export const CONSTANT_TARGET = 16
export const CONSTANT_ANCHOR = 32
export const OPERATIONS = ['or', 'add', 'xor'] as const

/** Whether `bytes` begin like a table in binary form. */
export const isBinaryTable = (bytes: Uint8Array): boolean => MAGIC.every((byte, i) => bytes[i] === byte)

/** Bytes of the code that a table in binary form describes; throws `bad-input` where it ends before that. */
export const describedLength = (bytes: Uint8Array): number =>
  new ByteReader(bytes, MAGIC.length + 1).number(2 ** 32 - 1, 'the length')

export const bytesOfHex = (hex: string): Uint8Array =>
  Uint8Array.from({ length: hex.length / 2 }, (_, i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16))
export const checksum = (bytes: Uint8Array): Uint8Array =>
  bytesOfHex(contentHash(bytes)).subarray(0, CHECKSUM)

/** What sites of one stream share. */
export interface Stream {
  readonly kind: number
  readonly target: Place
  readonly anchor: Place
  readonly evidence: number
  readonly tail: number
}

/** The code that a table describes, and how far its ranges have moved since: says what fields point at. */
export class Pointed {
  readonly #view: DataView
  readonly #own: Place
  readonly #base: bigint
  readonly #shifts: readonly bigint[]
  readonly #veneered: Veneered | undefined
  /** Where bytes are those of a replaced instruction; empty where there are none. */
  readonly #isReplaced: Uint8Array

  /** `base`: of the blob when the table was built; `own`: its covered range. */
  constructor(
    code: Uint8Array,
    base: bigint,
    own: Place,
    shifts: readonly bigint[],
    veneered: Veneered | undefined,
  ) {
    this.#view = viewOf(withReplaced(code, veneered))
    this.#base = base
    this.#own = own
    this.#shifts = shifts
    this.#veneered = veneered
    this.#isReplaced = new Uint8Array(veneered === undefined ? 0 : code.length)
    for (const { offset, bytes } of veneered?.replaced ?? [])
      this.#isReplaced.fill(1, offset, offset + bytes.length)
  }

  /** How far `place` had moved when the field at `offset` got its value. */
  #shift(place: Place, offset: number): bigint {
    if (place === FIXED) return 0n
    return this.#shifts[place] - (this.#isReplaced[offset] === 1 ? this.#veneered!.deltas[place] : 0n)
  }
  /** The address, as it was when the table was built, that the field at `offset` says its target is. */
  target({ kind, target, anchor, tail }: Stream, offset: number, from: bigint): bigint {
    const row = KIND_ROWS[kind]
    const value = siteValue(this.#view, kind, offset)
    const start =
      row.anchor === 'none'
        ? 0n
        : row.anchor === 'next'
          ? this.#base + this.#shift(this.#own, offset) + BigInt(offset + row.width + tail)
          : from + this.#shift(anchor, offset)
    const now = kind === EIP32 ? BigInt.asUintN(32, start + value) : start + value
    return wrapAddress(now - this.#shift(target, offset))
  }
}
