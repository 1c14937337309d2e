/**
 * Sites that are known, from a linker's records, against a code map that is found. A record says where a
 * field is, and not which instruction holds it: in code that gives the kind of a relative field and the end
 * it counts from; in data there is no instruction, and a relative field is a difference to its own place.
 * Where the map takes for code what cannot be, because a known field is no operand there, the records are
 * right: the code map is cut, up to the next entry.
 */
import { wrapAddress } from '../core/address.ts'
import type { SiteInput } from '../table/from-sites.ts'
import { KIND_ROWS, kindCode } from '../table/kinds.ts'
import type { CodeRun } from '../table/table.ts'
import { IcedCursor } from '../x86/iced.ts'

export interface KnownCode {
  /** For `RelocationTable.fromSites`. */
  readonly sites: readonly SiteInput[]
  readonly runs: readonly CodeRun[]
}

/**
 * @param code the blob, byte 0 at `base`
 * @param sites fields of fixed places, no `split` ones; relative fields as `pc32`
 * @param runs code as it was found
 * @param entries offsets where execution is certain to start, ascending
 */
export function placeKnownSites(
  code: Uint8Array,
  base: bigint,
  sites: readonly SiteInput[],
  runs: readonly CodeRun[],
  entries: readonly number[],
): KnownCode {
  const known = sites.map((site) => ({ ...site, offset: site.offset! })).sort((a, b) => a.offset - b.offset)
  const placed = new Map<number, SiteInput>()
  const kept: CodeRun[] = []
  const cursor = new IcedCursor(code, { base })
  try {
    for (const run of runs) {
      const nextEntry = (at: number): number =>
        Math.min(run.end, entries.find((entry) => entry > at) ?? run.end)
      let n = firstFrom(known, run.start)
      let from = n > 0 && endOf(known[n - 1]) > run.start ? nextEntry(run.start) : run.start
      let at = from
      while (at < run.end && cursor.decode(at) > 0 && at + cursor.length <= run.end) {
        const operands: SiteInput[] = []
        let fits = true
        for (; fits && n < known.length && known[n].offset < at + cursor.length; n++) {
          const operand = asOperand(known[n], cursor, base)
          fits = operand !== undefined
          if (operand !== undefined) operands.push(operand)
        }
        if (fits) {
          for (const operand of operands) placed.set(operand.offset!, operand)
          at += cursor.length
          continue
        }
        if (from < at) kept.push({ start: from, end: at })
        at = from = nextEntry(at)
        n = firstFrom(known, at)
      }
      if (from < at) kept.push({ start: from, end: at })
    }
  } finally {
    cursor.dispose()
  }
  return { sites: known.map((site) => placed.get(site.offset) ?? asData(site, base)), runs: kept }
}

type Known = SiteInput & { readonly offset: number }

const endOf = (site: Known): number => site.offset + KIND_ROWS[kindCode(site.kind)].width

/** Index of the first site at or behind `offset`. */
function firstFrom(sites: readonly Known[], offset: number): number {
  let low = 0
  let high = sites.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (sites[middle].offset < offset) low = middle + 1
    else high = middle
  }
  return low
}

/** The site as an operand of the instruction under the cursor; undefined where it is none. */
function asOperand(site: Known, cursor: IcedCursor, base: bigint): SiteInput | undefined {
  const row = KIND_ROWS[kindCode(site.kind)]
  const at = site.offset - cursor.offset
  const isDisplacement = at === cursor.displacementOffset && row.width === cursor.displacementSize
  const isImmediate = at === cursor.immediateOffset && row.width === cursor.immediateSize
  if (!isDisplacement && !isImmediate) return undefined
  if (row.anchor !== 'next') return site
  if (!(isImmediate ? cursor.isBranch : cursor.isIpRelative)) return asData(site, base)
  const kind = isDisplacement && cursor.isEipRelative ? 'eip32' : site.kind
  return { ...site, kind, end: cursor.offset + cursor.length }
}

/** A relative field that no instruction adds to its own address: the program subtracted a place beside it. */
const asData = (site: Known, base: bigint): SiteInput =>
  site.kind === 'pc32' ? { ...site, kind: 'diff32', anchor: wrapAddress(base + BigInt(site.offset)) } : site
