/**
 * The JSON form of a table: for people, diffs and other programs. Addresses are `0x…` strings, as they were
 * when the table was built; `shifts` says how far each covered range has moved since. Reading it back checks
 * everything that can be checked without the code; `table.check(code)` does the rest.
 */
import { hex, toAddress } from '../core/address.ts'
import { hexBytes } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { type Blob, checkFields, checkShifts, placeBlob } from './builder.ts'
import { packRuns } from './from-sites.ts'
import { canMoveWith, FIXED, type Place, type SiteGroup, type SplitSite } from './groups.ts'
import { EIP32, KIND_ROWS, kindCode, SPLIT } from './kinds.ts'
import { Pieces } from './pieces.ts'
import {
  type AddressEvidence,
  addressLevelOf,
  type CodeEvidence,
  evidenceByte,
  type SplitPiece,
  unpackEvidence,
} from './site.ts'
import { checkPieces } from './split.ts'
import { RelocationTable } from './table.ts'
import type { Veneered } from './veneered.ts'

export const JSON_FORMAT = 'x64-reloc-table'
export const JSON_VERSION = 2

/** [offset, target, tail, code evidence, address evidence or '-', anchor of a diff kind] */
type SiteRow = readonly [number, string, number, CodeEvidence, AddressEvidence | '-', string?]

interface GroupJson {
  readonly kind: string
  /** Index into `coverage` of what targets (anchors) move with; -1: nothing. */
  readonly target: Place
  readonly anchor: Place
  /** Of the fields' values as they are now, modulo 2^64. */
  readonly sum: string
  readonly sites: readonly SiteRow[]
}

interface SplitJson {
  readonly target: Place
  readonly anchor: Place
  readonly targetAddress: string
  readonly anchorAddress?: string
  /** What the pieces hold together now. */
  readonly value: string
  readonly code: CodeEvidence
  readonly address: AddressEvidence | '-'
  readonly pieces: readonly SplitPiece[]
}

export interface TableJson {
  readonly format: typeof JSON_FORMAT
  readonly version: typeof JSON_VERSION
  readonly base: string
  readonly length: number
  readonly span: number
  readonly hash: string
  readonly coverage: readonly { readonly start: string; readonly length: string; readonly shift: string }[]
  readonly code: readonly (readonly [start: number, end: number])[]
  readonly groups: readonly GroupJson[]
  readonly splits: readonly SplitJson[]
  readonly veneers?: VeneersJson
}

/** What veneers stand in for: see `Veneered`. */
interface VeneersJson {
  readonly at: string
  readonly length: number
  readonly deltas: readonly string[]
  readonly replaced: readonly (readonly [offset: number, bytes: string])[]
}

/** See `RelocationTable.toJSON`. */
export function serializeTable(table: RelocationTable): TableJson {
  const { blob, groups, splits, shifts, veneered } = table.parts
  return {
    format: JSON_FORMAT,
    version: JSON_VERSION,
    base: hex(blob.base),
    length: blob.length,
    span: blob.span,
    hash: table.hash,
    coverage: blob.covered.map(({ start, end }, i) => ({
      start: hex(start),
      length: hex(end - start),
      shift: hex(shifts[i]),
    })),
    code: table.code().map(({ start, end }) => [start, end]),
    groups: groups.map(serializeGroup),
    splits: splits.map(serializeSplit),
    ...(veneered === undefined ? {} : { veneers: serializeVeneered(veneered) }),
  }
}

const serializeVeneered = ({ at, length, deltas, replaced }: Veneered): VeneersJson => ({
  at: hex(at),
  length,
  deltas: deltas.map(hex),
  replaced: Array.from(replaced, ({ offset, bytes }) => [offset, hexBytes(bytes)]),
})

function serializeGroup(group: SiteGroup): GroupJson {
  return {
    kind: KIND_ROWS[group.kind].name,
    target: group.target,
    anchor: group.anchor,
    sum: hex(group.sum),
    sites: Array.from(group.offsets, (offset, i): SiteRow => {
      const { code, address } = unpackEvidence(group.evidence[i])
      const row = [offset, hex(group.targets[i]), group.tails[i], code, address ?? '-'] as const
      return group.anchors === undefined ? row : [...row, hex(group.anchors[i])]
    }),
  }
}

function serializeSplit(split: SplitSite): SplitJson {
  const { code, address } = unpackEvidence(split.evidence)
  const json = {
    target: split.target,
    anchor: split.anchor,
    targetAddress: hex(split.targetAddress),
    value: hex(split.value),
    code,
    address: address ?? '-',
    pieces: split.pieces,
  } as const
  return split.anchorAddress === undefined ? json : { ...json, anchorAddress: hex(split.anchorAddress) }
}

const damaged = (what: string): RelocError =>
  new RelocError(
    'bad-input',
    `The table is damaged: ${what}. Write it again with --write-table or table.toJSON().`,
  )

/** Reads fields of an unknown value, naming the place of the first wrong one. */
class Reader {
  readonly #value: unknown
  readonly #path: string

  constructor(value: unknown, path: string) {
    this.#value = value
    this.#path = path
  }

  at(key: string | number): Reader {
    if (typeof this.#value !== 'object' || this.#value === null)
      throw damaged(`${this.#path} is not an object`)
    return new Reader(
      (this.#value as Record<string | number, unknown>)[key],
      `${this.#path}${typeof key === 'number' ? `[${key}]` : `.${key}`}`,
    )
  }
  get value(): unknown {
    return this.#value
  }
  has(key: string): boolean {
    return this.at(key).#value !== undefined
  }
  items(): Reader[] {
    if (!Array.isArray(this.#value)) throw damaged(`${this.#path} is not a list`)
    return Array.from(this.#value, (item, i) => new Reader(item, `${this.#path}[${i}]`))
  }
  text(): string {
    if (typeof this.#value !== 'string') throw damaged(`${this.#path} is not a string`)
    return this.#value
  }
  integer(min: number, max: number): number {
    const value = this.#value
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max)
      throw damaged(`${this.#path} is ${JSON.stringify(value)}, not a whole number from ${min} to ${max}`)
    return value
  }
  big(): bigint {
    const text = this.text()
    const match = /^(-?)(0x[0-9a-f]{1,17})$/.exec(text)
    if (match === null) throw damaged(`${this.#path} is ${JSON.stringify(text)}, not a 0x number`)
    return match[1] === '-' ? -BigInt(match[2]) : BigInt(match[2])
  }
  address(): bigint {
    return toAddress(this.big(), `the table's ${this.#path}`)
  }
  fail(what: string): never {
    throw damaged(`${this.#path} ${what}`)
  }
}

/** See `RelocationTable.fromJSON`. */
export function parseTable(json: unknown): RelocationTable {
  const reader = new Reader(json, 'table')
  const format = typeof json === 'object' && json !== null ? (json as { format?: unknown }).format : undefined
  if (format !== JSON_FORMAT)
    throw new RelocError(
      'bad-input',
      `This is no relocation table: its "format" is ${JSON.stringify(format)}, not "${JSON_FORMAT}".`,
    )
  const version = (json as { version?: unknown }).version
  if (version !== JSON_VERSION)
    throw new RelocError(
      'bad-input',
      `The table has version ${JSON.stringify(version)}; this program reads version ${JSON_VERSION}. Write it again with this version.`,
    )
  try {
    return parseParts(reader)
  } catch (error) {
    if (error instanceof RelocError && error.code === 'bad-argument')
      throw damaged(error.message.replace(/\.$/, ''))
    throw error
  }
}

function parseParts(reader: Reader): RelocationTable {
  const length = reader.at('length').integer(0, 2 ** 32 - 1)
  const span = reader.at('span').integer(Math.max(length, 1), Number.MAX_SAFE_INTEGER)
  const base = reader.at('base').address()
  const coverage = reader
    .at('coverage')
    .items()
    .map((item) => ({
      start: item.at('start').address(),
      length: item.at('length').big(),
      shift: item.at('shift').big(),
    }))
  const own = coverage.findIndex((range) => range.start === base && range.length === BigInt(span))
  if (own < 0) reader.fail('has no covered range that is the blob itself')
  const blob = placeBlob(length, { base, span, moved: coverage.filter((_, i) => i !== own) })
  if (
    blob.covered.length !== coverage.length ||
    blob.covered.some((range, i) => range.start !== coverage[i].start)
  )
    reader.fail('lists its covered ranges out of order')
  const shifts = coverage.map((range) => BigInt.asIntN(64, range.shift))
  checkShifts(blob, shifts)
  const groups = reader
    .at('groups')
    .items()
    .map((item) => parseGroup(item, blob))
  const splits = reader
    .at('splits')
    .items()
    .map((item) => parseSplit(item, blob))
  checkFields(blob, groups, splits)
  const runs = reader
    .at('code')
    .items()
    .map((item) => ({ start: item.at(0).integer(0, length), end: item.at(1).integer(0, length) }))
  const hash = reader.at('hash').text()
  if (!/^[0-9a-f]{16}$/.test(hash)) reader.at('hash').fail('is not 16 hex digits')
  return RelocationTable.create({
    blob,
    groups,
    splits,
    runs: packRuns(runs, length),
    hash,
    shifts,
    veneered: reader.has('veneers') ? parseVeneered(reader.at('veneers'), blob) : undefined,
  })
}

function parseVeneered(reader: Reader, blob: Blob): Veneered {
  let end = 0
  const replaced = reader
    .at('replaced')
    .items()
    .map((item) => {
      const text = item.at(1).text()
      if (!/^([0-9a-f]{2}){2,15}$/.test(text)) item.fail('holds no instruction')
      const bytes = Uint8Array.from(text.match(/../g)!, (byte) => Number.parseInt(byte, 16))
      const offset = item.at(0).integer(end, blob.length - bytes.length)
      end = offset + bytes.length
      return { offset, bytes }
    })
  const deltas = reader
    .at('deltas')
    .items()
    .map((item) => BigInt.asIntN(64, item.big()))
  if (deltas.length !== blob.covered.length) reader.fail('does not say how far each covered range has moved')
  const length = reader.at('length').integer(0, 2 ** 31)
  return { at: reader.at('at').address(), length, deltas, replaced: Pieces.from(replaced) }
}

function parsePlaces(reader: Reader, blob: Blob): { target: Place; anchor: Place } {
  const last = blob.covered.length - 1
  return {
    target: reader.at('target').integer(FIXED, last),
    anchor: reader.at('anchor').integer(FIXED, last),
  }
}

/** A field that is not relative to the next instruction is an address by some evidence. */
function parseEvidence(code: Reader, address: Reader, relative: boolean): number {
  const word = address.text()
  if (word === '-' ? !relative : addressLevelOf(word) < 0) address.fail(`is ${JSON.stringify(word)}`)
  const level = { code: code.text() as CodeEvidence }
  const packed = evidenceByte(word === '-' ? level : { ...level, address: word as AddressEvidence })
  return packed < 0 ? code.fail('is no evidence level') : packed
}

function parseGroup(reader: Reader, blob: Blob): SiteGroup {
  const kind = kindCode(reader.at('kind').text())
  if (kind < 0 || kind === SPLIT) reader.at('kind').fail('is no site kind')
  const row = KIND_ROWS[kind]
  const places = parsePlaces(reader, blob)
  const expected = row.anchor === 'none' ? FIXED : row.anchor === 'next' ? blob.own : places.anchor
  if (places.anchor !== expected || (places.target === places.anchor && kind !== EIP32))
    reader.fail(`moves ${row.name} sites with the wrong ranges`)
  const rows = reader.at('sites').items()
  const offsets = Uint32Array.from(rows, (item) => item.at(0).integer(0, blob.length - row.width))
  if (offsets.some((offset, i) => i > 0 && offset <= offsets[i - 1]))
    reader.at('sites').fail('is not sorted by offset')
  const tails = Uint8Array.from(rows, (item, i) =>
    item.at(2).integer(0, Math.min(11, blob.length - row.width - offsets[i])),
  )
  const relative = row.anchor === 'next'
  return {
    kind,
    ...places,
    offsets,
    tails,
    targets: BigUint64Array.from(rows, (item) => parseEnd(item.at(1), places.target, blob, relative)),
    anchors:
      row.anchor === 'address'
        ? BigUint64Array.from(rows, (item) => parseEnd(item.at(5), places.anchor, blob, false))
        : undefined,
    evidence: Uint8Array.from(rows, (item) => parseEvidence(item.at(3), item.at(4), relative)),
    bounds: undefined,
    sum: reader.at('sum').address(),
  }
}

/** An address that is said to move with `place`. */
function parseEnd(reader: Reader, place: Place, blob: Blob, relative: boolean): bigint {
  const address = reader.address()
  if (canMoveWith(blob.covered, address, place, relative)) return address
  return reader.fail(`is ${hex(address)}, which does not move with what its group says`)
}

function parseSplit(reader: Reader, blob: Blob): SplitSite {
  const pieces = checkPieces(reader.at('pieces').value as readonly SplitPiece[], blob.length, 'a split site')
  const places = parsePlaces(reader, blob)
  const anchored = reader.has('anchorAddress')
  if (places.target === places.anchor || (!anchored && places.anchor !== FIXED))
    reader.fail('moves with the wrong ranges')
  return {
    pieces,
    ...places,
    targetAddress: parseEnd(reader.at('targetAddress'), places.target, blob, false),
    anchorAddress: anchored ? parseEnd(reader.at('anchorAddress'), places.anchor, blob, false) : undefined,
    evidence: parseEvidence(reader.at('code'), reader.at('address'), false),
    value: reader.at('value').address(),
  }
}
