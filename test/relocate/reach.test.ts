/**
 * Instructions out of reach, run where they were and where they went: nothing else may differ. `npm run
 * fuzz:reach` runs more.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLASSES } from '../../scripts/fuzz/reach-cases.ts'
import { DISTANCES } from '../../scripts/fuzz/reach-places.ts'
import { SABOTAGES, saboteur } from '../../scripts/fuzz/reach-sabotage.ts'
import { ReachFuzzer } from '../../scripts/fuzz-reach.ts'
import { nativeAvailable, nativeReason } from '../support/native/harness.ts'

describe.skipIf(!nativeAvailable)(`moved out of reach and run ${nativeReason}`, () => {
  let fuzzer: ReachFuzzer
  beforeAll(async () => {
    fuzzer = await ReachFuzzer.start(6, 6)
  }, 60_000)
  afterAll(() => fuzzer.close())

  it('20,000 instructions of every class do the same at every distance', async () => {
    const report = await fuzzer.run({ count: 20_000, seed: 6 })
    expect(report.differences).toEqual([])
    expect(report.refused).toEqual([])
    expect(report.symbolic).toMatchObject({ followed: 200, wrong: [] })
    for (const name of CLASSES) {
      const distances = report.classes[name]
      // A CPU without AVX-512 runs no case of it.
      if (name === 'avx512' && distances === undefined) continue
      expect(Object.keys(distances).sort(), name).toEqual([...DISTANCES].sort())
      const sum = (key: 'executed' | 'changed' | 'taken'): number =>
        Object.values(distances).reduce((total, tally) => total + tally[key], 0)
      expect(sum('executed'), name).toBeGreaterThan(500)
      // nop and prefetch change nothing, wherever they point.
      if (name === 'hint') expect(sum('changed')).toBe(0)
      else expect(sum('changed') / sum('executed'), name).toBeGreaterThan(0.95)
      if (name === 'branch') expect(sum('taken')).toBeLessThan(sum('executed'))
    }
  }, 120_000)

  it('a case that differs is told as simple as it can be', async () => {
    const { differences } = await fuzzer.run({ count: 2000, seed: 6, tamper: saboteur('flags'), most: 1 })
    // The bytes at both places, and a state in which only what matters is not zero.
    expect(differences[0]).toMatch(
      /^\w+ [a-z]+( [a-z]+)? [0-9a-f]+ .* to 0x[0-9a-f]+ -> [0-9a-f]+ \+ [0-9a-f]+: .*rflags 0x\w+, moved 0x\w+/,
    )
    expect(differences[0].match(/; rsp=0x[0-9a-f]+ .*/)?.[0]).not.toContain('vector')
  }, 60_000)

  it.each(Object.keys(SABOTAGES))(
    'a veneer without %s is found',
    async (name) => {
      const { differences, classes } = await fuzzer.run({
        count: 20_000,
        seed: 6,
        tamper: saboteur(name),
        most: 1,
      })
      // A CPU without AVX-512 meets no EVEX.
      if (name === 'evex-b' && classes.avx512 === undefined) return
      expect(differences).not.toEqual([])
    },
    60_000,
  )
})
