/** Instructions out of reach, run where they were and where they went: nothing else may differ. `npm run fuzz:reach` runs more. */
import { expect, it } from 'vitest'
import { CLASSES } from '../../scripts/fuzz/reach-cases.ts'
import { fuzzReach } from '../../scripts/fuzz-reach.ts'
import { nativeAvailable, nativeReason } from '../support/native/harness.ts'

it.skipIf(!nativeAvailable)(
  `20,000 instructions of every class do the same at every distance ${nativeReason}`,
  async () => {
    const report = await fuzzReach({ count: 20_000, seed: 6 })
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
  },
  120_000,
)
