/** The families of programs that try a heap from one side each: all from one seed here, many by `npm run stress`. */
import { describe, expect, it } from 'vitest'
import { nativeUnavailable } from '../../src/heap/native/memory.ts'
import { FAMILIES } from './families/families.ts'
import { runFamily } from './families/family.ts'
import { smallHeaps } from './families/packing.ts'
import { runScript } from './native/run.ts'

const reason = nativeUnavailable()
const LONG = 60_000

describe('families over simulated memory', () => {
  const simulated = FAMILIES.filter(({ makers }) => makers.includes('simulated'))
  it.each(simulated.map((family) => [family.name, family.title, family] as const))(
    '%s: %s',
    { timeout: LONG },
    (_name, _title, family) => {
      for (const seed of [1, 2]) {
        const counts = Object.values(runFamily(family, 'simulated', seed))
        expect(counts.every((count) => count > 0)).toBe(true)
        expect(counts.length).toBeGreaterThan(0)
      }
    },
  )

  it('the small heaps are all there are', () => {
    // Of n objects and n + 1 gaps that make 8: C(8 + n, 2 n) ways, or fewer cells and a rest; each with 2^n
    // sets of pins.
    let count = 0
    for (const _ of smallHeaps()) count++
    expect(count).toBe(36 * 2 + 210 * 4 + 462 * 8 + 495 * 16)
  })
})

describe.skipIf(reason !== undefined)(`families over native memory${reason ? `: ${reason}` : ''}`, () => {
  it('hold', { timeout: LONG }, async () => {
    const args = ['--memory', 'native', '--family', 'all', '--seeds', '1', '--seed', '3']
    const report = await runScript<{ families: Record<string, number> }>('stress.ts', args, LONG)
    expect(report.found).toBe('')
    const names = FAMILIES.filter(({ makers }) => makers.includes('native')).map(({ name }) => name)
    expect(Object.keys(report.families).sort()).toEqual(names.sort())
  })
})
