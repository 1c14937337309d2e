/** The best place for a blob: against every place there is. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Move } from '../../src/core/range.ts'
import { nearestPlace, relocateNear } from '../../src/relocate/near.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
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
    { numRuns: 200 },
  )
}, 60_000)

const EDGE = 1n << 31n
const LOW = { start: 0x7000_0000n, length: 0x1000 }

/**
 * Loads, calls and addresses whose reach ends somewhere in the free ranges; some of them to a range that moves along.
 */
function farReferences(fields: readonly { readonly form: number; readonly off: number }[]): {
  code: Uint8Array
  table: RelocationTable
} {
  const base = 0x9000_0000n
  const bytes: number[] = []
  const sites: SiteInput[] = []
  for (const { form, off } of fields) {
    // mov eax, [rip+d]; call d; lea rax, [rip+d]; mov rcx, [rip+d] of what moves along
    bytes.push(...[[0x8b, 0x05], [0xe8], [0x48, 0x8d, 0x05], [0x48, 0x8b, 0x0d]][form])
    const target = form === 3 ? LOW.start + 0x800n : base + BigInt(off)
    sites.push({ offset: bytes.length, kind: 'pc32', target })
    const distance = Number(target - base) - bytes.length - 4
    bytes.push(...new Uint8Array(Int32Array.of(distance).buffer))
  }
  const code = Uint8Array.from(bytes)
  const runs = [{ start: 0, end: code.length }]
  return { code, table: RelocationTable.fromSites(sites, { code, base, runs, moved: [LOW] }) }
}

it('counts what moves along, and finds room for veneers where any place has it: against every place', () => {
  const place = fc.record({
    edge: fc.constantFrom(-EDGE, EDGE),
    off: fc.integer({ min: -60, max: 60 }),
    length: fc.integer({ min: 1, max: 110 }),
  })
  const field = fc.record({ form: fc.nat(3), off: fc.integer({ min: -40, max: 80 }) })
  let [roomy, cramped] = [0, 0]
  fc.assert(
    fc.property(
      fc.array(field, { minLength: 1, maxLength: 4 }),
      fc.array(place, { minLength: 1, maxLength: 2 }),
      fc.constantFrom(1, 8),
      fc.constantFrom(0n, EDGE + 0x4000_0000n),
      (fields, places, align, shift) => {
        const { code, table } = farReferences(fields)
        const free = places.map(({ edge, off, length }) => ({
          start: table.base + edge + BigInt(off),
          length,
        }))
        const also = shift === 0n ? [] : [{ from: LOW.start, to: LOW.start + shift, length: LOW.length }]
        const outOf = (to: bigint): number => problemsOf(() => relocate(code, table, { to, also }))
        const hasRoom = (to: bigint): boolean =>
          free.some(({ start, length }) => {
            for (let at = (start + 15n) & -16n; at < start + BigInt(length); at += 16n)
              if (fits(code, table, { to, also }, at, start + BigInt(length))) return true
            return false
          })
        const every: bigint[] = []
        for (const { start, length } of free)
          for (let to = start; to + BigInt(code.length) <= start + BigInt(length); to++)
            if (to % BigInt(align) === 0n) every.push(to)
        if (every.length === 0) return
        const costs = every.map((to) => ({ to, count: outOf(to) }))
        const least = Math.min(...costs.map(({ count }) => count))
        const plain = nearestPlace(code, table, { free, align, also })
        expect([plain.outOfReach, plain.sites.length]).toEqual([least, least])
        const able = costs.filter(({ to, count }) => count === 0 || hasRoom(to))
        const best = nearestPlace(code, table, { free, align, also, veneers: true })
        if (able.length === 0) {
          cramped++
          expect(best).toMatchObject({ outOfReach: least, room: undefined })
          return
        }
        roomy++
        expect(best.outOfReach).toBe(Math.min(...able.map(({ count }) => count)))
        expect(best.outOfReach).toBe(outOf(best.to))
        const { veneers } = relocateNear(code, table, { free, align, also, veneers: true })
        expect(veneers && { at: veneers.at, length: veneers.bytes.length }).toEqual(best.room)
      },
    ),
    { numRuns: 100, seed: 5 },
  )
  expect([roomy > 20, cramped > 10]).toEqual([true, true])
}, 60_000)

const problemsOf = (work: () => unknown): number => {
  try {
    work()
    return 0
  } catch (error) {
    return (error as { problems: unknown[] }).problems.length
  }
}

/** Whether veneers at `at` serve the move and end before `end`, apart from the blob. */
function fits(
  code: Uint8Array,
  table: RelocationTable,
  move: { readonly to: bigint; readonly also: readonly Move[] },
  at: bigint,
  end: bigint,
): boolean {
  try {
    const { veneers } = relocate(code, table, { ...move, veneers: { at } })
    return veneers !== undefined && at + BigInt(veneers.bytes.length) <= end
  } catch {
    return false
  }
}

it('says which sites do not reach, and starts from the originals of a blob with veneers', () => {
  const { code, table } = farReferences([
    { form: 0, off: 60 },
    { form: 1, off: 40 },
  ])
  const far = { start: 0x7000_0000_0000n, length: 0x1000 }
  const there = relocateNear(code, table, { free: [far], veneers: true })
  expect(there).toMatchObject({
    to: far.start,
    outOfReach: 2,
    sites: [
      { offset: 2, target: table.base + 60n },
      { offset: 7, target: table.base + 40n },
    ],
    room: { at: far.start + 16n },
  })
  const edge = table.base - EDGE - 0x1000n
  const near = relocateNear(there.bytes, there.table, {
    free: [far, { start: edge, length: 0x2000 }],
    align: 1,
  })
  const last = nearestPlace(code, table, { free: [far, { start: edge, length: 0x2000 }], align: 1 })
  // Of all places in reach of both it takes the one nearest to where the blob is now, which is far above.
  expect([near.outOfReach, near.veneers, last.outOfReach]).toEqual([0, undefined, 0])
  expect(near.to).toBe(edge + 0x2000n - BigInt(code.length))
  const home = relocate(near.bytes, near.table, { to: table.base })
  expect(Buffer.compare(home.bytes, code)).toBe(0)
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
