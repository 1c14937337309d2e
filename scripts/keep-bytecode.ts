/** Keeps the bytecode of the built command, the last step of `npm run build`: of all that a verified move of a fixture runs. Starts in the repository's folder. */
import { mkdtempSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bytecodeOf, commandScript, runScript } from '../src/cli/bytecode.ts'

const FIXTURE = 'fixtures/gcc-O2-image/from.bin'
const file = join(import.meta.dirname, '../dist/cli/x64-reloc.cjs')
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
const script = commandScript(file, undefined)
runScript(script, file)
process.on('exit', (code) => {
  rmSync(work, { recursive: true })
  if (code === 0) writeFileSync(bytecodeOf(file), script.createCachedData())
  else writeSync(2, said)
})
