/** The package as it is built: whichever file of it a program gets, it is the library. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import * as library from '../../src/index.ts'

const ROOT = join(import.meta.dirname, '../..')
const isBuilt = existsSync(join(ROOT, 'dist/index.js'))

const SCRIPT = `
import * as library from 'x64-reloc'
const { bytes } = library.move(Uint8Array.of(0xe8, 0, 0x10, 0, 0), { from: 0x400000, to: 0x400800 })
let code
try { library.analyze('', {}) } catch (error) { code = error instanceof library.RelocError && error.code }
console.log(JSON.stringify({ names: Object.keys(library).sort(), moved: [...bytes], code, at: import.meta.resolve('x64-reloc') }))
`

function run(...argv: readonly string[]): unknown {
  const all = [...argv, '--input-type=module', '--eval', SCRIPT]
  return JSON.parse(execFileSync(process.execPath, all, { cwd: ROOT, encoding: 'utf8', timeout: 60_000 }))
}

describe.skipIf(!isBuilt)('the built package (skipped without `npm run build`)', () => {
  it.each([
    ['Node', 'index.js', []],
    // Other flags: V8 does not take the bytecode.
    ['Node with flags of its own', 'index.js', ['--no-opt']],
    ['a bundler', 'module.js', ['--conditions=module']],
  ])('is the library for %s', (_, file, argv) => {
    expect(run(...argv)).toEqual({
      names: Object.keys(library).sort(),
      moved: [0xe8, 0, 0x08, 0, 0],
      code: 'bad-argument',
      at: new URL(`../../dist/${file}`, import.meta.url).href,
    })
  })
})
