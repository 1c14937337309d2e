/**
 * Output that is all there or not at all: every file is written under another name in its own directory, and
 * only when the last of them is complete do they take their names.
 */
import {
  accessSync,
  chmodSync,
  constants,
  lstatSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { RelocError } from '../core/errors.ts'
import { systemMessage } from './input.ts'
import { ReaderGone, type Terminal } from './terminal.ts'

export interface Output {
  /** `-` is standard output. */
  readonly path: string
  readonly data: Uint8Array | string
}

/** Throws `bad-argument` where two outputs are one file, and `bad-input` where one cannot be. */
export function checkOutputs(paths: readonly (string | undefined)[]): void {
  const named = paths.filter((path) => path !== undefined)
  const places = named.map((path) => (path === '-' ? path : attempt(path, () => placeOf(path))))
  const twice = named.find((_, i) => places.indexOf(places[i]) !== i)
  if (twice !== undefined)
    throw new RelocError(
      'bad-argument',
      `${twice === '-' ? 'Standard output (-)' : twice} is asked for two outputs.`,
    )
}

/** The file that is written as `path`: of a link, what it leads to, be it there or not. */
function placeOf(path: string): string {
  // Links that lead in a circle are an error here.
  statSync(path, { throwIfNoEntry: false })
  const place = join(realpathSync(dirname(path)), basename(path))
  const isLink = lstatSync(place, { throwIfNoEntry: false })?.isSymbolicLink() === true
  return isLink ? placeOf(resolve(dirname(place), readlinkSync(place))) : place
}

interface Pending {
  readonly temporary: string
  readonly target: string
}

/** Writes all outputs, or throws `bad-input` (with the system's words) and leaves every file as it was. */
export async function writeOutputs(outputs: readonly Output[], terminal: Terminal): Promise<void> {
  const pending: Pending[] = []
  /** What cannot be replaced: standard output, devices, pipes. */
  const streams: Output[] = []
  const clear = (): void => {
    for (const { temporary } of pending) rmSync(temporary, { force: true })
  }
  const stop = whenProcessEnds(clear)
  try {
    for (const output of outputs) {
      const { path, data } = output
      attempt(path, () => {
        const old = path === '-' ? undefined : statSync(path, { throwIfNoEntry: false })
        if (path === '-' || (old !== undefined && !old.isFile())) streams.push(output)
        else pending.push(writeTemporary(placeOf(path), data, old))
      })
    }
    for (const { path, data } of streams) {
      if (path === '-') await terminal.print(data)
      else attempt(path, () => writeFileSync(path, data))
    }
    for (const { temporary, target } of pending) attempt(target, () => renameSync(temporary, target))
  } catch (error) {
    if (!(error instanceof ReaderGone) || pending.length === 0) throw error
    throw new RelocError('bad-input', 'Cannot write the output: its reader has gone. No file was written.')
  } finally {
    stop()
    clear()
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Has `clear` called where the process ends, by an exit or a signal, while a reader is waited for. Returns
 * what takes that back.
 */
function whenProcessEnds(clear: () => void): () => void {
  const end = (signal: NodeJS.Signals): void => {
    clear()
    stop()
    process.kill(process.pid, signal)
  }
  const stop = (): void => {
    process.off('exit', clear)
    for (const signal of SIGNALS) process.off(signal, end)
  }
  process.on('exit', clear)
  for (const signal of SIGNALS) process.on(signal, end)
  return stop
}

function attempt<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw new RelocError('bad-input', `Cannot write ${path}: ${systemMessage(error)}.`)
  }
}

function writeTemporary(target: string, data: Uint8Array | string, old: Stats | undefined): Pending {
  // It could be replaced all the same, against its owner's will.
  if (old !== undefined) accessSync(target, constants.W_OK)
  // Others may write beside us, with the same process id where they are in a container of their own.
  const name = `.x64-reloc-${process.pid}-${Math.random().toString(36).slice(2)}.tmp`
  const temporary = join(dirname(target), name)
  try {
    writeFileSync(temporary, data, { flag: 'wx' })
    if (old !== undefined) chmodSync(temporary, old.mode & 0o7777)
    return { temporary, target }
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}
