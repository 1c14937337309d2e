import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { INPUT_KINDS, type Outcome, tryDamaged } from '../support/hostile.ts'

describe('damaged input', () => {
  it('is read, or refused with a sentence, 20,000 times: ELF files, object files, tables in both forms, hints', () => {
    const results = new Map<string, number>()
    let slowest: Outcome = { kind: 'elf', result: '', milliseconds: 0 }
    for (let index = 0; index < 20_000; index++) {
      const outcome = tryDamaged(1, index)
      results.set(`${outcome.kind} ${outcome.result === 'read' ? 'read' : 'refused'}`, 0)
      if (outcome.milliseconds > slowest.milliseconds) slowest = outcome
    }
    // A run that only ever refuses, or only ever reads, shows nothing.
    for (const kind of INPUT_KINDS)
      expect([...results.keys()]).toEqual(expect.arrayContaining([`${kind} read`, `${kind} refused`]))
    expect(slowest.milliseconds).toBeLessThan(2000)
  }, 60_000)

  it('that is large costs at most four times its size in memory, and no long time', () => {
    const [mebibytes, shapes] = [8, ['names', 'sections', 'records', 'segments', 'gap', 'objectRecords']]
    const script = join(import.meta.dirname, '../support/hostile-large.ts')
    // A small heap keeps garbage that the collector would else leave lying out of the figure; who needs more
    // than that crashes.
    const heap = [
      `--max-old-space-size=${4 * mebibytes + 16}`,
      '--max-semi-space-size=1',
      '--single-threaded-gc',
    ]
    const args = [...heap, '--import', 'tsx', script, String(mebibytes), ...shapes]
    const lines = execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 })
      .trim()
      .split('\n')
    const seen = lines.map(
      (line) => JSON.parse(line) as { name: string; memory: number; milliseconds: number },
    )
    expect(seen.map(({ name }) => name)).toEqual(shapes)
    for (const { name, memory, milliseconds } of seen) {
      // Compiled code and the collector's reserve come on top, whatever the size.
      expect(memory, name).toBeLessThanOrEqual((4 * mebibytes + 16) * 2 ** 20)
      expect(milliseconds, name).toBeLessThan(20_000)
    }
  }, 70_000)
})
