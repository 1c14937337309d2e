import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'rolldown'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { AheadThread, startAhead } from '../../src/cli/ahead.ts'
import { aheadLength } from '../../src/verify/ahead.ts'

const ROOT = join(import.meta.dirname, '../..')
let directory: string
let startBuilt: typeof startAhead

/** A thread of Node 20 runs JavaScript only. */
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'), 'junction')
  writeFileSync(join(directory, 'package.json'), '{ "type": "module" }')
  for (const [name, file] of [
    ['ahead', 'ahead.js'],
    ['ahead-thread', 'ahead-thread.cjs'],
  ])
    await build({
      input: join(ROOT, `src/cli/${name}.ts`),
      platform: 'node',
      external: /^[^./]/,
      output: { file: join(directory, file), format: file.endsWith('.cjs') ? 'cjs' : 'es' },
    })
  startBuilt = (await import(pathToFileURL(join(directory, 'ahead.js')).href)).startAhead
})
afterAll(() => rmSync(directory, { recursive: true }))

it('a second thread decodes large code, all of it, then from where it is told that runs start', async () => {
  expect(await startBuilt(new Uint8Array(4096), undefined)).toBeUndefined()
  const code = new Uint8Array(1 << 20).fill(0x90)
  // Data that reads as the start of an instruction: the run at 5 is not in step with what comes before it.
  code.set([0x48, 0xb8, 0x48, 0x89, 0xc8], 3)
  const ahead = (await startBuilt(code, undefined)) as AheadThread
  const length = (at: number): number => aheadLength(ahead.words[at])
  await expect.poll(() => length(0), { timeout: 20_000 }).toBe(1)
  await expect.poll(() => length(13), { timeout: 20_000 }).toBe(1)
  ahead.wait(code.length - 1)
  expect(length(code.length - 1)).toBe(1)
  expect([length(3), length(5)]).toEqual([10, 0])
  ahead.startAt([{ start: 5, end: code.length }])
  await expect.poll(() => [length(5), length(8)], { timeout: 20_000 }).toEqual([3, 1])
  // No instruction starts here: it waits until all is done, not for ever.
  ahead.wait(6)
  expect(length(6)).toBe(0)
}, 60_000)
