/** An exact table from sites that the caller knows. */
import { type AddressLike, hex, toAddress, toOffset, wrapAddress } from '../core/address.ts'
import { viewOf } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { type BlobOptions, TableBuilder, toBlob } from './builder.ts'
import { siteValue } from './groups.ts'
import { KIND_ROWS, kindCode, type SiteKind, SPLIT } from './kinds.ts'
import {
  ADDRESS_EXACT,
  ADDRESS_NONE,
  CODE_GIVEN,
  type Evidence,
  evidenceByte,
  packEvidence,
  type SplitPiece,
} from './site.ts'
import { joinPieces } from './split.ts'
import type { CodeRun, RelocationTable } from './table.ts'

/** A site as a caller describes it. */
export interface SiteInput {
  /** Of the field, in bytes from the blob's start. For `split` it may be left out: the pieces say. */
  readonly offset?: number | undefined
  readonly kind: SiteKind
  /** The address that the value moves with; by default the address that the field's value stands for. */
  readonly target?: AddressLike | undefined
  /** diff kinds: the address that the value moves against. */
  readonly anchor?: AddressLike | undefined
  /** pc kinds: offset of the next instruction, where an immediate follows the displacement. */
  readonly end?: number | undefined
  /** `split`: the fields. */
  readonly pieces?: readonly SplitPiece[] | undefined
  /** By default `{ code: 'given', address: 'exact' }`. */
  readonly evidence?: Evidence | undefined
}

export interface FromSitesOptions extends BlobOptions {
  readonly code: Uint8Array
  /** Where the code is, if that is known too: `verify` then proves that each relative site is an operand, and that none is missing. */
  readonly runs?: readonly CodeRun[] | undefined
}

/** Checks code runs against a blob of `length` bytes; pairs of offsets, ascending by start. Throws `bad-argument`. */
export function packRuns(runs: readonly CodeRun[], length: number): Uint32Array {
  const sorted = [...runs].sort((a, b) => a.start - b.start || a.end - b.end)
  const packed = new Uint32Array(2 * sorted.length)
  sorted.forEach((run, i) => {
    toOffset(run.start, `runs[${i}].start`, length)
    toOffset(run.end, `runs[${i}].end`, length)
    if (run.start >= run.end)
      throw new RelocError('bad-argument', `runs[${i}] is empty: ${run.start} to ${run.end}.`)
    packed[2 * i] = run.start
    packed[2 * i + 1] = run.end
  })
  return packed
}

/** See `RelocationTable.fromSites`. */
export function tableFromSites(sites: Iterable<SiteInput>, options: FromSitesOptions): RelocationTable {
  const blob = toBlob(options.code, options)
  const builder = new TableBuilder(options.code, blob)
  const view = viewOf(options.code)
  let index = 0
  for (const site of sites) addSite(builder, view, site, `sites[${index++}]`)
  return builder.finish(packRuns(options.runs ?? [], options.code.length))
}

function addSite(builder: TableBuilder, view: DataView, site: SiteInput, what: string): void {
  const kind = kindCode(site.kind)
  if (kind < 0)
    throw new RelocError(
      'bad-argument',
      `${what}.kind is ${String(site.kind)}: none of ${KIND_ROWS.map((row) => row.name).join(', ')}.`,
    )
  const row = KIND_ROWS[kind]
  const evidence = siteEvidence(site, row.anchor === 'next', what)
  if (kind === SPLIT) {
    addPieces(builder, view, site, evidence, what)
    return
  }
  const offset = toOffset(site.offset ?? -1, `${what}.offset`, 2 ** 32)
  const next = site.end === undefined ? offset + row.width : toOffset(site.end, `${what}.end`)
  const tail = next - offset - row.width
  if (tail < 0 || tail > 11 || (tail > 0 && row.anchor !== 'next'))
    throw new RelocError(
      'bad-argument',
      `${what}.end is ${site.end}: the next instruction starts 0 to 11 bytes behind the field of a pc kind (offset ${hex(offset)}, ${row.width} bytes).`,
    )
  if (next > view.byteLength)
    throw new RelocError(
      'bad-argument',
      `${what}: the ${row.name} field at offset ${hex(offset)} passes the end of the blob (${view.byteLength} bytes).`,
    )
  if (row.anchor === 'address' && site.anchor === undefined)
    throw new RelocError(
      'bad-argument',
      `${what}: a ${row.name} site needs an anchor, the address that it is measured from.`,
    )
  if (row.anchor !== 'address' && site.anchor !== undefined && row.anchor === 'none')
    throw new RelocError(
      'bad-argument',
      `${what}: an absolute site has no anchor; for a difference use diff32, diff32u or diff64.`,
    )
  const start =
    row.anchor === 'none'
      ? 0n
      : row.anchor === 'next'
        ? builder.blob.base + BigInt(next)
        : toAddress(site.anchor!, `${what}.anchor`)
  const value = siteValue(view, kind, offset)
  const pointed = row.name === 'eip32' ? BigInt.asUintN(32, start + value) : wrapAddress(start + value)
  const target = site.target === undefined ? pointed : toAddress(site.target, `${what}.target`)
  // A relative field whose target is not what it points at moves with something else: only the caller's word says so.
  const level = row.anchor === 'next' && target !== pointed ? evidence | ADDRESS_EXACT : evidence
  if (row.anchor === 'address') builder.addDifference(offset, kind, target, start, evidence)
  else builder.addTarget(offset, kind, target, level, tail, row.anchor === 'none')
}

function siteEvidence(site: SiteInput, relative: boolean, what: string): number {
  if (site.evidence === undefined) return packEvidence(CODE_GIVEN, relative ? ADDRESS_NONE : ADDRESS_EXACT)
  const packed = evidenceByte(site.evidence)
  if (packed < 0)
    throw new RelocError(
      'bad-argument',
      `${what}.evidence is ${JSON.stringify(site.evidence)}: code is given, flow or guess; address exact, encoding, flow or range.`,
    )
  return packed
}

function addPieces(
  builder: TableBuilder,
  view: DataView,
  site: SiteInput,
  evidence: number,
  what: string,
): void {
  const pieces = site.pieces ?? []
  if (pieces.length === 0) throw new RelocError('bad-argument', `${what}: a split site needs its pieces.`)
  for (const piece of pieces) {
    toOffset(piece.offset, `${what}: piece offset`, view.byteLength - piece.width)
    if (![1, 2, 4, 8].includes(piece.width) || !['or', 'add', 'xor'].includes(piece.operation))
      throw new RelocError(
        'bad-argument',
        `${what}: a piece is { offset, width: 1|2|4|8, shift, operation: 'or'|'add'|'xor' }, not ${JSON.stringify(piece)}.`,
      )
    toOffset(piece.shift, `${what}: piece shift`, 63)
  }
  const anchor = site.anchor === undefined ? undefined : toAddress(site.anchor, `${what}.anchor`)
  const value = joinPieces(view, pieces)
  const target =
    site.target === undefined ? wrapAddress(value + (anchor ?? 0n)) : toAddress(site.target, `${what}.target`)
  builder.addSplit(pieces, target, anchor, evidence)
}
