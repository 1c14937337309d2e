/** Compiled programs 100 GB away from their data and callees: moved with veneers, verified, run, and brought home. */
import { afterAll, describe, expect, it, vi } from 'vitest'
import { RelocError } from '../src/core/errors.ts'
import { move } from '../src/move.ts'
import { RelocationTable } from '../src/table/table.ts'
import { type Fixture, loadFixtures } from './support/fixtures.ts'
import { nativeAvailable } from './support/native/harness.ts'
import { closeFixtureHarness, compareRuns, runFixture } from './support/run-fixture.ts'
import { runsOf, truthOf } from './support/sabotage.ts'

vi.setConfig({ testTimeout: 60_000 })

const FAR = 100n << 30n
const PAGE = 0x1000n

/** What no veneer can serve, and why. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  // The first of what is wrong is named.
  'literals-text': /diff32: the value \d+ would become/,
  'near-text': /no spare bytes for a jump lie within reach of its 8 bits/,
  'operands-image': /the program keeps 32 bits of this address/,
  'tables-text': /abs32: the value \d+ would become/,
}
/** Lies at the end of the address space: nothing is 100 GB further up. */
const NOWHERE = ['gcc-O2-kernel-image']
/** Calls that read 4-byte words outside which say how far away the blob is: no move can change those. */
const TIED: Readonly<Record<string, readonly string[]>> = {
  'clang-Os-pic-text': ['run_switch', 'count_classes'],
  'gcc-O2-pic-text': ['run_switch', 'count_classes', 'hash_name'],
}

function goFar(fixture: Fixture) {
  const [{ base, bytes }] = fixture.links
  const { span } = fixture
  const table = RelocationTable.fromSites(truthOf(fixture), {
    code: bytes,
    base,
    span,
    runs: runsOf(fixture),
  })
  const to = base + FAR
  // On a page of their own: data that follows the code may be writable.
  const at = (to + BigInt(span) + PAGE - 1n) & -PAGE
  return { to, moved: move(bytes, { from: base, to, span, table, veneers: { at } }) }
}

const fixtures = loadFixtures().filter(({ name }) => !NOWHERE.includes(name))
const calledFreely = (fixture: Fixture): Fixture => ({
  ...fixture,
  functions: fixture.functions.filter(({ name }) => TIED[fixture.name]?.includes(name) !== true),
})

describe('100 GB away', () => {
  afterAll(closeFixtureHarness)

  it.each(fixtures.filter(({ name }) => REFUSED[name] !== undefined))('$name is refused', (fixture) => {
    try {
      goFar(fixture)
    } catch (error) {
      expect(error).toBeInstanceOf(RelocError)
      expect((error as RelocError).problems.map(({ message }) => message).join('; ')).toMatch(
        REFUSED[fixture.name],
      )
      return
    }
    expect.unreachable()
  })

  it.each(fixtures.filter(({ name }) => REFUSED[name] === undefined))(
    '$name runs as at home',
    async (fixture) => {
      const [{ base, bytes }] = fixture.links
      const { to, moved } = goFar(fixture)
      expect(moved.verdict?.ok).toBe(true)
      const home = move(moved.bytes, { from: to, to: base, span: fixture.span, table: moved.table })
      expect(Buffer.compare(home.bytes, bytes)).toBe(0)
      if (!nativeAvailable || !fixture.runnable) return
      const free = calledFreely(fixture)
      const there = await runFixture(moved.bytes, to, free, moved.veneers)
      expect(compareRuns(await runFixture(bytes, base, free), there)).toEqual([])
    },
  )
})
