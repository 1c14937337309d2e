import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { sortIntegers } from '../../src/core/sort.ts'

describe('sortIntegers', () => {
  it('sorts as a comparison does, few numbers and many, near and far apart', () => {
    const numbers = fc.integer({ min: 0, max: 40 }).chain((bits) =>
      fc.record({
        start: fc.integer({ min: -(2 ** 33), max: 2 ** 33 }),
        seeds: fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { maxLength: 30 }),
        width: fc.constant(2 ** bits),
        times: fc.constantFrom(1, 100),
      }),
    )
    fc.assert(
      fc.property(numbers, ({ start, seeds, width, times }) => {
        const values = Array.from({ length: times * seeds.length }, (_, i) => {
          const place = (seeds[i % seeds.length] * (i + 1)) % 1
          return start + Math.floor(place * width)
        })
        const expected = [...values].sort((a, b) => a - b)
        const { least, offsets } = sortIntegers(values)
        expect(Array.from(offsets, (offset) => least + offset)).toEqual(expected)
      }),
    )
  })
})
