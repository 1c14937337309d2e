/**
 * Collects sites in growing columns and makes a table of them: decides what each end moves with, drops what no covered
 * move could change, sorts, groups. Addresses come in as distances from the blob's base, exact as numbers below 2^53,
 * and are kept as two 32-bit halves: no bigint per site.
 */
import { ADDRESS_LIMIT, type AddressLike, hex, toOffset, wrapAddress } from '../core/address.ts'
import { toBytes, viewOf } from '../core/bytes.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import {
  type AddressRange,
  findRange,
  formatRange,
  rangeOfTarget,
  sortDisjoint,
  toRange,
} from '../core/range.ts'
import { FIXED, groupBounds, groupSum, type Place, type SiteGroup, type SplitSite } from './groups.ts'
import { canonicalHash } from './hash.ts'
import { EIP32, KIND_ROWS, SPLIT } from './kinds.ts'
import { addressLevel, packEvidence, type SplitPiece } from './site.ts'
import { checkPieces, joinPieces } from './split.ts'
import { RelocationTable } from './table.ts'

/** A range that may move, as callers give it. */
export interface MovedRange {
  readonly start: AddressLike
  readonly length: AddressLike
}

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

const grow = (column: Uint32Array, size: number): Uint32Array<ArrayBuffer> => {
  const larger = new Uint32Array(Math.max(size, 2 * column.length))
  larger.set(column)
  return larger
}

export class TableBuilder {
  readonly blob: Blob
  readonly #code: Uint8Array
  readonly #baseLow: number
  readonly #baseHigh: number
  readonly #alone: boolean
  #count = 0
  #offsets: Uint32Array<ArrayBuffer> = new Uint32Array(256)
  #low: Uint32Array<ArrayBuffer> = new Uint32Array(256)
  #high: Uint32Array<ArrayBuffer> = new Uint32Array(256)
  /** kind in bits 0-7, evidence in 8-15, tail in 16-23, end counts as inside in 24. */
  #words: Uint32Array<ArrayBuffer> = new Uint32Array(256)
  readonly #fixed = new Set<number>()
  readonly #anchors = new Map<number, bigint>()
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
    this.#push(
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
    this.#push(offset, kind, low, high, evidence, 0, true)
  }

  /** Adds a site of either sort for a target of any address; `endInside`: a target at a range's very end moves with that range. */
  addTarget(
    offset: number,
    kind: number,
    target: bigint,
    evidence: number,
    tail: number,
    endInside: boolean,
  ): void {
    this.#push(offset, kind, Number(target & 0xffff_ffffn), Number(target >> 32n), evidence, tail, endInside)
  }

  /** Adds a site that is relative to the next instruction and whose target moves with nothing, wherever it points: an offset into a segment. */
  addFixed(offset: number, kind: number, target: bigint, evidence: number, tail: number): void {
    this.#fixed.add(this.#count)
    this.addTarget(offset, kind, target, evidence, tail, false)
  }

  /** Adds a difference: `target - anchor + addend`. */
  addDifference(offset: number, kind: number, target: bigint, anchor: bigint, evidence: number): void {
    this.#anchors.set(this.#count, anchor)
    this.addTarget(offset, kind, target, evidence, 0, true)
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

  #push(
    offset: number,
    kind: number,
    low: number,
    high: number,
    evidence: number,
    tail: number,
    endInside: boolean,
  ): void {
    const i = this.#count++
    if (i >= this.#offsets.length) {
      this.#offsets = grow(this.#offsets, i + 1)
      this.#low = grow(this.#low, i + 1)
      this.#high = grow(this.#high, i + 1)
      this.#words = grow(this.#words, i + 1)
    }
    this.#offsets[i] = offset
    this.#low[i] = low
    this.#high[i] = high
    this.#words[i] = kind | (evidence << 8) | (tail << 16) | (endInside ? 1 << 24 : 0)
  }

  /** What site `i`'s target moves with. */
  #place(i: number): Place {
    if (this.#fixed.has(i)) return FIXED
    const endInside = this.#words[i] >>> 24 !== 0
    if (this.#alone) {
      const distance = (this.#high[i] - this.#baseHigh) * 2 ** 32 + (this.#low[i] - this.#baseLow)
      const { span } = this.blob
      return distance >= 0 && (distance < span || (endInside && distance === span)) ? 0 : FIXED
    }
    return rangeOfTarget(this.blob.covered, this.#target(i), endInside)
  }

  #target(i: number): bigint {
    return (BigInt(this.#high[i]) << 32n) | BigInt(this.#low[i])
  }

  #anchorPlace(i: number, kind: number): Place {
    const rule = KIND_ROWS[kind].anchor
    if (rule === 'none') return FIXED
    return rule === 'next' ? this.blob.own : findRange(this.blob.covered, this.#anchors.get(i)!)
  }

  /** The absolute sites with targets in the blob's own range and address evidence of at least `level`, as offsets. */
  pointers(level: number): { readonly offset: number; readonly target: number }[] {
    const found: { offset: number; target: number }[] = []
    for (let i = 0; i < this.#count; i++) {
      const word = this.#words[i]
      if (KIND_ROWS[word & 0xff].anchor !== 'none' || addressLevel((word >>> 8) & 0xff) < level) continue
      const target = (this.#high[i] - this.#baseHigh) * 2 ** 32 + (this.#low[i] - this.#baseLow)
      if (target >= 0 && target < this.blob.length) found.push({ offset: this.#offsets[i], target })
    }
    return found.sort((a, b) => a.offset - b.offset)
  }

  /**
   * The table of all that was added. Throws `bad-argument` where two fields overlap or one leaves the blob.
   * @param codeAt the code evidence of the field at an offset, where it was not known when the field was added
   */
  finish(
    runs: Uint32Array,
    problems: readonly Problem[] = [],
    codeAt?: (offset: number) => number,
  ): RelocationTable {
    const known = (evidence: number, offset: number): number =>
      codeAt === undefined ? evidence : packEvidence(codeAt(offset), addressLevel(evidence))
    const members = new Map<number, number[]>()
    const places = this.blob.covered.length + 1
    for (let i = 0; i < this.#count; i++) {
      const kind = this.#words[i] & 0xff
      const target = this.#place(i)
      const anchor = this.#anchorPlace(i, kind)
      if (target === anchor && kind !== EIP32) continue
      const key = (kind * places + target + 1) * places + anchor + 1
      const list = members.get(key)
      if (list === undefined) members.set(key, [i])
      else list.push(i)
    }
    const view = viewOf(this.#code)
    const groups: SiteGroup[] = []
    for (const key of [...members.keys()].sort((a, b) => a - b)) {
      const kind = Math.floor(key / places / places)
      const target = (Math.floor(key / places) % places) - 1
      const group = this.#group(view, kind, target, (key % places) - 1, members.get(key)!)
      group.evidence.forEach((evidence, i) => {
        group.evidence[i] = known(evidence, group.offsets[i])
      })
      groups.push(group)
    }
    const splits = this.#splits
      .map((split) => ({ ...split, evidence: known(split.evidence, split.pieces[0].offset) }))
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

  #group(view: DataView, kind: number, target: Place, anchor: Place, members: number[]): SiteGroup {
    const all = this.#offsets
    members.sort((a, b) => all[a] - all[b])
    const offsets = new Uint32Array(members.length)
    const tails = new Uint8Array(members.length)
    const evidence = new Uint8Array(members.length)
    const targets = new BigUint64Array(members.length)
    const halves = new Uint32Array(targets.buffer)
    const differences = KIND_ROWS[kind].anchor === 'address'
    const anchors = differences ? new BigUint64Array(members.length) : undefined
    members.forEach((member, i) => {
      offsets[i] = all[member]
      tails[i] = (this.#words[member] >>> 16) & 0xff
      evidence[i] = (this.#words[member] >>> 8) & 0xff
      halves[2 * i] = this.#low[member]
      halves[2 * i + 1] = this.#high[member]
      if (anchors !== undefined) anchors[i] = this.#anchors.get(member)!
    })
    const last = offsets.length - 1
    if (offsets[last] + KIND_ROWS[kind].width + tails[last] > this.blob.length)
      throw pastEnd(this.blob, kind, offsets[last])
    return {
      kind,
      target,
      anchor,
      offsets,
      targets,
      tails,
      anchors,
      evidence,
      bounds: groupBounds(view, kind, offsets, targets, 0n),
      sum: groupSum(view, kind, offsets),
    }
  }
}

/** Every field lies in the blob, and no byte belongs to two. */
export function checkFields(blob: Blob, groups: readonly SiteGroup[], splits: readonly SplitSite[]): void {
  const taken = new Uint8Array(Math.ceil(blob.length / 8))
  const take = (offset: number, width: number, kind: number): void => {
    if (offset + width > blob.length) throw pastEnd(blob, kind, offset)
    for (let i = offset; i < offset + width; i++) {
      if ((taken[i >>> 3] & (1 << (i & 7))) !== 0)
        throw new RelocError(
          'bad-argument',
          `The ${KIND_ROWS[kind].name} site at offset ${hex(offset)} (address ${hex((blob.base + BigInt(offset)) % ADDRESS_LIMIT)}) overlaps another site: a byte can belong to one field only.`,
        )
      taken[i >>> 3] |= 1 << (i & 7)
    }
  }
  for (const group of groups)
    for (let i = 0; i < group.offsets.length; i++)
      take(group.offsets[i], KIND_ROWS[group.kind].width, group.kind)
  for (const split of splits) for (const piece of split.pieces) take(piece.offset, piece.width, SPLIT)
}

const pastEnd = (blob: Blob, kind: number, offset: number): RelocError =>
  new RelocError(
    'bad-argument',
    `The ${KIND_ROWS[kind].name} site at offset ${hex(offset)} passes the end of the blob (${blob.length} bytes).`,
  )

/** For messages: the covered ranges. */
export const formatCoverage = (blob: Blob): string => blob.covered.map(formatRange).join(', ')
