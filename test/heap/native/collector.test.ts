/** A collector of data and code over the heap: `npm run collector` for some steps. */
import { describe, expect, it } from 'vitest'
import { nativeUnavailable } from '../../../src/heap/native/memory.ts'
import type { Footprint } from '../support/footprint.ts'
import { runScript } from './run.ts'

const reason = nativeUnavailable()

interface Report {
  readonly found: string
  readonly collections: number
  readonly objectsMoved: number
  readonly objectsPinned: number
  readonly codeMoved: number
  readonly codeFreed: number
  readonly codeAdded: number
  readonly calls: number
  readonly fixtureCalls: number
  readonly samples: number
  readonly writableCode: number
  readonly settled: readonly Footprint[]
}

describe.skipIf(reason !== undefined)(`a collector${reason === undefined ? '' : `: ${reason}`}`, () => {
  it('keeps what is reached and frees the rest, moves data and code under running code, and stays as large as it is', {
    timeout: 60_000,
  }, async () => {
    const report = await runScript<Report>('collector.ts', ['--steps', '2000', '--seed', '11'])
    expect(report.found).toBe('')
    expect(report.writableCode).toBe(0)
    for (const count of ['collections', 'objectsMoved', 'codeMoved', 'calls'] as const)
      expect([count, report[count] > 50]).toEqual([count, true])
    expect(report.samples).toBeGreaterThan(0)
    expect(report.objectsPinned).toBeGreaterThan(0)
    expect(report.fixtureCalls).toBeGreaterThan(20)
    expect(report.codeFreed).toBe(report.codeAdded)
    const [first] = report.settled
    const last = report.settled[report.settled.length - 1]
    expect(last.heapMappings).toBe(first.heapMappings)
    expect(last.residentMiB - first.residentMiB).toBeLessThan(25)
  })
})
