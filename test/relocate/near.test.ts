/** The best place for a blob: against every place there is. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { nearestPlace, relocateNear } from '../../src/relocate/near.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { RelocationTable } from '../../src/table/table.ts'

const BASE = 0x1000n

/** Short jumps, whose reach is small enough to try every place. */
function jumps(distances: readonly number[]): { code: Uint8Array; table: RelocationTable } {
  const code = Uint8Array.from(distances.flatMap((distance) => [0xeb, distance]))
  const sites = distances.map((_, i) => ({ offset: 2 * i + 1, kind: 'pc8' as const }))
  const runs = [{ start: 0, end: code.length }]
  return { code, table: RelocationTable.fromSites(sites, { code, base: BASE, runs }) }
}

function outOfReach(code: Uint8Array, table: RelocationTable, to: bigint): number {
  try {
    relocate(code, table, { to })
    return 0
  } catch (error) {
    return (error as { problems: unknown[] }).problems.length
  }
}

it('leaves as few sites out of reach as any place does, as near as any such place', () => {
  const range = fc.record({
    start: fc.integer({ min: 0xd00, max: 0x1300 }),
    length: fc.integer({ min: 1, max: 200 }),
  })
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -128, max: 127 }), { minLength: 1, maxLength: 8 }),
      fc.array(range, { minLength: 1, maxLength: 2 }),
      fc.constantFrom(1, 4, 16),
      (distances, free, align) => {
        const { code, table } = jumps(distances)
        const places: bigint[] = []
        for (const { start, length } of free)
          for (let to = start; to + code.length <= start + length; to++)
            if (to % align === 0) places.push(BigInt(to))
        if (places.length === 0) {
          expect(() => nearestPlace(code, table, { free, align })).toThrow(/No free range/)
          return
        }
        const costs = places.map((to) => outOfReach(code, table, to))
        const least = Math.min(...costs)
        const best = nearestPlace(code, table, { free, align })
        expect(best.outOfReach).toBe(least)
        expect(outOfReach(code, table, best.to)).toBe(least)
        const far = (to: bigint): number => Math.abs(Number(to - BASE))
        expect(far(best.to)).toBe(Math.min(...places.filter((_, i) => costs[i] === least).map(far)))
      },
    ),
    { numRuns: 300 },
  )
})

it('moves there, with veneers for the rest', () => {
  // mov eax, [0x600006]; lea rbx, [blob], as an absolute address
  const code = new Uint8Array(Buffer.from('8b0500002000' + '48c7c300004000', 'hex'))
  const table = RelocationTable.fromSites(
    [
      { offset: 2, kind: 'pc32' },
      { offset: 9, kind: 'abs32s' },
    ],
    { code, base: 0x400000n, runs: [{ start: 0, end: code.length }] },
  )
  const far = { start: 0x7000_0000_0000n, length: 0x1000 }
  const free = [far, { start: 0x9000_0000n, length: 0x1000 }]
  const { to, outOfReach, veneers } = relocateNear(code, table, { free, veneers: true })
  // Above 2 GB the absolute address fits no more, and from 2 GB + 6 MB on the load does not reach.
  expect({ to, outOfReach }).toEqual({ to: 0x9000_0000n, outOfReach: 2 })
  expect(veneers).toBeDefined()
  expect(
    relocateNear(code, table, { free: [far, { start: 0x8010_0000n, length: 0x1000 }], veneers: true }),
  ).toMatchObject({
    to: 0x8010_0000n,
    outOfReach: 1,
  })
  expect(() => relocateNear(code, table, { free: [far] })).toThrow(/veneers/)
})
