/**
 * Collects sites and makes a table of them: decides what each end moves with, drops what no covered move
 * could change, and puts each into the columns of its group. Addresses come in as distances from the blob's
 * base, exact as numbers below 2^53, and are kept as two 32-bit halves: no bigint per site.
 */
import { ADDRESS_LIMIT, type AddressLike, hex, toOffset, wrapAddress } from '../core/address.ts'
import { toBytes, viewOf } from '../core/bytes.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import {
  type AddressRange,
  findRange,
  formatRange,
  type MovedRange,
  rangeOfTarget,
  sortDisjoint,
  toRange,
} from '../core/range.ts'
import { ColumnBuilder } from './columns.ts'
import { FIXED, measureGroup, type Place, type SiteGroup, type SplitSite } from './groups.ts'
import { canonicalHash } from './hash.ts'
import { EIP32, KIND_ROWS, SPLIT } from './kinds.ts'
import { addressLevel, packEvidence, type SplitPiece } from './site.ts'
import { checkPieces, joinPieces } from './split.ts'
import { RelocationTable } from './table.ts'

export interface BlobOptions {
  /** Address of byte 0. */
  readonly base: AddressLike
  /** Bytes of the moved range, where it is longer than the bytes given (zero-initialised data behind them). */
  readonly span?: number | undefined
  /** Other ranges that later moves may touch. */
  readonly moved?: readonly MovedRange[] | undefined
}

/** A blob's place, checked. */
export interface Blob {
  readonly base: bigint
  readonly length: number
  /** Bytes of its own range: at least `length`, at least 1. */
  readonly span: number
  /** Every range that may move, ascending; `covered[own]` is the blob's own. */
  readonly covered: readonly AddressRange[]
  readonly own: number
}

/** Checks where a blob lies and what may move; throws `bad-argument`. */
export function toBlob(code: Uint8Array, options: BlobOptions): Blob {
  return placeBlob(toBytes(code, 'code').length, options)
}

/** The same for `length` bytes that are not at hand. */
export function placeBlob(length: number, options: BlobOptions): Blob {
  if (length >= 2 ** 32)
    throw new RelocError('bad-argument', `The code has ${length} bytes: a blob is smaller than 4 GiB.`)
  const span = Math.max(options.span === undefined ? length : toOffset(options.span, 'span'), 1)
  if (span < length)
    throw new RelocError(
      'bad-argument',
      `span is ${span}, the code has ${length} bytes: all of the code moves, so the moved range is at least as long.`,
    )
  const range = toRange(options.base, span, 'the blob')
  const moved = (options.moved ?? [])
    .map((other, i) => toRange(other.start, other.length, `moved[${i}]`))
    .filter((other) => other.start !== range.start || other.end !== range.end)
  const covered = sortDisjoint([range, ...moved], 'the ranges that may move')
  return { base: range.start, length, span, covered, own: covered.indexOf(range) }
}

/** The covered ranges do not overlap where they are now either; throws `bad-argument`. */
export function checkShifts({ covered }: Blob, shifts: readonly bigint[]): void {
  sortDisjoint(
    covered.map(({ start, end }, i) => toRange(wrapAddress(start + shifts[i]), end - start, 'a range')),
    'the covered ranges, where they are now',
  )
}

interface BuiltGroup {
  readonly kind: number
  readonly target: Place
  readonly anchor: Place
  readonly columns: ColumnBuilder
}

/** The code evidence at offsets, where it was not known when the fields were added. */
export interface CodeLevels {
  at(offset: number): number
}

export class TableBuilder {
  readonly blob: Blob
  readonly #code: Uint8Array
  readonly #baseLow: number
  readonly #baseHigh: number
  readonly #alone: boolean
  readonly #groups = new Map<number, BuiltGroup>()
  /** Where the last site went: the next one goes there too, mostly. */
  #last: BuiltGroup | undefined
  readonly #splits: SplitSite[] = []

  constructor(code: Uint8Array, blob: Blob) {
    this.#code = code
    this.blob = blob
    this.#baseLow = Number(blob.base & 0xffff_ffffn)
    this.#baseHigh = Number(blob.base >> 32n)
    this.#alone = blob.covered.length === 1
  }

  /**
   * Adds a site that is relative to the next instruction.
   * @param distance target - base, exact
   * @param tail bytes between the field's end and the instruction's end
   */
  addRelative(
    offset: number,
    kind: number,
    distance: number,
    evidence: number,
    tail: number,
    endInside: boolean,
  ): void {
    const low = this.#baseLow + distance
    this.#add(
      offset,
      kind,
      low >>> 0,
      (this.#baseHigh + Math.floor(low / 2 ** 32)) >>> 0,
      evidence,
      tail,
      endInside,
    )
  }

  /** Adds an absolute site whose target's two halves are given, unsigned. */
  addAbsolute(offset: number, kind: number, low: number, high: number, evidence: number): void {
    this.#add(offset, kind, low, high, evidence, 0, true)
  }

  /**
   * Adds a site of either sort for a target of any address; `endInside`: a target at a range's very end moves
   * with that range.
   */
  addTarget(
    offset: number,
    kind: number,
    target: bigint,
    evidence: number,
    tail: number,
    endInside: boolean,
  ): void {
    this.#add(offset, kind, Number(target & 0xffff_ffffn), Number(target >> 32n), evidence, tail, endInside)
  }

  /**
   * Adds a site that is relative to the next instruction and whose target moves with nothing, wherever it
   * points: an offset into a segment.
   */
  addFixed(offset: number, kind: number, target: bigint, evidence: number, tail: number): void {
    const [low, high] = [Number(target & 0xffff_ffffn), Number(target >> 32n)]
    this.#group(kind, FIXED, this.blob.own)?.columns.add(offset, low, high, tail, evidence)
  }

  /** Adds a difference: `target - anchor + addend`. */
  addDifference(offset: number, kind: number, target: bigint, anchor: bigint, evidence: number): void {
    const [low, high] = [Number(target & 0xffff_ffffn), Number(target >> 32n)]
    const group = this.#group(kind, this.#place(low, high, true), findRange(this.blob.covered, anchor))
    group?.columns.addAgainst(anchor, offset, low, high, evidence)
  }

  /** Adds an address that is spread over several fields. Throws `bad-argument`. */
  addSplit(
    pieces: readonly SplitPiece[],
    target: bigint,
    anchor: bigint | undefined,
    evidence: number,
  ): void {
    const place = rangeOfTarget(this.blob.covered, target, true)
    const against = anchor === undefined ? FIXED : findRange(this.blob.covered, anchor)
    if (place === against) return
    const checked = checkPieces(pieces, this.blob.length, 'a split site')
    this.#splits.push({
      pieces: checked,
      value: joinPieces(viewOf(this.#code), checked),
      target: place,
      anchor: against,
      targetAddress: target,
      anchorAddress: anchor,
      evidence,
    })
  }

  #add(
    offset: number,
    kind: number,
    low: number,
    high: number,
    evidence: number,
    tail: number,
    endInside: boolean,
  ): void {
    const anchor = KIND_ROWS[kind].anchor === 'next' ? this.blob.own : FIXED
    const group = this.#group(kind, this.#place(low, high, endInside), anchor)
    group?.columns.add(offset, low, high, tail, evidence)
  }

  /** The group of such sites; undefined where no move changes them. */
  #group(kind: number, target: Place, anchor: Place): BuiltGroup | undefined {
    if (target === anchor && kind !== EIP32) return undefined
    const last = this.#last
    if (last !== undefined && last.kind === kind && last.target === target && last.anchor === anchor)
      return last
    const places = this.blob.covered.length + 1
    const key = (kind * places + target + 1) * places + anchor + 1
    let group = this.#groups.get(key)
    if (group === undefined) {
      group = { kind, target, anchor, columns: new ColumnBuilder() }
      this.#groups.set(key, group)
    }
    this.#last = group
    return group
  }

  /** What an address moves with. */
  #place(low: number, high: number, endInside: boolean): Place {
    if (this.#alone) {
      const distance = this.#distance(low, high)
      const { span } = this.blob
      return distance >= 0 && (distance < span || (endInside && distance === span)) ? 0 : FIXED
    }
    return rangeOfTarget(this.blob.covered, (BigInt(high) << 32n) | BigInt(low), endInside)
  }

  /** From the base to an address. */
  #distance(low: number, high: number): number {
    return (high - this.#baseHigh) * 2 ** 32 + (low - this.#baseLow)
  }

  /** The absolute sites with targets in the blob's own range and address evidence of at least `level`, as offsets. */
  pointers(level: number): { readonly offset: number; readonly target: number }[] {
    const found: { offset: number; target: number }[] = []
    for (const { kind, columns } of this.#groups.values()) {
      if (KIND_ROWS[kind].anchor !== 'none') continue
      for (let i = 0; i < columns.count; i++) {
        if (addressLevel(columns.evidence(i)) < level) continue
        const target = this.#distance(columns.low(i), columns.high(i))
        if (target >= 0 && target < this.blob.length) found.push({ offset: columns.offset(i), target })
      }
    }
    return found.sort((a, b) => a.offset - b.offset)
  }

  /**
   * The table of all that was added. Throws `bad-argument` where two fields overlap or one leaves the blob.
   * @param code of the fields, if it was not known when they were added
   */
  finish(runs: Uint32Array, problems: readonly Problem[] = [], code?: CodeLevels): RelocationTable {
    const groups = [...this.#groups]
      .sort(([a], [b]) => a - b)
      .map(([, group]) => this.#finishGroup(group, code))
    const splits = this.#splits
      .map((split) =>
        code === undefined
          ? split
          : {
              ...split,
              evidence: packEvidence(code.at(split.pieces[0].offset), addressLevel(split.evidence)),
            },
      )
      .sort((a, b) => a.pieces[0].offset - b.pieces[0].offset)
    checkFields(this.blob, groups, splits)
    return RelocationTable.create({
      blob: this.blob,
      groups,
      splits,
      runs,
      hash: canonicalHash(this.#code, groups, splits),
      problems,
    })
  }

  #finishGroup({ kind, target, anchor, columns }: BuiltGroup, code: CodeLevels | undefined): SiteGroup {
    const finished = columns.finish()
    const { offsets, targets, tails, evidence } = finished
    const last = offsets.length - 1
    if (offsets[last] + KIND_ROWS[kind].width + tails[last] > this.blob.length)
      throw pastEnd(this.blob, kind, offsets[last])
    if (code !== undefined)
      for (let i = 0; i < offsets.length; i++)
        evidence[i] = packEvidence(code.at(offsets[i]), addressLevel(evidence[i]))
    return { kind, target, anchor, ...finished, ...measureGroup(viewOf(this.#code), kind, offsets, targets) }
  }
}

/** Every field lies in the blob, and no byte belongs to two. */
export function checkFields(blob: Blob, groups: readonly SiteGroup[], splits: readonly SplitSite[]): void {
  // One bit a byte, and a word more: a field may lie in two words.
  const taken = new Uint32Array((blob.length >>> 5) + 2)
  for (const { kind, offsets } of groups) takeFields(blob, taken, kind, offsets, KIND_ROWS[kind].width)
  for (const { pieces } of splits)
    for (const { offset, width } of pieces) takeFields(blob, taken, SPLIT, Uint32Array.of(offset), width)
}

function takeFields(blob: Blob, taken: Uint32Array, kind: number, offsets: Uint32Array, width: number): void {
  const { length } = blob
  const bits = (1 << width) - 1
  for (let i = 0; i < offsets.length; i++) {
    const offset = offsets[i]
    if (offset + width > length) throw pastEnd(blob, kind, offset)
    const word = offset >>> 5
    const bit = offset & 31
    const low = bits << bit
    const high = bit + width > 32 ? bits >>> (32 - bit) : 0
    if (((taken[word] & low) | (taken[word + 1] & high)) !== 0) throw overlap(blob, kind, offset)
    taken[word] |= low
    taken[word + 1] |= high
  }
}

const overlap = (blob: Blob, kind: number, offset: number): RelocError =>
  new RelocError(
    'bad-argument',
    `The ${KIND_ROWS[kind].name} site at offset ${hex(offset)} (address ${hex((blob.base + BigInt(offset)) % ADDRESS_LIMIT)}) overlaps another site: a byte can belong to one field only.`,
  )

const pastEnd = (blob: Blob, kind: number, offset: number): RelocError =>
  new RelocError(
    'bad-argument',
    `The ${KIND_ROWS[kind].name} site at offset ${hex(offset)} passes the end of the blob (${blob.length} bytes).`,
  )

/** For messages: the covered ranges. */
export const formatCoverage = (blob: Blob): string => blob.covered.map(formatRange).join(', ')
