/**
 * An exact table from two dumps of the same code at two bases.
 *
 * With delta = baseB - baseA every changed field satisfies b = a + delta (absolute) or b = a - delta
 * (relative to something that stayed). The lowest byte that such an addition changes is the lowest non-zero
 * byte of delta, so the first differing byte fixes where its field starts: there is nothing to search for.
 * What the difference cannot tell is whether four bytes that did not change belong to the field before them;
 * then the narrow reading is taken, because its range check refuses where the wide one would corrupt the
 * bytes behind, except where all eight bytes are an address in the blob. (A 64-bit difference so small is the
 * price: it is taken for a 32-bit one.)
 */
import { type AddressLike, hex, signedDelta, toAddress } from '../core/address.ts'
import { hexBytes, readField, toBytes, viewOf } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { optionsRule } from '../core/options.ts'
import { type BlobOptions, TableBuilder, toBlob } from './builder.ts'
import { packRuns } from './from-sites.ts'
import { siteValue } from './groups.ts'
import { ABS32, ABS32S, ABS64, DIFF64, fieldValue, KIND_ROWS, PC8, PC16, PC32 } from './kinds.ts'
import { BLOB_RULES, RUNS_RULE } from './rules.ts'
import { ADDRESS_EXACT, CODE_GIVEN, packEvidence } from './site.ts'
import type { CodeRun, RelocationTable } from './table.ts'

/**
 * No `moved`: what two places of the blob differ in says nothing about other ranges, so the table serves
 * moves of the blob alone.
 */
export interface FromPairOptions extends Pick<BlobOptions, 'span'> {
  /** Where the code is, if that is known. */
  readonly runs?: readonly CodeRun[] | undefined
}

const checkOptions = optionsRule<FromPairOptions>('fromPair', {
  span: BLOB_RULES.span,
  runs: RUNS_RULE,
})

/** See `RelocationTable.fromPair`. */
export function tableFromPair(
  a: Uint8Array,
  baseA: AddressLike,
  b: Uint8Array,
  baseB: AddressLike,
  options: FromPairOptions,
): RelocationTable {
  const { span, runs = [] } = checkOptions(options)
  const blob = toBlob(a, { span, base: toAddress(baseA, 'baseA') })
  const delta = signedDelta(blob.base, toAddress(baseB, 'baseB'))
  if (a.length !== toBytes(b, 'b').length)
    throw new RelocError(
      'bad-input',
      `The dumps differ in length (${a.length} and ${b.length} bytes): they are not the same code.`,
    )
  if (delta === 0n)
    throw new RelocError(
      'bad-argument',
      `Both dumps are at ${hex(blob.base)}: two bases are needed to tell addresses from numbers.`,
    )
  const builder = new TableBuilder(a, blob)
  const lowest = lowestByte(delta)
  const [before, after] = [viewOf(a), viewOf(b)]
  let free = 0
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i]) continue
    const offset = i - lowest
    const kind = offset >= free ? pairKind(before, after, offset, delta, blob.base, BigInt(blob.span)) : -1
    if (kind === AMBIGUOUS) throw ambiguous(i, blob.base, delta)
    if (kind < 0) throw difference(a, b, i, blob.base, delta)
    addPairSite(builder, before, offset, kind)
    free = offset + KIND_ROWS[kind].width
    i = free - 1
  }
  return builder.finish(packRuns(runs, a.length))
}

/** Index of the lowest non-zero byte. */
function lowestByte(delta: bigint): number {
  let index = 0
  while ((BigInt.asUintN(64, delta) >> BigInt(8 * index)) % 256n === 0n) index++
  return index
}

/** A field that may as well be absolute as relative: delta and -delta change its bits alike. */
const AMBIGUOUS = -2

/** The kind that explains the change of the field at `offset`, -1, or `AMBIGUOUS`. */
function pairKind(
  before: DataView,
  after: DataView,
  offset: number,
  delta: bigint,
  base: bigint,
  span: bigint,
): number {
  const explains = (kind: number, change: bigint): boolean => {
    const row = KIND_ROWS[kind]
    if (offset < 0 || offset + row.width > before.byteLength) return false
    const [old, now] = [readField(before, offset, row.width), readField(after, offset, row.width)]
    if (row.width === 8) return BigInt.asUintN(64, old + change) === now
    return fieldValue(row, old) + change === fieldValue(row, now)
  }
  const pointsInside = (kind: number): boolean =>
    BigInt.asUintN(64, siteValue(before, kind, offset) - base) <= span
  const wide = [ABS64, DIFF64].find((kind) => explains(kind, kind === ABS64 ? delta : -delta))
  // Sign-extended, whose range is the narrower one for addresses, unless only the other reading is an address
  // in the blob.
  const narrow = [ABS32S, ABS32].filter((kind) => explains(kind, delta))
  const absolute = narrow.find(pointsInside) ?? narrow[0]
  if (wide !== undefined) {
    const changes = readField(before, offset + 4, 4) !== readField(after, offset + 4, 4)
    if (changes || (wide === ABS64 && (pointsInside(ABS64) || absolute === undefined))) return wide
  }
  const near = relativeKind(before, offset)
  const relative = explains(near, -delta) ? near : -1
  if (absolute !== undefined && relative >= 0) return AMBIGUOUS
  return absolute ?? (relative < 0 && wide !== undefined ? wide : relative)
}

/**
 * Which relative field starts at `offset`, by the byte before it: a short branch's opcode (Jcc, LOOPcc,
 * JrCXZ, JMP) is neither the opcode of a near one nor a RIP-relative ModRM byte, so the two cannot be mixed
 * up.
 */
function relativeKind(code: DataView, offset: number): number {
  const byte = (back: number): number => (offset < back ? 0 : code.getUint8(offset - back))
  const opcode = byte(1)
  if ((opcode & 0xf0) === 0x70 || (opcode & 0xfc) === 0xe0 || opcode === 0xeb) return PC8
  const isXbegin16 = opcode === 0xf8 && byte(2) === 0xc7 && byte(3) === 0x66
  return isXbegin16 ? PC16 : PC32
}

function addPairSite(builder: TableBuilder, view: DataView, offset: number, kind: number): void {
  const row = KIND_ROWS[kind]
  const { base } = builder.blob
  const exact = packEvidence(CODE_GIVEN, ADDRESS_EXACT)
  // Where the value names no address of the right side, the ends are named by what they move with: the blob's
  // own base, or an address outside.
  const outside = base === 0n ? BigInt(builder.blob.span) : base - 1n
  if (kind === DIFF64) builder.addDifference(offset, kind, outside, base, exact)
  else if (row.anchor === 'none') {
    const value = BigInt.asUintN(64, fieldValue(row, readField(view, offset, row.width)))
    const inside = value >= base && value < base + BigInt(builder.blob.span)
    builder.addTarget(offset, kind, inside ? value : base, exact, 0, false)
  } else {
    const pointed = BigInt.asUintN(
      64,
      base + BigInt(offset + row.width) + fieldValue(row, readField(view, offset, row.width)),
    )
    // Near enough for a report: how many bytes follow the field in its instruction is not known.
    const inside = pointed >= base && pointed < base + BigInt(builder.blob.span)
    builder.addTarget(offset, kind, inside ? outside : pointed, exact, 0, false)
  }
}

const ambiguous = (offset: number, base: bigint, delta: bigint): RelocError =>
  new RelocError(
    'bad-input',
    `At offset ${hex(offset)} (address ${hex(base + BigInt(offset))}) the dumps differ by ${hex(delta)}, which an absolute and a relative field show alike. Take the second dump at another base.`,
  )

function difference(a: Uint8Array, b: Uint8Array, offset: number, base: bigint, delta: bigint): RelocError {
  return new RelocError(
    'bad-input',
    `At offset ${hex(offset)} (address ${hex(base + BigInt(offset))}) the dumps hold ${hexBytes(a, offset, offset + 8)} and ${hexBytes(b, offset, offset + 8)}, ` +
      `which no address field that moves by ${hex(delta)} explains. Take both dumps at the same point of the run, before anything in them was written.`,
  )
}
