/**
 * Small blobs are read without the fast tables as long as nothing large has built them: what is found does
 * not hang on that.
 */
import { expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'
import { isWorthFastTables } from '../../src/x86/fast.ts'
import { sweep } from '../../src/x86/sweep.ts'
import { loadFixtures } from '../support/fixtures.ts'

it('a small blob is swept and analysed the same before and after a large one', { timeout: 60_000 }, () => {
  const blobs = loadFixtures().flatMap(({ span, links }) => links.map((link) => ({ ...link, span })))
  const find = () =>
    blobs.map(({ bytes, base, span }) => {
      const table = analyze(bytes, { base, span })
      const rejected: number[] = []
      return { table: table.toJSON(), problems: table.problems, swept: sweep(bytes, { rejected }), rejected }
    })
  expect(isWorthFastTables('intel', 1)).toBe(false)
  const before = find()
  sweep(new Uint8Array(1 << 20))
  expect(isWorthFastTables('intel', 1)).toBe(true)
  expect(find()).toEqual(before)
})
