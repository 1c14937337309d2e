/** Whichever decoder finds the instructions, the table is the same. */
import { describe, expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'
import { loadFixtures } from '../support/fixtures.ts'
import { numbers } from '../support/tables.ts'

describe('both decoders give equal tables', () => {
  it.each(loadFixtures().map((fixture) => [fixture.name, fixture] as const))('of %s', (_, fixture) => {
    const [{ base, bytes }] = fixture.links
    const ranges = fixture.ranges.map(({ start, end, kind }) => ({ start, end, kind }))
    for (const hints of [undefined, { ranges }])
      for (const cpu of ['intel', 'amd'] as const) {
        const tableBy = (decoder: 'iced' | 'tables') =>
          analyze(bytes, { base, span: fixture.span, hints, cpu, decoder })
        const [expected, actual] = [tableBy('iced'), tableBy('tables')]
        expect(actual.toJSON()).toEqual(expected.toJSON())
        expect(actual.problems).toEqual(expected.problems)
      }
  })

  it('of noise', () => {
    const next = numbers(3)
    for (const length of [40, 900, 20_000]) {
      const code = Uint8Array.from({ length }, () => next(256))
      const tableBy = (decoder: 'iced' | 'tables') => analyze(code, { base: 0x40_0000n, decoder })
      expect(tableBy('tables').toJSON()).toEqual(tableBy('iced').toJSON())
    }
  })
})
