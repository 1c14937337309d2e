/** The fast tables are filled in by what is read: what is found does not hang on what was read before. */
import { expect, it } from 'vitest'
import { randomNumbers } from '../../scripts/fuzz/encodings.ts'
import { analyze } from '../../src/analyze/analyze.ts'
import { fastTablesFor } from '../../src/x86/fast.ts'
import { sweep } from '../../src/x86/sweep.ts'
import { loadFixtures } from '../support/fixtures.ts'

it('blobs are swept and analysed the same by empty tables, filled ones, and full ones', {
  timeout: 60_000,
}, () => {
  const blobs = loadFixtures().flatMap(({ span, links }) => links.map((link) => ({ ...link, span })))
  const find = () =>
    blobs.map(({ bytes, base, span }) => {
      const table = analyze(bytes, { base, span })
      const rejected: number[] = []
      return { table: table.toJSON(), problems: table.problems, swept: sweep(bytes, { rejected }), rejected }
    })
  const { notes } = fastTablesFor('intel')
  const countKnown = (): number => notes.filter((note) => note !== 0).length
  expect(countKnown()).toBe(0)
  const first = find()
  const known = countKnown()
  expect(known).toBeGreaterThan(0)
  expect(find()).toEqual(first)
  const next = randomNumbers(1)
  sweep(Uint8Array.from({ length: 1 << 20 }, next))
  expect(countKnown()).toBeGreaterThan(2 * known)
  expect(find()).toEqual(first)
})
