/**
 * Tables of code with veneers, in their binary form and with the weak sites left out: as good as the table
 * they came from.
 */
import { describe, expect, it } from 'vitest'
import { RelocError } from '../../src/core/errors.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { keepEvidence } from '../../src/table/filter.ts'
import { ADDRESS_FLOW } from '../../src/table/site.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { type Fixture, loadFixture } from '../support/fixtures.ts'
import { runsOf, truthOf } from '../support/sabotage.ts'

const FAR = 100n << 30n

/** 100 GB away, where every second absolute site is only known to point into the blob. */
function farAway(fixture: Fixture) {
  const [{ base, bytes }] = fixture.links
  const { span } = fixture
  const sites = truthOf(fixture).map((site, i) =>
    site.kind.startsWith('abs') && i % 2 === 0
      ? { ...site, evidence: { code: 'given', address: 'range' } as const }
      : site,
  )
  const table = RelocationTable.fromSites(sites, { code: bytes, base, span, runs: runsOf(fixture) })
  const moved = relocate(bytes, table, { to: base + FAR, veneers: true })
  return { base, bytes, table, moved }
}

const fixtures = ['gcc-O2-image', 'gcc-O2-pic-text', 'gcc-O0-libc-text', 'floats-avx512-text'].map(
  loadFixture,
)

describe.each(fixtures.map((fixture) => [fixture.name, fixture] as const))(
  '%s with veneers',
  (_, fixture) => {
    const { base, bytes, table, moved } = farAway(fixture)
    const written = moved.table.toBinary(moved.bytes)

    it('keeps all that the JSON form keeps, in little more than the bytes that were replaced', () => {
      const read = RelocationTable.fromBinary(written, moved.bytes)
      expect(read.toJSON()).toEqual(moved.table.toJSON())
      expect(relocate(moved.bytes, read, { to: base }).bytes).toEqual(Uint8Array.from(bytes))
      const { replaced } = moved.table.parts.veneered!
      const kept = [...replaced].reduce((sum, one) => sum + one.bytes.length, 0)
      expect(replaced.length).toBeGreaterThan(10)
      expect(written.length).toBeLessThan(table.toBinary(bytes).length + kept + 3 * replaced.length + 32)
    })

    it('is refused when a byte of it is changed or missing, and for other code', () => {
      const codeOf = (run: () => unknown): string => {
        try {
          run()
          return 'nothing'
        } catch (error) {
          return error instanceof RelocError ? error.code : String(error)
        }
      }
      for (let i = 0; i < written.length; i += 7) {
        const changed = written.slice()
        changed[i] ^= 1 << (i % 8)
        expect(codeOf(() => RelocationTable.fromBinary(changed, moved.bytes))).toBe('bad-input')
        expect(codeOf(() => RelocationTable.fromBinary(written.subarray(0, i), moved.bytes))).toBe(
          'bad-input',
        )
      }
      const taken = new Set(
        table.sites().flatMap(({ offset, width }) => [...Array(width).keys()].map((i) => offset + i)),
      )
      for (const { offset, bytes: old } of moved.table.parts.veneered!.replaced)
        for (let i = 0; i < old.length; i++) taken.add(offset + i)
      const other = moved.bytes.slice()
      other[other.findIndex((_, i) => !taken.has(i))] ^= 1
      expect(codeOf(() => RelocationTable.fromBinary(written, other))).toBe('bad-table')
    })

    it('without its weak sites it moves home all but those, whose values stay what they are', () => {
      const strong = keepEvidence(moved.table, moved.bytes, ADDRESS_FLOW)
      strong.check(moved.bytes)
      const again = RelocationTable.fromBinary(strong.toBinary(moved.bytes), moved.bytes)
      expect(again.toJSON()).toEqual(strong.toJSON())
      const home = relocate(moved.bytes, strong, { to: base })
      home.table.check(home.bytes)
      const kept = new Set(strong.sites().map(({ offset }) => offset))
      const expected = bytes.slice()
      let dropped = 0
      for (const { offset, width } of table.sites())
        if (!kept.has(offset)) {
          dropped++
          expected.set(moved.bytes.subarray(offset, offset + width), offset)
        }
      expect(dropped > 5).toBe(fixture.layout === 'image')
      expect(Buffer.compare(home.bytes, expected)).toBe(0)
    })
  },
)
