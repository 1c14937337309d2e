/**
 * Reads the binary form of a table; its layout is drawn in binary.ts. Nothing in it is trusted but what the
 * checks let through.
 */
import { hex, wrapAddress } from '../core/address.ts'
import { hexBytes, isTypedArray, toBytes } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import {
  CHECKSUM,
  CONSTANT_ANCHOR,
  CONSTANT_TARGET,
  checksum,
  isBinaryTable,
  OPERATIONS,
  Pointed,
  type Stream,
  VERSION,
  VERSION_WITH_VENEERS,
} from './binary.ts'
import { type Blob, checkFields, checkShifts, placeBlob } from './builder.ts'
import { sortColumns } from './columns.ts'
import { packRuns } from './from-sites.ts'
import { canMoveWith, FIXED, type Place, type SiteGroup, type SplitSite } from './groups.ts'
import { EIP32, KIND_ROWS, SPLIT } from './kinds.ts'
import { type Piece, Pieces } from './pieces.ts'
import { ADDRESS_NONE, addressLevel, isEvidence, type SplitPiece } from './site.ts'
import { checkPieces } from './split.ts'
import { type CodeRun, RelocationTable } from './table.ts'
import { ByteReader, damagedTable } from './varint.ts'
import type { Veneered } from './veneered.ts'

interface OpenTable {
  /** Behind the version. */
  readonly input: ByteReader
  readonly hasVeneers: boolean
}

/** The contents of a table whose head and checksum are right. */
function openTable(bytes: Uint8Array): OpenTable {
  if (!isTypedArray(bytes, 'Uint8Array') || !isBinaryTable(bytes))
    throw new RelocError(
      'bad-input',
      'This is no relocation table in binary form: it does not begin with "X64T".',
    )
  const hasVeneers = bytes[4] === VERSION_WITH_VENEERS
  if (bytes[4] !== VERSION && !hasVeneers)
    throw new RelocError(
      'bad-input',
      `The table has version ${bytes[4]}; this program reads versions ${VERSION} and ${VERSION_WITH_VENEERS}. Write it again with this program.`,
    )
  const end = bytes.length - CHECKSUM
  if (end < 5 || hexBytes(checksum(bytes.subarray(0, end))) !== hexBytes(bytes.subarray(end)))
    throw damagedTable('its checksum does not fit its contents')
  return { input: new ByteReader(bytes.subarray(0, end), 5), hasVeneers }
}

const readLength = (input: ByteReader): number => input.number(2 ** 32 - 1, 'the length')

/** Where a table in binary form says that its code is. Throws `bad-input`. */
export function binaryTableBase(bytes: Uint8Array): bigint {
  const { input } = openTable(bytes)
  const { blob, shifts } = readBlob(input, readLength(input))
  return wrapAddress(blob.base + shifts[blob.own])
}

/** See `RelocationTable.fromBinary`. */
export function readTable(bytes: Uint8Array, code: Uint8Array): RelocationTable {
  const open = openTable(bytes)
  toBytes(code, 'code')
  try {
    const table = readParts(open, code)
    table.check(code)
    checkEnds(table)
    return table
  } catch (error) {
    if (error instanceof RelocError && error.code === 'bad-argument')
      throw damagedTable(error.message.replace(/\.$/, ''))
    throw error
  }
}

function readParts({ input, hasVeneers }: OpenTable, code: Uint8Array): RelocationTable {
  const length = readLength(input)
  if (length !== code.length)
    throw new RelocError(
      'bad-table',
      `The table describes ${length} bytes, the code has ${code.length}: it belongs to another blob.`,
    )
  const { blob, shifts } = readBlob(input, length)
  const hash = hexBytes(input.raw(8))
  const veneered = hasVeneers ? readVeneered(input, blob) : undefined
  const runs = readRuns(input, length)
  const pointed = new Pointed(code, blob.base, blob.own, shifts, veneered)
  const groups = readGroups(input, blob, pointed)
  const splits = Array.from({ length: input.number(input.left, 'the number of split sites') }, () =>
    readSplit(input, blob),
  )
  if (input.left > 0) throw damagedTable(`${input.left} bytes are left over`)
  checkFields(blob, groups, splits)
  return RelocationTable.create({
    blob,
    groups,
    splits,
    runs: packRuns(runs, length),
    hash,
    shifts,
    veneered,
  })
}

function readVeneered(input: ByteReader, blob: Blob): Veneered {
  const at = input.wide('the address of the veneers')
  const length = input.number(2 ** 31, 'the length of the veneers')
  const deltas = blob.covered.map(() => input.signed('how far a range has moved'))
  let before = 0
  const replaced = Array.from(
    { length: input.number(input.left, 'the number of replaced instructions') },
    (): Piece => {
      const offset = before + input.number(blob.length, 'the offset of an instruction')
      const bytes = input.raw(input.number(15, 'the length of an instruction'))
      before = offset + bytes.length
      if (bytes.length < 2 || before > blob.length) throw damagedTable('a replaced instruction is none')
      return { offset, bytes }
    },
  )
  return { at, length, deltas, replaced: Pieces.from(replaced) }
}

function readBlob(input: ByteReader, length: number): { blob: Blob; shifts: bigint[] } {
  const span = length + input.number(Number.MAX_SAFE_INTEGER - length, 'the span')
  const base = input.wide('the base')
  const count = input.number(input.left, 'the number of covered ranges')
  const own = input.number(count - 1, "the index of the blob's own range")
  const shifts: bigint[] = []
  const moved: { start: bigint; length: bigint }[] = []
  for (let i = 0; i < count; i++) {
    shifts.push(input.signed('a shift'))
    if (i !== own) moved.push({ start: input.wide('a covered range'), length: input.wide('a covered range') })
  }
  const blob = placeBlob(length, { base, span, moved })
  const ordered = blob.covered.filter((_, i) => i !== own).every(({ start }, i) => start === moved[i].start)
  if (blob.own !== own || blob.covered.length !== count || !ordered)
    throw damagedTable('its covered ranges are out of order')
  checkShifts(blob, shifts)
  return { blob, shifts }
}

function readRuns(input: ByteReader, length: number): CodeRun[] {
  let before = 0
  return Array.from({ length: input.number(input.left, 'the number of code runs') }, () => {
    const start = before + Number(input.signed('the start of a code run'))
    before = start + input.number(length, 'the length of a code run')
    return { start, end: before }
  })
}

/** A stream with its columns. */
interface StreamSites extends Stream {
  readonly offsets: Uint32Array
  readonly targets: BigUint64Array
  readonly anchors: BigUint64Array | undefined
}

function readGroups(input: ByteReader, blob: Blob, pointed: Pointed): SiteGroup[] {
  const members = new Map<string, StreamSites[]>()
  for (let rest = input.number(input.left, 'the number of streams'); rest > 0; rest--) {
    const stream = readStream(input, blob, pointed)
    const key = `${stream.kind} ${stream.target} ${stream.anchor}`
    const list = members.get(key)
    if (list === undefined) members.set(key, [stream])
    else list.push(stream)
  }
  return [...members.values()].map((streams) => ({ ...joinStreams(streams), sum: input.wide('a sum') }))
}

function readPlace(input: ByteReader, blob: Blob): Place {
  return input.number(blob.covered.length, 'a covered range') - 1
}

/** A field that is not relative to the next instruction is an address by some evidence. */
function readEvidence(input: ByteReader, relative: boolean): number {
  const evidence = input.byte()
  if (!isEvidence(evidence) || (!relative && addressLevel(evidence) === ADDRESS_NONE))
    throw damagedTable(`${evidence} is no evidence for a site`)
  return evidence
}

/**
 * What targets are follows from the code in part, so this can be asked only of code that is known to be the right one.
 */
function checkEnds({ parts: { blob, groups } }: RelocationTable): void {
  for (const { kind, target, anchor, targets, anchors } of groups) {
    for (const address of targets) checkEnd(blob, target, address, KIND_ROWS[kind].anchor === 'next')
    for (const address of anchors ?? []) checkEnd(blob, anchor, address, false)
  }
}

function checkEnd(blob: Blob, place: Place, address: bigint, relative: boolean): bigint {
  if (canMoveWith(blob.covered, address, place, relative)) return address
  throw damagedTable(`${hex(address)} does not move with what its stream says`)
}

function readStream(input: ByteReader, blob: Blob, pointed: Pointed): StreamSites {
  const head = input.number(63, 'the head of a stream')
  const kind = head & 15
  const row = KIND_ROWS[kind]
  if (row === undefined || kind === SPLIT) throw damagedTable(`${kind} is no kind of site`)
  const target = readPlace(input, blob)
  const anchor = row.anchor === 'none' ? FIXED : row.anchor === 'next' ? blob.own : readPlace(input, blob)
  if (target === anchor && kind !== EIP32) throw damagedTable(`its ${row.name} sites never change`)
  const relative = row.anchor === 'next'
  const evidence = readEvidence(input, relative)
  const tail = relative ? input.number(11, 'a tail') : 0
  const stream = { kind, target, anchor, evidence, tail }
  const offsets = readOffsets(input, blob, stream)
  const anchors =
    row.anchor === 'address'
      ? readColumn(
          input,
          offsets.length,
          (head & CONSTANT_ANCHOR) !== 0,
          (i) => blob.base + BigInt(offsets[i]),
        )
      : undefined
  const targets = readColumn(input, offsets.length, (head & CONSTANT_TARGET) !== 0, (i) =>
    pointed.target(stream, offsets[i], anchors?.[i] ?? 0n),
  )
  return { ...stream, offsets, targets, anchors }
}

function readOffsets(input: ByteReader, blob: Blob, { kind, tail }: Stream): Uint32Array {
  const { name, width } = KIND_ROWS[kind]
  let free = 0
  return new Uint32Array(input.number(input.left, 'the number of sites')).map(() => {
    const offset = free + input.number(blob.length, 'an offset')
    free = offset + width
    if (free + tail > blob.length) throw damagedTable(`a ${name} site passes the end of the blob`)
    return offset
  })
}

function readColumn(
  input: ByteReader,
  length: number,
  isConstant: boolean,
  expected: (i: number) => bigint,
): BigUint64Array {
  const values = new BigUint64Array(length)
  const constant = isConstant ? input.wide('a column') : undefined
  for (let i = 0; i < length; i++) values[i] = constant ?? expected(i)
  let at = -1
  for (let rest = input.number(length, 'the number of exceptions'); rest > 0; rest--) {
    at += 1 + input.number(length, 'an exception')
    if (at >= length) throw damagedTable('an exception is about no site')
    values[at] += input.signed('an exception')
  }
  return values
}

/** Streams of one kind and direction as one group, by offset. */
function joinStreams(streams: readonly StreamSites[]): Omit<SiteGroup, 'sum'> {
  const { kind, target, anchor, anchors: first } = streams[0]
  const count = streams.reduce((sum, { offsets }) => sum + offsets.length, 0)
  const offsets = new Uint32Array(count)
  const targets = new BigUint64Array(count)
  const anchors = first && new BigUint64Array(count)
  const [tails, evidence] = [new Uint8Array(count), new Uint8Array(count)]
  let at = 0
  for (const stream of streams) {
    const end = at + stream.offsets.length
    offsets.set(stream.offsets, at)
    targets.set(stream.targets, at)
    anchors?.set(stream.anchors!, at)
    tails.fill(stream.tail, at, end)
    evidence.fill(stream.evidence, at, end)
    at = end
  }
  const columns = { offsets, targets, tails, anchors, evidence }
  const ascending = streams.length === 1 ? columns : sortColumns(columns)
  return { kind, target, anchor, ...ascending, bounds: undefined }
}

function readSplit(input: ByteReader, blob: Blob): SplitSite {
  const [target, anchor] = [readPlace(input, blob), readPlace(input, blob)]
  const evidence = readEvidence(input, false)
  const targetAddress = checkEnd(blob, target, input.wide('an address'), false)
  const anchored = input.byte() === 1
  const anchorAddress = anchored ? checkEnd(blob, anchor, input.wide('an address'), false) : undefined
  const value = input.wide('a value')
  if (target === anchor || (!anchored && anchor !== FIXED))
    throw damagedTable('a split site moves with the wrong ranges')
  const pieces = Array.from({ length: input.number(input.left, 'the number of pieces') }, () =>
    readPiece(input),
  )
  return {
    pieces: checkPieces(pieces, blob.length, 'a split site'),
    target,
    anchor,
    targetAddress,
    anchorAddress,
    evidence,
    value,
  }
}

function readPiece(input: ByteReader): SplitPiece {
  const offset = input.number(2 ** 32, 'an offset')
  const form = input.byte()
  return {
    offset,
    width: (form & 15) as SplitPiece['width'],
    operation: OPERATIONS[form >> 4],
    shift: input.byte(),
  }
}
