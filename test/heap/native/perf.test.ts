import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { nativeUnavailable } from '../../../src/heap/native/memory.ts'

const noPerf =
  spawnSync('perf', ['record', '-q', '-k', '1', '-e', 'cpu-clock', '-o', '/dev/null', 'true']).status !== 0
const reason = nativeUnavailable() ?? (noPerf ? 'perf cannot record here' : undefined)

describe.skipIf(reason !== undefined)(`jitdump${reason === undefined ? '' : `: ${reason}`}`, () => {
  // Not `perf-`: perf takes every /tmp/perf-* for a perf map.
  const directory = mkdtempSync(join(tmpdir(), 'jitdump-'))
  afterAll(() => rmSync(directory, { recursive: true }))

  it('perf names the samples at the old and at the new place', { timeout: 60_000 }, () => {
    const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
    const script = fileURLToPath(new URL('./scenario.ts', import.meta.url))
    const [data, injected] = [join(directory, 'perf.data'), join(directory, 'injected.data')]
    const node = [process.execPath, '--import', loader, script, 'profiled', directory]
    const record = ['record', '-q', '-k', '1', '-e', 'cpu-clock', '-F', '199', '-o', data, ...node]
    const { from, to, path } = JSON.parse(execFileSync('perf', record, { encoding: 'utf8' }))
    expect(readFileSync(path).readUInt32LE(0)).toBe(0x4a695444)
    execFileSync('perf', ['inject', '--jit', '-i', data, '-o', injected], { cwd: directory })
    const samples = execFileSync('perf', ['script', '-i', injected, '-F', 'ip,sym'], {
      encoding: 'utf8',
      cwd: directory,
      maxBuffer: 1 << 26,
    })
    const near = (place: string): string[] => {
      const start = BigInt(`0x${place}`)
      return samples
        .split('\n')
        .map((line) => line.trim().split(/\s+/))
        .filter(
          ([ip]) =>
            /^[0-9a-f]+$/.test(ip) && BigInt(`0x${ip}`) - start >= 0n && BigInt(`0x${ip}`) - start < 9n,
        )
        .map(([, name]) => name)
    }
    for (const place of [from, to]) {
      expect(near(place).length).toBeGreaterThan(3)
      expect(new Set(near(place))).toEqual(new Set(['spinning']))
    }
  })
})
