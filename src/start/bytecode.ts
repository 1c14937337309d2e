/**
 * Built code as one script with its bytecode. Reading and compiling the source takes half the time of what is
 * done once with little code: of a small command, or of the import and the first call of the library. So the
 * build keeps what V8 made of it in a run; V8 takes that only if its own version and flags are the same and
 * the source is as long, and compiles as ever where they are not.
 */
import type { Script } from 'node:vm'

// As ES modules each of them would first be copied, export by export: an eighth of the library's import.
const { readFileSync } = process.getBuiltinModule('node:fs')
const { createRequire } = process.getBuiltinModule('node:module')
const { basename, dirname } = process.getBuiltinModule('node:path')
const { fileURLToPath } = process.getBuiltinModule('node:url')
const vm = process.getBuiltinModule('node:vm')

/**
 * Where the bytecode of the script in `file` is, for this V8. (That does not ask itself which processor it
 * was made on.)
 */
export const bytecodeOf = (file: string): string => `${file}.${process.versions.v8}.${process.arch}.bytecode`

/**
 * What stands around a CommonJS module in a script: put there when it is built, for to join half a million
 * characters takes its time too.
 */
export const BEFORE = '(function (exports, require, module, __filename, __dirname) {'
export const BEHIND = '})'

/** A CommonJS module as a function, as Node has it. */
type Wrapped = (exports: object, require: unknown, module: object, file: string, directory: string) => void

const readSource = (file: string): string => readFileSync(file, 'latin1')

/**
 * The script in `file`, of ASCII; with `bytecode` or, if there is none, without. The bytecode holds the
 * script's name: one that is the same wherever it was built.
 */
export const readScript = (file: string, bytecode: Buffer | undefined): Script =>
  new vm.Script(readSource(file), { filename: `x64-reloc/${copyOf(basename(file))}`, cachedData: bytecode })

/** V8 keeps a slice of a string with the whole of it. */
const copyOf = (text: string): string => Buffer.from(text).toString()

/** Runs a script. Returns what it exports. */
export const runScript = (script: Script, file: string): object => runModule(script.runInThisContext(), file)

function runModule(wrapped: Wrapped, file: string): object {
  const module = { exports: {} }
  wrapped(module.exports, createRequire(file), module, file, dirname(file))
  return module.exports
}

/**
 * What the script at `where`, a path or a URL, exports. Scripts run among the globals of the process; where
 * this file has others (test runners do that), it is evaluated.
 */
export function loadScript(where: string | URL): object {
  const file = typeof where === 'string' ? where : fileURLToPath(where)
  const isAtHome = new vm.Script('Object').runInThisContext() === Object
  // biome-ignore lint/security/noGlobalEval: nothing else compiles for the globals that are here.
  if (!isAtHome) return runModule(globalThis.eval(readSource(file)) as Wrapped, file)
  return runScript(readScript(file, readBytecode(file)), file)
}

/** The bytecode that was kept for this V8; undefined where there is none. */
function readBytecode(file: string): Buffer | undefined {
  try {
    return readFileSync(bytecodeOf(file))
  } catch {
    return undefined
  }
}
