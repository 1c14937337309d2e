import { afterAll, describe, expect, it } from 'vitest'
import { readField, viewOf, writeField } from '../src/core/bytes.ts'
import { KIND_ROWS, kindCode, SITE_KINDS } from '../src/table/kinds.ts'
import type { SplitPiece } from '../src/table/site.ts'
import { type Fixture, type FixtureSite, loadFixtures } from './support/fixtures.ts'
import { nativeAvailable, nativeReason } from './support/native/harness.ts'
import { closeFixtureHarness, compareRuns, runFixture } from './support/run-fixture.ts'

const fixtures = loadFixtures()

/** shift(x) for the move of the whole blob by `delta`. */
const shift = (fixture: Fixture, address: bigint, delta: bigint): bigint => {
  const start = fixture.links[0].base
  return address >= start && address < start + BigInt(fixture.span) ? delta : 0n
}

/** How far the site's value changes, by DESIGN's equation. */
function change(fixture: Fixture, site: FixtureSite, delta: bigint): bigint {
  const row = KIND_ROWS[kindCode(site.kind)]
  const anchor = { none: 0n, next: delta, address: shift(fixture, site.anchor ?? 0n, delta) }[row.anchor]
  return shift(fixture, site.target, delta) - anchor
}

/**
 * The bits of one field of an address that goes from `target` by `delta`: of plain bits the address says
 * them, of mixed ones what changes.
 */
function pieceOf(
  view: DataView,
  { offset, width, shift, operation }: SplitPiece,
  target: bigint,
  delta: bigint,
): bigint {
  const part = (address: bigint): bigint => BigInt.asUintN(8 * width, address >> BigInt(shift))
  const old = readField(view, offset, width)
  expect(operation === 'xor' || old === part(target)).toBe(true)
  return operation === 'xor' ? old ^ part(target) ^ part(target + delta) : part(target + delta)
}

describe.each(fixtures.map((fixture) => [fixture.name, fixture] as const))('%s', (_, fixture) => {
  const [from, ...others] = fixture.links

  it('its sites, and nothing else, lead from one link to the others', () => {
    for (const to of others) {
      const delta = to.base - from.base
      const bytes = from.bytes.slice()
      const view = viewOf(bytes)
      for (const site of fixture.sites) {
        const { width } = KIND_ROWS[kindCode(site.kind)]
        const by = change(fixture, site, delta)
        expect([site.offset, by !== 0n]).toEqual([site.offset, site.changes])
        if (site.pieces === undefined)
          writeField(view, site.offset, width, readField(view, site.offset, width) + by)
        for (const piece of site.pieces ?? [])
          writeField(view, piece.offset, piece.width, pieceOf(view, piece, site.target, by))
      }
      expect(Buffer.compare(bytes, to.bytes)).toBe(0)
    }
  })

  it('its sites are apart, inside its ranges, and point where their bytes say', () => {
    const view = viewOf(from.bytes)
    let end = 0
    const fields = fixture.sites.flatMap(({ pieces, ...site }) =>
      (pieces ?? [{ width: undefined }]).map((piece) => ({ ...site, ...piece })),
    )
    for (const site of fields.sort((a, b) => a.offset - b.offset)) {
      const row = KIND_ROWS[kindCode(site.kind)]
      expect(site.offset).toBeGreaterThanOrEqual(end)
      end = site.offset + (site.width ?? row.width)
      expect(fixture.ranges.some((range) => site.offset >= range.start && end <= range.end)).toBe(true)
      if (site.width !== undefined) continue
      const bits = readField(view, site.offset, row.width)
      const value = row.signed ? BigInt.asIntN(8 * row.width, bits) : bits
      const next = from.base + BigInt(site.end ?? end)
      if (row.anchor === 'next')
        expect(site.target).toBe(BigInt.asUintN(site.kind === 'eip32' ? 32 : 64, next + value))
      if (row.anchor === 'none')
        expect(Math.abs(Number(BigInt.asUintN(64, value - (site.addend ?? 0n)) - site.target))).toBeLessThan(
          4096,
        )
    }
  })

  it.skipIf(!nativeAvailable || !fixture.runnable)(
    `its functions run with equal results at every base, the others unmapped${fixture.runnable ? nativeReason : ': no process has these addresses'}`,
    async () => {
      const runs = []
      for (const { base, bytes } of fixture.links) runs.push(await runFixture(bytes, base, fixture))
      for (const run of runs.slice(1)) expect(compareRuns(runs[0], run)).toEqual([])
      const called = new Map<string, Set<bigint>>()
      for (const { name, rax, result } of runs[0].calls) {
        expect(result.end).toBe('exit')
        called.set(name, (called.get(name) ?? new Set()).add(rax))
      }
      // A function that gives the same for all arguments shows nothing.
      for (const [name, results] of called)
        if (fixture.functions.find((fn) => fn.name === name)!.calls.length > 1)
          expect([name, results.size > 1]).toEqual([name, true])
      expect(called.size + runs[0].skipped.length).toBe(
        fixture.functions.filter(({ calls }) => calls.length > 0).length,
      )
    },
  )
})

describe('the fixtures together', () => {
  afterAll(closeFixtureHarness)

  it('hold every kind of site, and both directions', () => {
    const changing = new Set(
      fixtures.flatMap(({ sites }) => sites.filter(({ changes }) => changes).map(({ kind }) => kind)),
    )
    expect([...changing].sort()).toEqual([...SITE_KINDS].sort())
    expect(fixtures.some(({ sites }) => sites.some(({ changes }) => !changes))).toBe(true)
    expect(fixtures.some(({ sites }) => sites.some(({ end }) => end !== undefined))).toBe(true)
    expect(fixtures.some(({ span, length }) => span > length + 4096)).toBe(true)
  })

  it.skipIf(!nativeAvailable)(
    `a blob that was not relocated does not run as it should ${nativeReason}`,
    async () => {
      const fixture = fixtures.find(({ name }) => name === 'gcc-O2-image')!
      const good = await runFixture(fixture.links[0].bytes, fixture.links[0].base, fixture)
      const bad = await runFixture(fixture.links[0].bytes, fixture.links[1].base, fixture)
      expect(compareRuns(good, bad).length).toBeGreaterThan(5)
      expect(bad.calls.some(({ result }) => result.end === 'fault')).toBe(true)
    },
  )
})
