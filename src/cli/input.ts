/** Files and standard input as bytes. What cannot be read is a `RelocError` (`bad-input`) with the file's name. */
import { readFileSync } from 'node:fs'
import { RelocError } from '../core/errors.ts'
import type { Terminal } from './terminal.ts'

/** Node's words about a failed file operation, without its code and call. */
export const systemMessage = (error: unknown): string =>
  error instanceof Error
    ? error.message.replace(/^E[A-Z0-9]+: /, '').replace(/, [a-z]+( '.*)?$/s, '')
    : String(error)

/** Reads the inputs of one command; `-`, standard input, can be one of them only. */
export class Inputs {
  readonly #terminal: Terminal
  #standardInput: string | undefined

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  /** The bytes of `path`; `what` says what they are for, in messages. */
  async bytes(path: string, what: string): Promise<Uint8Array> {
    if (path === '-') {
      if (this.#standardInput !== undefined)
        throw new RelocError(
          'bad-argument',
          `Standard input (-) cannot be both ${this.#standardInput} and ${what}.`,
        )
      this.#standardInput = what
      const bytes = await this.#terminal.readAll()
      // Mostly what should have written it failed.
      if (bytes.length === 0)
        throw new RelocError('bad-input', `Cannot read ${what}: standard input (-) is empty.`)
      return bytes
    }
    try {
      const file = readFileSync(path)
      return new Uint8Array(file.buffer, file.byteOffset, file.byteLength)
    } catch (error) {
      throw new RelocError('bad-input', `Cannot read ${what} ${path}: ${systemMessage(error)}.`)
    }
  }

  /** The JSON in `path`. */
  async json(path: string, what: string): Promise<unknown> {
    return parseJson(await this.bytes(path, what), path, what)
  }
}

/** Parses JSON text; throws `bad-input`. */
export function parseJson(bytes: Uint8Array, path: string, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    const why = error instanceof SyntaxError ? error.message : 'it is not text in UTF-8'
    throw new RelocError('bad-input', `Cannot read ${what} ${path}: it is no JSON (${why}).`)
  }
}
