/**
 * Random tables with everything in them: all kinds, several ranges, biased targets, evidence of every sort,
 * split sites, code runs.
 */
import fc from 'fast-check'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { SITE_KINDS, type SiteKind } from '../../src/table/kinds.ts'
import type { SplitPiece } from '../../src/table/site.ts'
import { RelocationTable } from '../../src/table/table.ts'

export interface TableSeed {
  readonly seed: number
  readonly sites: number
  /** Bytes of the code. */
  readonly length: number
}

export const tableSeed = (): fc.Arbitrary<TableSeed> =>
  fc.record({
    seed: fc.integer({ min: 0, max: 2 ** 31 }),
    sites: fc.integer({ min: 0, max: 60 }),
    length: fc.integer({ min: 40, max: 3000 }),
  })

/** A small generator of numbers (mulberry32), so that one seed makes one table on every machine. */
export function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b_79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

const WIDTHS: Readonly<Record<SiteKind, number>> = {
  pc8: 1,
  pc16: 2,
  pc32: 4,
  eip32: 4,
  abs32: 4,
  abs32s: 4,
  abs64: 8,
  diff32: 4,
  diff32u: 4,
  diff64: 8,
  split: 8,
}

export function randomTable({ seed, sites, length }: TableSeed): {
  code: Uint8Array
  table: RelocationTable
} {
  const next = numbers(seed)
  const code = Uint8Array.from({ length }, () => next(256))
  const base = [0x40_0000n, 0x1000n, 0x7f12_3456_0000n, 0xffff_ffff_8100_0000n][next(4)]
  const other = { start: base + 0x1_0000n, length: 0x1000n }
  const view = new DataView(code.buffer)
  const near = (): bigint => [base, other.start, base - 0x800n][next(3)] + BigInt(next(0x400))
  const inputs: SiteInput[] = []
  let at = 0
  for (let i = 0; i < sites; i++) {
    const offset = at + next(20)
    const kind = SITE_KINDS[next(SITE_KINDS.length)]
    const tail = kind.startsWith('pc') && next(3) === 0 ? 1 + next(4) : 0
    at = offset + WIDTHS[kind] + tail
    if (at > length) break
    inputs.push(randomSite(view, { kind, offset, tail, base }, near, next))
  }
  const options = { code, base, span: length + next(2) * 100, ...(next(2) === 0 ? {} : { moved: [other] }) }
  const runs =
    next(2) === 0
      ? []
      : [
          { start: 0, end: Math.ceil(length / 2) },
          { start: next(9), end: length },
        ]
  return { code, table: RelocationTable.fromSites(inputs, { ...options, runs }) }
}

interface Field {
  readonly kind: SiteKind
  readonly offset: number
  readonly tail: number
  readonly base: bigint
}

function randomSite(
  view: DataView,
  { kind, offset, tail, base }: Field,
  near: () => bigint,
  next: (below: number) => number,
): SiteInput {
  const code = (['guess', 'flow', 'given'] as const)[next(3)]
  const target = BigInt.asUintN(64, near())
  if (kind === 'split') {
    const pieces: SplitPiece[] = [
      { offset, width: 4, shift: 0, operation: 'or' },
      { offset: offset + 4, width: 4, shift: 32, operation: (['or', 'add', 'xor'] as const)[next(3)] },
    ]
    const anchored = next(3) === 0 ? { anchor: BigInt.asUintN(64, near()) } : {}
    return { kind, pieces, target, ...anchored, evidence: { code, address: 'flow' } }
  }
  const address = (['range', 'flow', 'encoding', 'exact'] as const)[next(4)]
  if (/^(pc|eip)/.test(kind)) {
    // Values of relative fields stay small enough to survive moves in either direction.
    if (kind === 'pc32' || kind === 'eip32') view.setInt32(offset, next(0x100_0000) - 0x80_0000, true)
    const biased = next(4) === 0 ? { target: kind === 'eip32' ? BigInt.asUintN(32, target) : target } : {}
    return { kind, offset, end: offset + WIDTHS[kind] + tail, ...biased, evidence: { code } }
  }
  const evidence = { code, address } as const
  if (kind.startsWith('diff')) {
    const anchor = next(2) === 0 ? base + BigInt(offset) : BigInt.asUintN(64, near())
    return { kind, offset, target, anchor, evidence }
  }
  const value = target + BigInt(next(3) === 0 ? 0x99 : 0)
  if (kind === 'abs64') view.setBigUint64(offset, value, true)
  else view.setInt32(offset, Number(BigInt.asIntN(32, value)), true)
  return { kind, offset, target, evidence }
}
