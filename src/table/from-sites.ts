/** An exact table from sites that the caller knows. */
import { type AddressLike, hex, signedDelta, toAddress, toOffset, wrapAddress } from '../core/address.ts'
import { toBytes, viewOf } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { isRecord, iterableOf, optionsRule, wrongArgument } from '../core/options.ts'
import { type BlobOptions, TableBuilder, toBlob } from './builder.ts'
import { siteValue } from './groups.ts'
import { KIND_ROWS, kindCode, type SiteKind, SPLIT } from './kinds.ts'
import { BLOB_RULES, RUNS_RULE } from './rules.ts'
import {
  ADDRESS_EXACT,
  ADDRESS_NONE,
  CODE_GIVEN,
  codeLevel,
  type Evidence,
  evidenceByte,
  packEvidence,
  type SplitPiece,
} from './site.ts'
import { checkPieces, joinPieces } from './split.ts'
import type { CodeRun, RelocationTable } from './table.ts'

/** A site as a caller describes it. */
export interface SiteInput {
  /** Of the field, in bytes from the blob's start. For `split` it may be left out: the pieces say. */
  readonly offset?: number | undefined
  readonly kind: SiteKind
  /**
   * The address that the value moves with; by default the address that the field's value stands for. With
   * `xor` pieces it must be that address exactly. An absolute site's target at a range's very end moves with
   * the range, a relative site's does not.
   */
  readonly target?: AddressLike | undefined
  /**
   * diff kinds: the address that the value moves against. pc kinds: the next instruction's address, in place of `end`.
   */
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
  /**
   * Where the code is, if that is known too: `verify` then proves that each relative site is an operand, and
   * that none is missing.
   */
  readonly runs?: readonly CodeRun[] | undefined
}

const checkOptions = optionsRule<FromSitesOptions>('fromSites', {
  code: toBytes,
  ...BLOB_RULES,
  runs: RUNS_RULE,
})
const checkSites = iterableOf('sites')

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
  checkSites(sites, 'sites')
  const blob = toBlob(checkOptions(options).code, options)
  const builder = new TableBuilder(options.code, blob)
  const view = viewOf(options.code)
  let index = 0
  for (const site of sites) addSite(builder, view, site, `sites[${index++}]`)
  return builder.finish(packRuns(options.runs ?? [], options.code.length))
}

function addSite(builder: TableBuilder, view: DataView, site: SiteInput, what: string): void {
  if (typeof site !== 'object' || site === null)
    throw new RelocError('bad-argument', `${what} is ${String(site)}: a site is { offset, kind, ... }.`)
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
  const next = nextOffset(builder, site, offset, what)
  const tail = next - offset - row.width
  if (tail < 0 || tail > 11 || (tail > 0 && row.anchor !== 'next'))
    throw new RelocError(
      'bad-argument',
      `${what}: its end is ${next}: the next instruction starts 0 to 11 bytes behind the field of a pc kind (offset ${hex(offset)}, ${row.width} bytes).`,
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
  if (row.anchor === 'none' && site.anchor !== undefined)
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
  if (row.rule === 'target' && target > row.max)
    throw new RelocError('bad-argument', `${what}.target is ${hex(target)}: ${row.limit}.`)
  // A relative field whose target is not what it points at moves with something else: only the caller's word says so.
  const byWord = row.anchor === 'next' && target !== pointed
  const level = byWord ? packEvidence(codeLevel(evidence), ADDRESS_EXACT) : evidence
  if (row.anchor === 'address') builder.addDifference(offset, kind, target, start, evidence)
  else builder.addTarget(offset, kind, target, level, tail, row.anchor === 'none')
}

/** Offset of the instruction behind a pc kind's field; of the byte behind the field for the others. */
function nextOffset(builder: TableBuilder, site: SiteInput, offset: number, what: string): number {
  const row = KIND_ROWS[kindCode(site.kind)]
  if (site.end !== undefined) return toOffset(site.end, `${what}.end`)
  if (row.anchor !== 'next' || site.anchor === undefined) return offset + row.width
  return Number(signedDelta(builder.blob.base, toAddress(site.anchor, `${what}.anchor`)))
}

function siteEvidence(site: SiteInput, relative: boolean, what: string): number {
  if (site.evidence === undefined) return packEvidence(CODE_GIVEN, relative ? ADDRESS_NONE : ADDRESS_EXACT)
  // An absolute field is an address by somebody's word at least; only relative ones need none.
  if (!isRecord(site.evidence)) throw wrongArgument(site.evidence, `${what}.evidence`, '{ code, address }')
  const address = site.evidence.address ?? (relative ? undefined : 'exact')
  const packed = evidenceByte({ code: site.evidence.code, ...(address === undefined ? {} : { address }) })
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
  const pieces = checkPieces(site.pieces ?? [], view.byteLength, what)
  if (site.target === undefined && pieces.some((piece) => piece.operation === 'xor'))
    throw new RelocError(
      'bad-argument',
      `${what}: with \`xor\` pieces the address cannot be read from the fields; give it as target.`,
    )
  const anchor = site.anchor === undefined ? undefined : toAddress(site.anchor, `${what}.anchor`)
  const value = joinPieces(view, pieces)
  const target =
    site.target === undefined ? wrapAddress(value + (anchor ?? 0n)) : toAddress(site.target, `${what}.target`)
  builder.addSplit(pieces, target, anchor, evidence)
}
