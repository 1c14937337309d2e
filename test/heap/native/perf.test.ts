import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { CodeHeap } from '../../../src/heap/heap.ts'
import { nativeUnavailable } from '../../../src/heap/native/machine.ts'
import { JitDump, PerfMap } from '../../../src/heap/native/perf.ts'
import type { Block, CodeHandle } from '../../../src/heap/object.ts'
import { simulatedMemory } from '../../../src/heap/simulated.ts'

const noPerf =
  spawnSync('perf', ['record', '-q', '-k', '1', '-e', 'cpu-clock', '-o', '/dev/null', 'true']).status !== 0
const reason = nativeUnavailable() ?? (noPerf ? 'perf cannot record here' : undefined)

/** The names that perf gives to samples within nine bytes of each place. */
function namesAt(data: string, directory: string, places: readonly string[]): string[][] {
  const samples = execFileSync('perf', ['script', '-i', data, '-F', 'ip,sym'], {
    encoding: 'utf8',
    cwd: directory,
    maxBuffer: 1 << 26,
  })
  const lines = samples.split('\n').map((line) => /^\s*([0-9a-f]+) (\S+)/.exec(line) ?? [])
  return places.map((place) => {
    const start = BigInt(`0x${place}`)
    return lines.flatMap(([, ip, name]) => {
      const distance = ip === undefined ? -1n : BigInt(`0x${ip}`) - start
      return distance >= 0n && distance < 9n ? [name] : []
    })
  })
}

/** Runs a scenario under `perf record`; its result. */
function recorded<R>(data: string, ...scenario: string[]): R {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const script = fileURLToPath(new URL('./scenario.ts', import.meta.url))
  const node = [process.execPath, '--import', loader, script, ...scenario]
  const record = ['record', '-q', '-k', '1', '-e', 'cpu-clock', '-F', '199', '-o', data, ...node]
  return JSON.parse(execFileSync('perf', record, { encoding: 'utf8' })) as R
}

describe.skipIf(reason !== undefined)(`perf${reason === undefined ? '' : `: ${reason}`}`, () => {
  // Not `perf-`: perf takes every /tmp/perf-* for a perf map.
  const directory = mkdtempSync(join(tmpdir(), 'jitdump-'))
  const [data, injected] = [join(directory, 'perf.data'), join(directory, 'injected.data')]
  afterAll(() => rmSync(directory, { recursive: true }))

  it('names the samples at the old and at the new place by the jitdump', { timeout: 60_000 }, () => {
    const { from, to, path } = recorded<Record<'from' | 'to' | 'path', string>>(data, 'profiled', directory)
    expect(readFileSync(path).readUInt32LE(0)).toBe(0x4a695444)
    execFileSync('perf', ['inject', '--jit', '-i', data, '-o', injected], { cwd: directory })
    for (const names of namesAt(injected, directory, [from, to])) {
      expect(names.length).toBeGreaterThan(3)
      expect(new Set(names)).toEqual(new Set(['spinning']))
    }
  })

  it('names code in private pages by the perf map', { timeout: 60_000 }, () => {
    const { at, path } = recorded<Record<'at' | 'path', string>>(data, 'mapped')
    try {
      const [names] = namesAt(data, directory, [at])
      expect(names.length).toBeGreaterThan(3)
      expect(new Set(names)).toEqual(new Set(['spinning_there']))
    } finally {
      rmSync(path)
    }
  })
})

describe.skipIf(nativeUnavailable() !== undefined)('JitDump', () => {
  it('has records of the length that names end where perf sees it, and a name for each', () => {
    const directory = mkdtempSync(join(tmpdir(), 'dump-'))
    try {
      const dump = new JitDump(directory)
      const memory = simulatedMemory<Block>({ base: 0x4000_0000n, size: 1 << 16 })
      const heap = new CodeHeap(memory, { sideTables: [dump] })
      for (const name of ['in\0two', '', 'plain'])
        heap.add({ bytes: Uint8Array.of(0x90, 0xc3), base: 0x1000n, name })
      dump.close()
      const bytes = readFileSync(dump.path)
      const names: string[] = []
      for (let at = 40; bytes.readUInt32LE(at) === 0; at += bytes.readUInt32LE(at + 4)) {
        const end = bytes.indexOf(0, at + 56)
        names.push(bytes.toString('latin1', at + 56, end))
        expect([...bytes.subarray(end + 1, at + bytes.readUInt32LE(at + 4))]).toEqual([0x90, 0xc3])
      }
      expect(names).toEqual(['in_two', 'object 1', 'plain'])
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})

describe('PerfMap', () => {
  it('has a line for each place that an object ever had: the last one for an address counts', () => {
    const directory = mkdtempSync(join(tmpdir(), 'map-'))
    try {
      const map = new PerfMap(directory)
      const memory = simulatedMemory<Block>({ base: 0x4000_0000n, size: 1 << 16 })
      const heap = new CodeHeap(memory, { sideTables: [map] })
      const add = (length: number, name: string): CodeHandle =>
        heap.add({ bytes: new Uint8Array(length).fill(0xc3), base: 0x1000n, name })
      const first = add(40, 'the first')
      const second = add(20, 'second')
      heap.free(first)
      heap.compact()
      const third = add(30, 'third')
      map.close()
      const text = readFileSync(map.path, 'utf8')
      expect(text).toBe('40000000 28 the_first\n40000030 14 second\n40000000 14 second\n40000020 1e third\n')
      const lines = text.trimEnd().split('\n')
      const named = (address: bigint): string | undefined =>
        lines.findLast((line) => {
          const [start, size] = line.split(' ', 2).map((word) => BigInt(`0x${word}`))
          return address >= start && address < start + size
        })
      for (const handle of [second, third]) expect(named(heap.entry(handle))).toContain(handle.name)
      expect(map.path).toBe(join(directory, `perf-${process.pid}.map`))
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})
