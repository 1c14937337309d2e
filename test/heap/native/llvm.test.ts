import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { nativeUnavailable } from '../../../src/heap/native/memory.ts'
import { type CodeModel, findLlvm } from '../../support/native/llvm.ts'
import type { LlvmReport } from '../../support/native/llvm-heap.ts'

const libraries = findLlvm().map(({ version }) => version)
const reason =
  nativeUnavailable() ?? (libraries.length === 0 ? 'no LLVM library (14 or later) is installed' : '')
const newest = libraries[libraries.length - 1]
const older = libraries.filter((version) => version !== newest)

/** In a process of its own: LLVM's code runs there, and so does ours. */
async function run(version: number, model: CodeModel, how: 'object' | 'jit'): Promise<LlvmReport> {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const script = fileURLToPath(new URL('../../support/native/llvm-heap.ts', import.meta.url))
  const args = ['--import', loader, script, `${version}`, model, how]
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    timeout: 40_000,
    killSignal: 'SIGKILL',
  })
  return JSON.parse(stdout) as LlvmReport
}

describe.skipIf(reason !== '')(`LLVM's code in the heap ${reason}`, () => {
  it.each([
    [newest, 'small', 'object'],
    [newest, 'small', 'jit'],
    [newest, 'large', 'object'],
    [newest, 'large', 'jit'],
    ...older.flatMap((version) => [[version, 'large', 'jit'] as const]),
  ] as const)(
    'LLVM %s, %s code model, %s: moved over and over, also on the stack, it computes what LLVM computes',
    {
      timeout: 60_000,
    },
    async (version, model, how) => {
      const { expected, sites, moves, live, ...rest } = await run(version, model, how)
      // factorial(20) and classify(4): LLVM's results are what the text says.
      expect([expected[18], expected[4]]).toEqual(['2432902008176640000', '98'])
      expect(rest).toMatchObject({ wrong: 0, violations: 0, calls: 4000 })
      expect(moves).toBeGreaterThan(20)
      expect(live).toBeGreaterThan(100)
      expect(sites).toBeGreaterThan(how === 'object' ? 3 : 15)
    },
  )
})
