/**
 * Our own moves of the fixtures: equal to what the linker makes, and run where neither we nor the linker put
 * them before.
 */
import { afterAll, describe, expect, it, vi } from 'vitest'
import { RelocError } from '../src/core/errors.ts'
import { type MoveResult, move } from '../src/move.ts'
import { RelocationTable } from '../src/table/table.ts'
import { type Fixture, loadFixtures } from './support/fixtures.ts'
import { nativeAvailable, nativeReason } from './support/native/harness.ts'
import { closeFixtureHarness, compareRuns, runFixture } from './support/run-fixture.ts'
import { runsOf, truthOf } from './support/sabotage.ts'

vi.setConfig({ testTimeout: 60_000 })

/**
 * What the analysis does not find or takes for an address, with the hints: it must get better at these, and
 * then they leave the list.
 */
const NOT_EXACT_HINTED: readonly string[] = ['decoys-text', 'operands-image']

const hintsOf = (fixture: Fixture) => ({
  ranges: fixture.ranges.map(({ start, end, kind }) => ({ start, end, kind })),
  entries: fixture.entries,
})

/** The ways to a table: the linker's sites, two of its outputs, nothing but hints. */
const WAYS = {
  sites: (fixture: Fixture) => {
    const [{ base, bytes }] = fixture.links
    return RelocationTable.fromSites(truthOf(fixture), {
      code: bytes,
      base,
      span: fixture.span,
      runs: runsOf(fixture),
    })
  },
  pair: (fixture: Fixture) => {
    const [a, b] = fixture.links
    return RelocationTable.fromPair(a.bytes, a.base, b.bytes, b.base, { span: fixture.span })
  },
  hints: () => undefined,
} as const

function moveFixture(fixture: Fixture, to: bigint, way: keyof typeof WAYS): MoveResult {
  const [{ base, bytes }] = fixture.links
  const table = WAYS[way](fixture)
  return move(bytes, {
    from: base,
    to,
    span: fixture.span,
    table,
    ...(table ? {} : { hints: hintsOf(fixture) }),
  })
}

/** Whether there are addresses that a pair does not explain: their halves do not move as one. */
const hasSplits = ({ sites }: Fixture): boolean => sites.some(({ kind }) => kind === 'split')

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/**
 * Distances to try, far ones first; multiples of a page, so that alignment is kept, but for code that reaches
 * no page far.
 */
const DISTANCES = [
  0x3_0000_0000n,
  -0x2000_0000n,
  0x1000_0000n,
  0x40_0000n,
  -0x20_0000n,
  0x2_0000n,
  0x8n,
  -0x8n,
]

/** Where no link is, nothing else is mapped, and every site reaches. */
function newPlace(fixture: Fixture): MoveResult | undefined {
  const page = (address: bigint): bigint => address >> 12n
  const isFree = (to: bigint): boolean =>
    to >= 0x1_0000n &&
    fixture.outside.every(
      ({ address, length, access }) =>
        page(address) > page(to + BigInt(fixture.span)) ||
        page(address + BigInt(length)) < page(to) ||
        (access === 'rx' &&
          fixture.layout === 'text' &&
          (address >= to + BigInt(fixture.span) || address + BigInt(length) <= to)),
    )
  for (const distance of DISTANCES) {
    const to = fixture.links[0].base + distance
    if (fixture.links.some(({ base }) => base === to) || !isFree(to)) continue
    try {
      return moveFixture(fixture, to, 'sites')
    } catch (error) {
      if (!(error instanceof RelocError) || error.code !== 'refused') throw error
    }
  }
  return undefined
}

const fixtures = loadFixtures()
afterAll(closeFixtureHarness)

describe.each(fixtures.map((fixture) => [fixture.name, fixture] as const))('%s', (name, fixture) => {
  it('becomes what the linker makes of it, by its sites and by a pair', () => {
    for (const { base, bytes } of fixture.links.slice(1))
      for (const way of hasSplits(fixture) ? (['sites'] as const) : (['sites', 'pair'] as const)) {
        const { bytes: ours, verdict } = moveFixture(fixture, base, way)
        expect([way, equal(ours, bytes), verdict?.ok]).toEqual([way, true, true])
      }
  })

  it('becomes that by hints alone, or is on the list', () => {
    const exact = fixture.links
      .slice(1)
      .every(({ base, bytes }) => equal(moveFixture(fixture, base, 'hints').bytes, bytes))
    expect(exact).toBe(!NOT_EXACT_HINTED.includes(name))
  })

  it.skipIf(!nativeAvailable || !fixture.runnable)(
    `runs at a new place as where it was linked ${fixture.runnable ? nativeReason : '(no process has its addresses)'}`,
    async () => {
      const moved = newPlace(fixture)
      expect(moved).toBeDefined()
      const { bytes, table } = moved!
      const [{ base, bytes: before }, then] = fixture.links
      const there = await runFixture(before, base, fixture)
      const here = await runFixture(bytes, table.base, fixture)
      expect(compareRuns(there, here)).toEqual([])
      expect(here.calls.every(({ result }) => result.end === 'exit')).toBe(true)
      // And from there to where the linker went.
      expect(equal(move(bytes, { from: table.base, to: then.base, table }).bytes, then.bytes)).toBe(true)
    },
  )
})
