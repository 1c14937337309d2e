/**
 * Exceptions that nobody foresaw, as one message: Node would print the line of source that threw, and the
 * built command is a single line.
 */
import { inspect } from 'node:util'

/** The exit code. */
export const DEFECT = 3

/** More of a message may be the source again. */
const LONGEST = 500

/** What is said of an exception; of its stack the places alone, for Node puts source above them. */
function describeDefect(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : inspect(error, { depth: 0 })
  const stack = error instanceof Error ? (error.stack ?? '') : ''
  const places = stack.split('\n').filter((line) => /^ +at /.test(line) && line.length < LONGEST)
  const what = text.replaceAll('\n', ' ').slice(0, LONGEST)
  return [`x64-reloc: This is a defect of x64-reloc, please report it with these lines: ${what}`, ...places]
    .map((line) => `${line}\n`)
    .join('')
}

/**
 * From now on such an exception, thrown anywhere and at any time, or a promise that nobody awaits, ends the
 * process with exit code {@link DEFECT}.
 */
export function catchDefects(): void {
  process.on('uncaughtException', (error: unknown) => {
    process.exitCode = DEFECT
    process.stderr.write(describeDefect(error))
    process.exit()
  })
}
