/**
 * Built code as one script with its bytecode. Reading and compiling the source takes half the time of what is done once with little code: of a small
 * command, or of the import and the first call of the library. So the build keeps what V8 made of it in a run; V8 takes that only if its own version and
 * flags are the same and the source is as long, and compiles as ever where they are not.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { Script } from 'node:vm'

/** Where the bytecode of the script in `file` is, for this V8. (That does not ask itself which processor it was made on.) */
export const bytecodeOf = (file: string): string => `${file}.${process.versions.v8}.${process.arch}.bytecode`

/** What stands around a CommonJS module in a script: put there when it is built, for to join half a million characters takes its time too. */
export const BEFORE = '(function (exports, require, module, __filename, __dirname) {'
export const BEHIND = '})'

/** The script in `file`, of ASCII; with `bytecode` or, if there is none, without. */
export const readScript = (file: string, bytecode: Buffer | undefined): Script =>
  new Script(readFileSync(file, 'latin1'), { filename: file, cachedData: bytecode })

/** Runs a script as Node runs a CommonJS module. Returns what it exports. */
export function runScript(script: Script, file: string): object {
  const module = { exports: {} }
  script.runInThisContext()(module.exports, createRequire(file), module, file, dirname(file))
  return module.exports
}

/** What the script in `file` exports. */
export const loadScript = (file: string): object => runScript(readScript(file, readBytecode(file)), file)

/** The bytecode that was kept for this V8; undefined where there is none. */
export function readBytecode(file: string): Buffer | undefined {
  try {
    return readFileSync(bytecodeOf(file))
  } catch {
    return undefined
  }
}
