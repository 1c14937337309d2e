/** The package as it is built: whichever file of it a program gets, it is the library. */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
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

/** Imports the package among other globals, as some test runners do. */
const REALM = `
import { readFileSync } from 'node:fs'
import { createContext, SourceTextModule, SyntheticModule } from 'node:vm'
const context = createContext({ console, process, TextEncoder, URL })
const index = new URL('./dist/index.js', 'file://' + process.cwd() + '/')
const link = async (specifier, from) => {
  if (!specifier.startsWith('node:')) return load(new URL(specifier, from.identifier))
  const exports = await import(specifier)
  const names = Object.keys(exports)
  return new SyntheticModule(names, function () { for (const name of names) this.setExport(name, exports[name]) }, { context })
}
const load = (url) => new SourceTextModule(readFileSync(url, 'utf8'), {
  context,
  identifier: url.href,
  initializeImportMeta: (meta) => { meta.url = url.href },
})
const text = \`
import { RelocError, sweep } from './index.js'
const { count, starts } = sweep(Uint8Array.of(0x90, 0xc3))
let code
try { sweep('') } catch (error) { code = error instanceof Error && error instanceof RelocError && error.code }
console.log(JSON.stringify({ count, isOwn: starts instanceof Uint32Array, code }))
\`
const main = new SourceTextModule(text, { context, identifier: index.href })
await main.link(link)
await main.evaluate()
`

function run(...argv: readonly string[]): unknown {
  const all = [...argv, '--input-type=module', '--eval', SCRIPT]
  return JSON.parse(execFileSync(process.execPath, all, { cwd: ROOT, encoding: 'utf8', timeout: 60_000 }))
}

/** Preloaded: tells of the flags that are set. */
const TELL_FLAGS = `
const v8 = require('node:v8')
const set = v8.setFlagsFromString
v8.setFlagsFromString = (flag) => {
  require('node:fs').writeSync(1, 'flag ')
  set(flag)
}
`

/** How many flags of V8 the built command sets for a move of so many bytes of code that is not verified. */
function flagsFor(length: number): number {
  const directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
  try {
    const [preload, input] = [join(directory, 'flags.cjs'), join(directory, 'code.bin')]
    writeFileSync(preload, TELL_FLAGS)
    writeFileSync(input, new Uint8Array(length).fill(0x90).fill(0xc3, -1))
    const addresses = ['--from', '0x400000', '--to', '0x800000', '-o', join(directory, 'moved.bin')]
    const command = ['--require', preload, join(ROOT, 'dist/cli/main.js'), 'relocate', input, '--no-verify']
    const output = execFileSync(process.execPath, [...command, ...addresses], {
      stdio: 'pipe',
      timeout: 60_000,
    })
    return output.toString().split('flag').length - 1
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** Files of the build that name the folder it was built in. */
const namesFolder = (file: string): boolean => readFileSync(file).includes(Buffer.from(ROOT))

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

  it('is of the globals that it is imported among', () => {
    const argv = ['--experimental-vm-modules', '--no-warnings', '--input-type=module', '--eval', REALM]
    const output = execFileSync(process.execPath, argv, { cwd: ROOT, encoding: 'utf8', timeout: 60_000 })
    expect(JSON.parse(output)).toEqual({ count: 2, isOwn: true, code: 'bad-argument' })
  })

  it('can be imported where there is no Node, and moves what it is given', () => {
    const script = `
const { argv } = process
for (const name of ['process', 'Buffer', 'global']) delete globalThis[name]
const { analyze, nativeUnavailable, placeObject, relocate } = await import(argv[1])
const code = Uint8Array.of(0xe8, 0, 0x10, 0, 0)
const { bytes } = relocate(code, analyze(code, { base: 0x400000 }), { to: 0x400800 })
console.log(bytes.join(), nativeUnavailable())`
    const argv = ['--input-type=module', '--eval', script, join(ROOT, 'dist/module.js')]
    expect(execFileSync(process.execPath, argv, { encoding: 'utf8', timeout: 60_000 })).toBe(
      '232,0,8,0,0 native execution needs Linux on x86-64; this is a runtime other than Node\n',
    )
  })

  it('finds its packages from a bundle of CommonJS, which has no import.meta', () => {
    const text = readFileSync(join(ROOT, 'dist/module.js'), 'utf8')
    const directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
    try {
      const file = join(directory, 'bundle.cjs')
      const call = 'move(Uint8Array.of(0xe8, 0, 0x10, 0, 0), { from: 0x400000, to: 0x400800 })'
      const bundle = text.replaceAll('import.meta', '({})').replace(/^export \{.*$/m, '')
      writeFileSync(file, `${bundle}\nconsole.log(${call}.bytes.join())`)
      symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
      expect(execFileSync(process.execPath, [file], { encoding: 'utf8' })).toBe('232,0,8,0,0\n')
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it("sets V8's flags where the code is large, without a thread too", () => {
    expect([4096, 1 << 20].map(flagsFor)).toEqual([0, 3])
  })

  it('shows none of its source where an exception is a defect, thrown at once or later', () => {
    const directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
    try {
      const preload = join(directory, 'preload.cjs')
      const argv = ['--require', preload, join(ROOT, 'dist/cli/main.js'), '--help']
      for (const fault of ['null.planted', 'setImmediate(() => null.planted)']) {
        writeFileSync(preload, `process.stdout.write = () => ${fault}`)
        const { status, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8', timeout: 60_000 })
        expect(status).toBe(3)
        expect(stderr).toMatch(/^x64-reloc: This is a defect .*'planted'\)\n( {4}at .{1,300}\n)+$/)
      }
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it('says nowhere where it was built', () => {
    const files = ['.', 'cli'].flatMap((folder) =>
      readdirSync(join(ROOT, 'dist', folder)).map((name) => join(ROOT, 'dist', folder, name)),
    )
    const scripts = files.filter((file) => /\.(js|cjs|bytecode)$/.test(file))
    expect(scripts.filter((file) => file.endsWith('.bytecode'))).toHaveLength(3)
    expect(scripts.filter(namesFolder)).toEqual([])
  })
})
