/** What two dumps say about the fixtures, against what the linker says. */
import { describe, expect, it } from 'vitest'
import { readField, viewOf } from '../../src/core/bytes.ts'
import type { Site } from '../../src/table/site.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { loadFixtures } from '../support/fixtures.ts'

describe.each(loadFixtures().map((fixture) => [fixture.name, fixture] as const))('%s', (_, fixture) => {
  const [a, b] = fixture.links
  const isInside = (address: bigint): boolean => address >= a.base && address <= a.base + BigInt(fixture.span)

  /**
   * What the dumps show of a site: short branches as such; else whether it goes with the base or against it,
   * and how many bytes go with it.
   */
  function seen({ offset, kind, target }: Pick<Site, 'offset' | 'kind' | 'target'>): string {
    if (kind === 'pc8' || kind === 'pc16') return `${offset} ${kind}`
    if (!kind.startsWith('abs') && !(kind.startsWith('diff') && isInside(target))) return `${offset} down`
    // Four bytes with four zeros behind them are an address of eight as well.
    const isWide = offset + 8 <= fixture.length && isInside(readField(viewOf(a.bytes), offset, 8))
    return `${offset} up ${kind.includes('64') || isWide ? 8 : 4}`
  }

  it('has its fields, and kinds as far as a difference shows them', () => {
    if (fixture.sites.some(({ kind }) => kind === 'split')) {
      const pair = (): unknown =>
        RelocationTable.fromPair(a.bytes, a.base, b.bytes, b.base, { span: fixture.span })
      expect(pair).toThrow(/no address field that moves by .* explains/)
      return
    }
    const table = RelocationTable.fromPair(a.bytes, a.base, b.bytes, b.base, { span: fixture.span })
    expect(table.sites().map(seen)).toEqual(fixture.sites.filter(({ changes }) => changes).map(seen))
    expect(table.matches(b.bytes)).toBe(true)
  })
})
