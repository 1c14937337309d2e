import { describe, expect, it } from 'vitest'
import { placeKnownSites } from '../../src/analyze/known-sites.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'

const BASE = 0x400000n
const place = (hex: string, sites: readonly SiteInput[], entries: readonly number[] = []) =>
  placeKnownSites(Buffer.from(hex, 'hex'), BASE, sites, [{ start: 0, end: hex.length / 2 }], entries)
const target = 0x500000n

describe('a known relative field', () => {
  it.each([
    ['of a call', 'e8fbff0f00', 1, { kind: 'pc32', end: 5 }],
    ['before an immediate', 'c705f6ff0f0007000000', 2, { kind: 'pc32', end: 10 }],
    ['with a 67 prefix', '678b05f9ff0f00', 3, { kind: 'eip32', end: 7 }],
    [
      'that the instruction does not count from its end',
      '4805fbff0f00',
      2,
      { kind: 'diff32', anchor: BASE + 2n },
    ],
  ])('%s', (_, hex, offset, expected) => {
    const { sites, runs } = place(hex, [{ offset, kind: 'pc32', target }])
    expect(sites).toEqual([{ offset, target, ...expected }])
    expect(runs).toEqual([{ start: 0, end: hex.length / 2 }])
  })
})

it('what the map takes for code is cut where a known field is no operand, up to the next entry', () => {
  // nop; a pointer, decoded as nonsense; at 9 an entry: call; ret
  const hex = '900010400000000000e8fbff0f00c3'
  const sites: SiteInput[] = [
    { offset: 10, kind: 'pc32', target },
    { offset: 1, kind: 'abs64', target: 0x401000n },
  ]
  const kept = place(hex, sites, [9])
  expect(kept.runs).toEqual([
    { start: 0, end: 1 },
    { start: 9, end: 15 },
  ])
  expect(kept.sites).toEqual([sites[1], { ...sites[0], end: 14 }])
  const cut = place(hex, sites)
  expect(cut.runs).toEqual([{ start: 0, end: 1 }])
  expect(cut.sites[1]).toMatchObject({ kind: 'diff32' })
})
