/** What a command sees of the process: three streams and whether a person is watching. Tests pass their own. */
import { styleText } from 'node:util'
import { RelocError } from '../core/errors.ts'
import { systemMessage } from './input.ts'

/** How a word is shown where colour is. */
export type Style = 'red' | 'green' | 'yellow' | 'dim' | 'bold'

export interface Terminal {
  /**
   * Writes to standard output; resolves when it was taken. Throws {@link ReaderGone} when nobody reads any
   * more, `bad-input` when it cannot be written.
   */
  print(data: string | Uint8Array): Promise<void>
  /** Writes a line to standard error. */
  say(line: string): void
  /**
   * Shows a passing state on standard error, in place of the one before; '' clears it. Does nothing where
   * nobody watches.
   */
  status(text: string): void
  /** Everything on standard input; throws `bad-input`. */
  readAll(): Promise<Uint8Array>
  /** `text` in a style, where standard output (or error) is a terminal that shows it. */
  paint(style: Style, text: string, stream: 'output' | 'error'): string
  /** Standard error is a terminal. */
  readonly isWatched: boolean
}

/** The reader of standard output has gone away (`| head`): there is nothing left to do, and nothing wrong. */
export class ReaderGone extends Error {}

const CLEAR_LINE = '\r\x1b[K'

/** The terminal of this process. */
export function processTerminal(): Terminal {
  const { stdout, stderr } = process
  // Without a listener a closed pipe ends the process with a stack trace; writes report it to their own callbacks.
  stdout.on('error', () => {})
  stderr.on('error', () => {})
  let shown = ''
  const status = (text: string): void => {
    if (!stderr.isTTY || text === shown) return
    stderr.write(text === '' ? CLEAR_LINE : `${CLEAR_LINE}${text}`)
    shown = text
  }
  return {
    isWatched: stderr.isTTY === true,
    print: (data) =>
      new Promise((resolve, reject) => {
        stdout.write(data, (error) => {
          if (error === null || error === undefined) resolve()
          else if ((error as NodeJS.ErrnoException).code === 'EPIPE') reject(new ReaderGone())
          else reject(new RelocError('bad-input', `Cannot write the output: ${systemMessage(error)}.`))
        })
      }),
    say(line) {
      status('')
      stderr.write(`${line}\n`)
    },
    status,
    async readAll() {
      const chunks: Uint8Array[] = []
      try {
        for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array)
      } catch (error) {
        throw new RelocError('bad-input', `Cannot read standard input: ${systemMessage(error)}.`)
      }
      return new Uint8Array(Buffer.concat(chunks))
    },
    paint: (style, text, stream) =>
      styleText(style, text, { stream: stream === 'output' ? stdout : stderr, validateStream: true }),
  }
}
