/**
 * The relocation table: every site of a blob that moves of the covered ranges could change, with those ranges.
 *
 * Built once, never thrown away. A table is immutable; a move gives a new one that shares every column with
 * the old and differs in where the covered ranges are now and in the groups' value intervals, so keeping it
 * up to date costs nothing per site.
 *
 * Invariant: for every site, the field in the blob's bytes = target + shift(target) - anchor - shift(anchor)
 * + addend, where `targets` and `anchors` are addresses at building time and `shift` is how far the range
 * that each moves with has moved since.
 */
import { type AddressLike, hex, wrapAddress } from '../core/address.ts'
import { toBytes, viewOf } from '../core/bytes.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import { wrongArgument } from '../core/options.ts'
import type { AddressRange } from '../core/range.ts'
import { readTable } from './binary-read.ts'
import { writeTable } from './binary-write.ts'
import type { Blob } from './builder.ts'
import { type FromPairOptions, tableFromPair } from './from-pair.ts'
import { type FromSitesOptions, type SiteInput, tableFromSites } from './from-sites.ts'
import { FIXED, groupSum, type Place, type SiteGroup, type SplitSite } from './groups.ts'
import { canonicalHash } from './hash.ts'
import { parseTable, serializeTable, type TableJson } from './json.ts'
import { KIND_ROWS } from './kinds.ts'
import { type Site, unpackEvidence } from './site.ts'
import { joinPieces } from './split.ts'
import { heldSum, type Veneered, withReplaced } from './veneered.ts'

/** Code that decodes linearly from `start` to exactly `end`; offsets in bytes from the blob's start. */
export interface CodeRun {
  readonly start: number
  readonly end: number
}

/** @internal What a table is made of. */
export interface TableParts {
  readonly blob: Blob
  readonly groups: readonly SiteGroup[]
  readonly splits: readonly SplitSite[]
  /** Code runs as pairs of offsets, ascending by start. */
  readonly runs: Uint32Array
  readonly hash: string
  /** What the analysis found doubtful. */
  readonly problems?: readonly Problem[]
  /** How far each covered range has moved since the table was built. */
  readonly shifts?: readonly bigint[]
  /** What veneers stand in for; undefined where there are none. */
  readonly veneered?: Veneered | undefined
}

export class RelocationTable {
  /** Address of the blob's byte 0 now. */
  readonly base: bigint
  /** Bytes of the blob. */
  readonly length: number
  /** Bytes of the blob's own moved range: `length`, or more where zero-initialised data follows. */
  readonly span: number
  /** The ranges whose moves this table serves, where they are now; ascending at building time. */
  readonly coverage: readonly AddressRange[]
  /** Content hash of the canonical form (site fields zeroed): the same before and after every move. */
  readonly hash: string
  /** Number of sites. */
  readonly size: number
  /**
   * What the analysis that made the table found doubtful: warnings, at the addresses of then. Not part of the
   * serial forms.
   */
  readonly problems: readonly Problem[]
  /** @internal */
  readonly parts: Required<TableParts>

  private constructor(parts: TableParts) {
    const { blob, groups, splits } = parts
    const shifts = parts.shifts ?? blob.covered.map(() => 0n)
    this.problems = parts.problems ?? []
    this.parts = { ...parts, shifts, problems: this.problems, veneered: parts.veneered }
    this.base = wrapAddress(blob.base + shifts[blob.own])
    this.length = blob.length
    this.span = blob.span
    this.coverage = blob.covered.map(({ start, end }, i) => {
      const now = wrapAddress(start + shifts[i])
      return { start: now, end: now + (end - start) }
    })
    this.hash = parts.hash
    this.size = groups.reduce((sum, group) => sum + group.offsets.length, splits.length)
  }

  /** @internal */
  static create(parts: TableParts): RelocationTable {
    return new RelocationTable(parts)
  }

  /**
   * An exact table from sites that are known (a compiler's or a linker's records). `target` and `anchor` say
   * what the two ends move with; where they are left out they are what the field's value says. Throws
   * `bad-argument`.
   */
  static fromSites(sites: Iterable<SiteInput>, options: FromSitesOptions): RelocationTable {
    return tableFromSites(sites, options)
  }

  /**
   * An exact table from two dumps of the same code, `a` at `baseA` and `b` at `baseB`, by their differences. Throws
   * `bad-input` where a difference is no address field's.
   */
  static fromPair(
    a: Uint8Array,
    baseA: AddressLike,
    b: Uint8Array,
    baseB: AddressLike,
    options: FromPairOptions = {},
  ): RelocationTable {
    return tableFromPair(a, baseA, b, baseB, options)
  }

  /** Reads the JSON form. Throws `bad-input` where it is damaged, foreign or of another version. */
  static fromJSON(json: unknown): RelocationTable {
    return parseTable(json)
  }

  /** The JSON form; `RelocationTable.fromJSON` reads it. */
  toJSON(): TableJson {
    return serializeTable(this)
  }

  /**
   * Reads the binary form. `code` is the blob that the table describes, at its base: what the fields point at
   * is in the code alone. Throws `bad-input` where the table is damaged, foreign or of another version, and
   * `bad-table` where it belongs to other code, or to this code elsewhere.
   */
  static fromBinary(bytes: Uint8Array, code: Uint8Array): RelocationTable {
    return readTable(bytes, code)
  }

  /**
   * The binary form, one to two bytes a site; `code` is the blob as it is now. Throws `bad-table` where it is another.
   */
  toBinary(code: Uint8Array): Uint8Array {
    return writeTable(this, code)
  }

  /** The code runs that the table was made for; empty where nothing was said about code. */
  code(): CodeRun[] {
    const { runs } = this.parts
    return Array.from({ length: runs.length / 2 }, (_, i) => ({ start: runs[2 * i], end: runs[2 * i + 1] }))
  }

  /** Whether `code` is the blob that this table describes, at this or any other base. */
  matches(code: Uint8Array): boolean {
    const { groups, splits, veneered } = this.parts
    return (
      toBytes(code, 'code').length === this.length &&
      canonicalHash(withReplaced(code, veneered), groups, splits) === this.hash
    )
  }

  /** Throws `bad-table` unless `code` is the blob that this table describes, at this base. */
  check(code: Uint8Array): void {
    checkLength(code, this)
    if (!this.matches(code))
      throw new RelocError(
        'bad-table',
        'The code differs from what the table describes outside its site fields: the table belongs to another blob, or the code was changed. Analyse it again.',
      )
    const elsewhere = this.#misplaced(viewOf(withReplaced(code, this.parts.veneered)))
    if (elsewhere !== undefined)
      throw new RelocError(
        'bad-table',
        `The code is not where the table says: its ${elsewhere} fields do not hold what they hold at ${hex(this.base)}. Take the bytes that the table describes, or the table of these bytes.`,
      )
  }

  /** A kind of site whose fields do not hold what the table says. */
  #misplaced(view: DataView): string | undefined {
    const { groups, splits, veneered } = this.parts
    const group = groups.find(
      (group) => groupSum(view, group.kind, group.offsets) !== heldSum(group, veneered),
    )
    if (group !== undefined) return KIND_ROWS[group.kind].name
    return splits.some(({ pieces, value }) => joinPieces(view, pieces) !== value) ? 'split' : undefined
  }

  /** Every site, by offset, with addresses as they are now. */
  sites(): Site[] {
    const { groups, splits } = this.parts
    const sites: Site[] = []
    for (const group of groups)
      for (let i = 0; i < group.offsets.length; i++) sites.push(this.#site(group, i))
    for (const split of splits) sites.push(this.#split(split))
    return sites.sort((a, b) => a.offset - b.offset)
  }

  /** @internal How far a covered range has moved since the table was built. */
  shiftOf(place: Place): bigint {
    return place === FIXED ? 0n : this.parts.shifts[place]
  }

  /** @internal Where an address of building time that moves with `place` is now. */
  now(address: bigint, place: Place): bigint {
    return wrapAddress(address + this.shiftOf(place))
  }

  #site(group: SiteGroup, i: number): Site {
    const row = KIND_ROWS[group.kind]
    const offset = group.offsets[i]
    const site = {
      offset,
      kind: row.name,
      width: row.width,
      target: this.now(group.targets[i], group.target),
      evidence: unpackEvidence(group.evidence[i]),
    }
    if (row.anchor === 'none') return site
    const anchor =
      group.anchors === undefined
        ? wrapAddress(this.base + BigInt(offset + row.width + group.tails[i]))
        : this.now(group.anchors[i], group.anchor)
    return { ...site, anchor }
  }

  #split(split: SplitSite): Site {
    const site = {
      offset: Math.min(...split.pieces.map((piece) => piece.offset)),
      kind: 'split' as const,
      width: split.pieces.reduce((sum, piece) => sum + piece.width, 0),
      target: this.now(split.targetAddress, split.target),
      evidence: unpackEvidence(split.evidence),
      pieces: split.pieces,
    }
    return split.anchorAddress === undefined
      ? site
      : { ...site, anchor: this.now(split.anchorAddress, split.anchor) }
  }

  /** `RelocationTable(12 sites of 0x1000 bytes at 0x400000)` */
  toString(): string {
    return `RelocationTable(${this.size} sites of ${hex(this.length)} bytes at ${hex(this.base)})`
  }
}

/** `value`, if it is a table; throws `bad-argument`. */
export function toTable(value: RelocationTable, what: string): RelocationTable {
  if (value instanceof RelocationTable) return value
  throw wrongArgument(value, what, 'a RelocationTable (of analyze, fromSites, fromPair, fromJSON ...)')
}

/** Throws `bad-argument` unless these are bytes and a table, `bad-table` where the table describes more or fewer. */
export function checkLength(code: Uint8Array, table: RelocationTable): void {
  if (toBytes(code, 'code').length !== toTable(table, 'table').length)
    throw new RelocError(
      'bad-table',
      `The table describes ${table.length} bytes, the code has ${code.length}: it belongs to another blob.`,
    )
}
