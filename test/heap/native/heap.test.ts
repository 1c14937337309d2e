import { describe, expect, it } from 'vitest'
import { nativeUnavailable } from '../../../src/heap/native/memory.ts'
import { runScenario } from './run.ts'

const reason = nativeUnavailable()
const LONG = 60_000

describe.skipIf(reason !== undefined)(`native heap${reason === undefined ? '' : `: ${reason}`}`, () => {
  it('objects that call one another move, together and alone, and compute the same', {
    timeout: LONG,
  }, async () => {
    const { moved, ...rest } = await runScenario('cyclicCalls')
    expect(rest).toEqual({ wrong: 0, deep: '1', violations: 0 })
    expect(moved).toBeGreaterThan(100)
  })

  it('nothing is ever writable and executable; writes go to allocations, in a scope', {
    timeout: LONG,
  }, async () => {
    const { outside, inside, ...rest } = await runScenario('protection')
    expect(outside).not.toContain('rw-s')
    expect(outside).toContain('r-xs')
    expect(inside).toContain('rw-s')
    expect(rest).toEqual({ wx: 0, refusals: new Array(6).fill('bad-argument'), mapsGrowth: 0 })
  })

  it('a stable entry leads to its object wherever that is', { timeout: LONG }, async () => {
    expect(await runScenario('stableEntry')).toEqual(['1', '0', '1', '0', '1', '0'])
  })
})
