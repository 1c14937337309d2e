import { describe, expect, it } from 'vitest'
import { nativeUnavailable } from '../../src/heap/native/memory.ts'
import { simulatedMemory } from '../../src/heap/simulated.ts'
import { runScript } from './native/run.ts'
import { SABOTAGES, type Sabotage } from './support/sabotage.ts'
import { Stress, type StressCounts } from './support/stress.ts'

const LONG = 60_000
const reason = nativeUnavailable()

/** Programs over simulated memory, with what was found wrong. */
function simulated(
  seeds: number,
  sabotage?: Sabotage,
): { readonly counts: StressCounts[]; readonly found: string } {
  const counts: StressCounts[] = []
  for (let seed = 1; seed <= seeds; seed++) {
    const stress = new Stress({
      seed,
      memory: simulatedMemory({ base: [0x4000_0000n, 0x10000n, 0xffff_0000n][seed % 3], size: 256 << 10 }),
      cells: { address: 0x7000_0000_0000n, bytes: new Uint8Array(4096) },
      sabotage,
    })
    counts.push(stress.counts)
    try {
      for (let step = 0; step < 300; step++) stress.step()
      stress.check()
    } catch (error) {
      return { counts, found: String(error) }
    }
  }
  return { counts, found: '' }
}

/** `npm run stress` over native memory, in a process of its own; what it died of counts as found. */
const native = (seeds: number, ...args: string[]): Promise<StressCounts & { readonly found: string }> =>
  runScript('stress.ts', ['--memory', 'native', '--seeds', `${seeds}`, ...args], LONG)

describe('programs that run while everything moves', () => {
  it('hold over simulated memory', { timeout: LONG }, () => {
    const { counts, found } = simulated(4)
    expect(found).toBe('')
    for (const { moves, collections, deallocs } of counts) {
      expect(moves).toBeGreaterThan(50)
      expect(collections).toBeGreaterThan(5)
      expect(deallocs).toBeGreaterThan(5)
    }
  })

  it.skipIf(reason !== undefined)(
    'return the right results over native memory',
    { timeout: LONG },
    async () => {
      const { found, moves, callbacks } = await native(3, '--seed', '100')
      expect(found).toBe('')
      expect(moves).toBeGreaterThan(200)
      expect(callbacks).toBeGreaterThan(100)
    },
  )
})

describe('sabotage is caught', () => {
  it.each(['inbound', 'root', 'dealloc-twice', 'reuse-before-drain'] as const)('%s', (sabotage) => {
    expect(simulated(4, sabotage).found).not.toBe('')
  })

  it.skipIf(reason !== undefined).each(SABOTAGES)('natively: %s', { timeout: LONG }, async (sabotage) => {
    expect((await native(40, '--sabotage', sabotage)).found).not.toBe('')
  })
})
