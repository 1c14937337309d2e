/**
 * The built command as a script with its bytecode. Reading and compiling the source takes a third of the time of a small command, so the build keeps what V8
 * made of it in a run; V8 takes that only if its own version and flags are the same and the source is as long, and compiles as ever where they are not.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { Script } from 'node:vm'

/**
 * Most commands are over before optimised code pays for its compilation, which runs beside them on the same cores: it begins after three times the
 * bytecodes, and takes less time (3 % of a move of 6 MB).
 */
const FLAGS = [
  '--interrupt-budget=400000',
  '--max-inlined-bytecode-size-cumulative=300',
  '--no-turbo-load-elimination',
]

/** Where the bytecode of the script in `file` is. */
export const bytecodeOf = (file: string): string => `${file}.bytecode`

/** The script in `file`, a CommonJS module; with `bytecode` or, if there is none, without. */
export function commandScript(file: string, bytecode: Buffer | undefined): Script {
  for (const flag of FLAGS) setFlagsFromString(flag)
  const source = `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'utf8')}\n})`
  return new Script(source, { filename: file, cachedData: bytecode })
}

/** Runs it as Node runs a CommonJS module. */
export function runScript(script: Script, file: string): void {
  const module = { exports: {} }
  script.runInThisContext()(module.exports, createRequire(file), module, file, dirname(file))
}
