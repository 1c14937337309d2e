/**
 * Output that is all there or not at all: every file is written under another name in its own directory, and only when the
 * last of them is complete do they take their names.
 */
import { chmodSync, realpathSync, renameSync, rmSync, type Stats, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { RelocError } from '../core/errors.ts'
import { systemMessage } from './input.ts'
import type { Terminal } from './terminal.ts'

export interface Output {
  /** `-` is standard output. */
  readonly path: string
  readonly data: Uint8Array | string
}

/** Throws `bad-argument` where two outputs have one name. */
export function checkOutputs(paths: readonly (string | undefined)[]): void {
  const named = paths.filter((path) => path !== undefined)
  const twice = named.find((path, i) => named.indexOf(path) !== i)
  if (twice !== undefined)
    throw new RelocError(
      'bad-argument',
      `${twice === '-' ? 'Standard output (-)' : twice} is asked for two outputs.`,
    )
}

/** Writes all outputs, or throws `bad-input` (with the system's words) and leaves every file as it was. */
export async function writeOutputs(outputs: readonly Output[], terminal: Terminal): Promise<void> {
  const pending: { readonly temporary: string; readonly target: string }[] = []
  /** What cannot be replaced: standard output, devices, pipes. */
  const streams: Output[] = []
  try {
    for (const output of outputs) {
      const { path, data } = output
      attempt(path, () => {
        const old = path === '-' ? undefined : statSync(path, { throwIfNoEntry: false })
        if (path === '-' || (old !== undefined && !old.isFile())) {
          streams.push(output)
          return
        }
        // Of a link, what it leads to is replaced.
        const target = old === undefined ? path : realpathSync(path)
        pending.push({ temporary: writeTemporary(target, data, old), target })
      })
    }
    for (const { path, data } of streams) {
      if (path === '-') await terminal.print(data)
      else attempt(path, () => writeFileSync(path, data))
    }
    for (const { temporary, target } of pending) attempt(target, () => renameSync(temporary, target))
  } finally {
    for (const { temporary } of pending) rmSync(temporary, { force: true })
  }
}

function attempt(path: string, write: () => void): void {
  try {
    write()
  } catch (error) {
    throw new RelocError('bad-input', `Cannot write ${path}: ${systemMessage(error)}.`)
  }
}

function writeTemporary(target: string, data: Uint8Array | string, old: Stats | undefined): string {
  const temporary = join(dirname(target), `.x64-reloc-${process.pid}-${++count}.tmp`)
  try {
    writeFileSync(temporary, data, { flag: 'wx' })
    if (old !== undefined) chmodSync(temporary, old.mode & 0o7777)
    return temporary
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}

/** Temporary names differ within the process. */
let count = 0
