/** A terminal that keeps what it is told, so that commands run as functions. */
import { run } from '../../src/cli/run.ts'
import type { Terminal } from '../../src/cli/terminal.ts'

export interface Transcript {
  readonly code: number
  readonly output: Uint8Array
  /** Standard output and standard error as text. */
  readonly out: string
  readonly err: string
  /** Both, as a terminal shows them. */
  readonly both: string
}

export interface FakeOptions {
  readonly input?: Uint8Array
  /** Collects passing states; then the terminal is watched. */
  readonly states?: string[]
  readonly print?: Terminal['print']
}

/** Runs a command line as `x64-reloc` would. */
export async function runCommand(argv: readonly string[], options: FakeOptions = {}): Promise<Transcript> {
  const chunks: Uint8Array[] = []
  const lines: string[] = []
  let both = ''
  const terminal: Terminal = {
    isWatched: options.states !== undefined,
    print:
      options.print ??
      (async (data) => {
        const bytes = typeof data === 'string' ? Buffer.from(data) : new Uint8Array(data)
        chunks.push(bytes)
        both += Buffer.from(bytes).toString()
      }),
    say: (line) => {
      lines.push(`${line}\n`)
      both += `${line}\n`
    },
    status: (text) => {
      options.states?.push(text)
    },
    readAll: async () => options.input ?? new Uint8Array(0),
    paint: (_, text) => text,
  }
  const code = await run(argv, terminal)
  const output = new Uint8Array(Buffer.concat(chunks))
  return { code, output, out: Buffer.from(output).toString(), err: lines.join(''), both }
}
