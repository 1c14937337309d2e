import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Script } from 'node:vm'
import { afterAll, expect, it } from 'vitest'
import { BEFORE, BEHIND, readScript, runScript } from '../../src/start/bytecode.ts'

const directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
afterAll(() => rmSync(directory, { recursive: true }))

let files = 0

/**
 * Runs `source` with `bytecode` from a file that V8 has not seen yet, or it would take what it has compiled
 * before. Returns what it did.
 */
function run(source: string, bytecode: Buffer | undefined): { ran: unknown; script: Script } {
  const file = join(directory, `${files++}.cjs`)
  writeFileSync(file, BEFORE + source + BEHIND)
  const script = readScript(file, bytecode)
  runScript(script, file)
  return { ran: (globalThis as { ran?: unknown }).ran, script }
}

it('a script runs from its bytecode, and from source where that is of something else', () => {
  const source =
    'const { extname } = require("node:path"); globalThis.ran = extname(__filename) + typeof module.exports'
  const { ran, script } = run(source, undefined)
  expect(ran).toBe('.cjsobject')
  const bytecode = script.createCachedData()
  const again = run(source, bytecode)
  expect([again.ran, again.script.cachedDataRejected]).toEqual([ran, false])
  const otherFlags = Buffer.from(bytecode)
  otherFlags[12] ^= 1
  for (const wrong of [bytecode.subarray(0, 100), otherFlags, Buffer.alloc(0)]) {
    const { ran, script } = run(source, wrong)
    expect([ran, script.cachedDataRejected]).toEqual(['.cjsobject', true])
  }
  const other = run('globalThis.ran = "of another length"', bytecode)
  expect([other.ran, other.script.cachedDataRejected]).toEqual(['of another length', true])
})
