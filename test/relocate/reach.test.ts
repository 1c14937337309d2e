/** Instructions out of reach, run where they were and where they went: nothing else may differ. `npm run fuzz:reach` runs more. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLASSES } from '../../scripts/fuzz/reach-cases.ts'
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
    for (const name of CLASSES) {
      const distances = report.classes[name]
      // A CPU without AVX-512 runs no case of it.
      if (name === 'avx512' && distances === undefined) continue
      for (const { executed, faulted } of Object.values(distances)) {
        expect(executed).toBeGreaterThan(20)
        expect(faulted / executed).toBeLessThan(0.05)
      }
    }
  }, 120_000)

  it.each(Object.keys(SABOTAGES))(
    'a veneer without %s is found',
    async (name) => {
      if (name === 'evex-b' && (await fuzzer.run({ count: 500, seed: 1 })).classes.avx512 === undefined)
        return
      const { differences } = await fuzzer.run({ count: 20_000, seed: 6, tamper: saboteur(name), most: 1 })
      expect(differences).not.toEqual([])
    },
    60_000,
  )
})
