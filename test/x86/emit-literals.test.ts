import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Literals } from '../../src/x86/emit-literals.ts'

describe('Literals', () => {
  it('numbers values as a Map does, also where only one half differs', () => {
    const half = fc.oneof(fc.nat({ max: 40 }), fc.integer({ min: 0xffff_ffd0, max: 0xffff_ffff }))
    const value = fc.tuple(half, half).map(([low, high]) => (BigInt(high) << 32n) | BigInt(low))
    fc.assert(
      fc.property(fc.array(value, { size: 'large', maxLength: 600 }), (values) => {
        const literals = new Literals()
        const known = new Map<bigint, number>()
        for (const value of values) {
          if (!known.has(value)) known.set(value, known.size)
          expect(literals.numberOf(value)).toBe(known.get(value))
        }
        expect(Array.from(known.keys(), (_, i) => literals.valueOf(i))).toEqual([...known.keys()])
        expect(literals.length).toBe(known.size)
      }),
      { numRuns: 60 },
    )
  })
})
