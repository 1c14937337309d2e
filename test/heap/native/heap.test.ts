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

  it('is not closed under the code that runs in it; afterwards nothing runs', { timeout: LONG }, async () => {
    expect(await runScenario('closing')).toEqual({ running: 'refused', result: '7', after: 'stale' })
  })

  it('what a callback returns is a bigint of 64 bits, or nothing', { timeout: LONG }, async () => {
    const wrong = new Array(4).fill('bad-argument')
    expect(await runScenario('strangeResults')).toEqual(['ffffffffffffffff', '0', ...wrong])
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

  it('code that is on the stack moves under a callback and returns the right result: sliding, its return addresses are rewritten', {
    timeout: LONG,
  }, async () => {
    expect(await runScenario('liveSlide')).toEqual({
      result: '1034',
      after: '10',
      moved: 2,
      old: 'poison',
      draining: 0,
      oldAfter: 'poison',
      violations: 0,
      kept: [],
    })
  })

  it('draining, the old copies run to their end and then go', { timeout: LONG }, async () => {
    expect(await runScenario('liveDrain')).toEqual({
      result: '1034',
      after: '10',
      moved: 2,
      old: 'code',
      draining: 2,
      oldAfter: 'poison',
      violations: 0,
      kept: [],
    })
  })

  it('ten thousand frames move at once', { timeout: LONG }, async () => {
    const { milliseconds, ...rest } = await runScenario('deepSlide')
    expect(rest).toEqual({ result: '5', moved: 2, violations: 0 })
    expect(milliseconds).toBeLessThan(2000)
  })

  it('a frame that cannot be walked pins its caller, a code pointer in a saved register what it points at', {
    timeout: LONG,
  }, async () => {
    expect(await runScenario('pinnedFrames')).toEqual({
      result: '42',
      kept: ['pointed: running', 'setup: running'],
      moved: ['outer', 'inner', 'free'],
      refused: 'refused',
    })
  })

  it('a heap near C functions calls them directly from everywhere; what is out of reach is refused with a remedy', {
    timeout: LONG,
  }, async () => {
    const { distances, results, apart, far } = await runScenario('nearby')
    for (const distance of distances) expect(Math.abs(distance)).toBeLessThan(2 ** 31)
    expect(results).toEqual(['41', '42', '41', '42'])
    expect(apart).toBe('bad-argument')
    expect(far).toContain('far cannot lie in this heap')
    expect(far).toContain('near: [address]')
  })
})
