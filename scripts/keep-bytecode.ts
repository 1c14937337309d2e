/**
 * Keeps the bytecode of the built library, of the built command and of its iced, the last step of `npm run
 * build`: of all that a move of a fixture runs, verified by the command. And writes what Node imports, by the
 * names that the library has. Starts in the repository's folder.
 */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Script } from 'node:vm'
import type * as Library from '../src/index.ts'
import { move } from '../src/move.ts'
import { bytecodeOf, readScript, runScript } from '../src/start/bytecode.ts'
import { AheadDecoder } from '../src/verify/ahead.ts'
import { loadIcedBy } from '../src/x86/iced.ts'

const FIXTURE = 'fixtures/gcc-O2-image/from.bin'
const dist = join(import.meta.dirname, '../dist')

/** The script in `file`, which has to be ASCII, for it is read as latin1. */
function readBuilt(file: string): Script {
  const other = readFileSync(file).findIndex((byte) => byte > 0x7f)
  if (other >= 0) throw new Error(`${file} is not ASCII at offset ${other}: write \\u escapes.`)
  return readScript(file, undefined)
}

function keepLibrary(): void {
  const file = join(dist, 'library.cjs')
  const script = readBuilt(file)
  const library = runScript(script, file) as typeof Library
  const code = new Uint8Array(readFileSync(FIXTURE))
  // A few hundred bytes are read in another way.
  library.analyze(code.subarray(0, 300), { base: 0x40_0000 })
  library.relocate(code, library.analyze(code, { base: 0x40_0000 }), { to: 0x50_0000 })
  writeFileSync(bytecodeOf(file), script.createCachedData())
  const text = `// The library under Node: one script, with its bytecode.
import { loadScript } from './start/bytecode.js'

export const {
  ${Object.keys(library).join(',\n  ')},
} = loadScript(new URL('./library.cjs', import.meta.url))
`
  writeFileSync(join(dist, 'index.js'), text)
  // Of the file that it replaces.
  rmSync(join(dist, 'index.js.map'))
}

/** Of what verification and its thread call, with the package's WebAssembly and license beside it. */
function keepIced(): void {
  const file = join(dist, 'cli/iced.cjs')
  const folder = dirname(createRequire(import.meta.url).resolve('iced-x86'))
  copyFileSync(join(folder, 'iced_x86_bg.wasm'), join(dist, 'cli/iced_x86_bg.wasm'))
  copyFileSync(join(folder, 'LICENSE.txt'), join(dist, 'cli/iced.LICENSE.txt'))
  const script = readBuilt(file)
  const iced = runScript(script, file)
  loadIcedBy(() => iced)
  const code = new Uint8Array(readFileSync(FIXTURE))
  new AheadDecoder({ code, words: new Uint8Array(code.length) }).all()
  move(code, { from: 0x40_0000, to: 0x50_0000 })
  writeFileSync(bytecodeOf(file), script.createCachedData())
}

/** Ends with the process. */
function keepCommand(): void {
  const file = join(dist, 'cli/x64-reloc.cjs')
  const work = mkdtempSync(join(tmpdir(), 'x64-reloc-'))
  const output = join(work, 'moved.bin')
  process.argv.length = 2
  process.argv.push(...`relocate ${FIXTURE} --from 0x400000 --to 0x500000`.split(' '), '-o', output)
  // A build has nothing to say of it, unless it fails.
  let said = ''
  process.stderr.write = (text: string | Uint8Array): boolean => {
    said += String(text)
    return true
  }
  const script = readBuilt(file)
  runScript(script, file)
  process.on('exit', (code) => {
    rmSync(work, { recursive: true })
    if (code === 0) writeFileSync(bytecodeOf(file), script.createCachedData())
    else writeSync(2, said)
  })
}

keepLibrary()
keepIced()
keepCommand()
