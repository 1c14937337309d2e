import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BitTree } from '../../src/heap/bit-tree.ts'
import { FreeList } from '../../src/heap/free-list.ts'

const GRANULES = 96

/** The same by looking at every granule. */
class Model {
  readonly used = new Uint8Array(GRANULES)

  ranges(): { start: number; size: number }[] {
    const found: { start: number; size: number }[] = []
    for (let i = 0; i < GRANULES; i++) {
      if (this.used[i] === 1) continue
      if (i > 0 && this.used[i - 1] === 0) found[found.length - 1].size += 16
      else found.push({ start: 16 * i, size: 16 })
    }
    return found
  }

  take(size: number, align: number, phase: number): number {
    for (let i = 0; i + size / 16 <= GRANULES; i++)
      if (
        (16 * i + phase) % align === 0 &&
        this.used.subarray(i, i + size / 16).every((byte) => byte === 0)
      ) {
        this.used.fill(1, i, i + size / 16)
        return 16 * i
      }
    return -1
  }
}

const operation = fc.record({
  kind: fc.constantFrom('take', 'take', 'free', 'takeAt'),
  size: fc.integer({ min: 1, max: 12 }),
  align: fc.constantFrom(16, 16, 16, 64, 128),
  at: fc.nat(GRANULES - 1),
})

describe('FreeList', () => {
  it('is what a look at every granule finds: lowest fits, coalesced ranges, counts', () => {
    fc.assert(
      fc.property(
        fc.array(operation, { maxLength: 120 }),
        fc.constantFrom(0, 16, 48),
        (operations, phase) => {
          const list = new FreeList(phase)
          list.free(0, 16 * GRANULES)
          const model = new Model()
          const taken: { start: number; size: number }[] = []
          for (const { kind, size, align, at } of operations) {
            if (kind === 'take') {
              const start = list.take(16 * size, align)
              // A range that is long enough for any alignment comes first; else the lowest that fits.
              const expected = new Model()
              expected.used.set(model.used)
              const lowest = expected.take(16 * size, align, phase)
              expect(start < 0).toBe(lowest < 0)
              if (align === 16) expect(start).toBe(lowest)
              if (start < 0) continue
              expect((start + phase) % align).toBe(0)
              model.used.fill(1, start / 16, start / 16 + size)
              taken.push({ start, size: 16 * size })
            } else if (kind === 'takeAt') {
              const free =
                model.used.subarray(at, at + size).every((byte) => byte === 0) && at + size <= GRANULES
              expect(list.takeAt(16 * at, 16 * size)).toBe(free)
              if (!free) continue
              model.used.fill(1, at, at + size)
              taken.push({ start: 16 * at, size: 16 * size })
            } else if (taken.length > 0) {
              const [range] = taken.splice(at % taken.length, 1)
              list.free(range.start, range.size)
              model.used.fill(0, range.start / 16, (range.start + range.size) / 16)
            }
            const ranges = model.ranges()
            expect([...list].map(({ start, size }) => ({ start, size }))).toEqual(ranges)
            expect(list.count).toBe(ranges.length)
            expect(list.total).toBe(ranges.reduce((sum, range) => sum + range.size, 0))
            expect(list.longest).toBe(Math.max(0, ...ranges.map((range) => range.size)))
            expect([...list.clone()].length).toBe(ranges.length)
          }
        },
      ),
      { numRuns: 150 },
    )
  })
})

describe('BitTree', () => {
  it('finds neighbours as a sorted list does', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 70_000 }),
        fc.array(fc.nat(), { maxLength: 60 }),
        (capacity, raw) => {
          const tree = new BitTree(capacity)
          const members = new Set<number>()
          for (const [i, value] of raw.entries()) {
            const member = value % capacity
            if (i % 4 === 3) {
              tree.delete(member)
              members.delete(member)
            } else {
              tree.add(member)
              members.add(member)
            }
          }
          const sorted = [...members].sort((a, b) => a - b)
          for (const limit of [0, capacity - 1, ...raw.map((value) => value % capacity)]) {
            expect(tree.atOrBelow(limit)).toBe(sorted.findLast((member) => member <= limit) ?? -1)
            expect(tree.atOrAbove(limit)).toBe(sorted.find((member) => member >= limit) ?? -1)
            expect(tree.has(limit)).toBe(members.has(limit))
          }
        },
      ),
    )
  })
})
