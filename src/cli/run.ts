/**
 * From the command line to an exit code: 0 done; 1 refused or not verified, nothing written; 2 wrong use or
 * unreadable input. What else is thrown is a defect (start/defect.ts). A command's file is loaded when it is asked for.
 */
import { readFileSync } from 'node:fs'
import { RelocError, type RelocErrorCode } from '../core/errors.ts'
import { type Command, formatHelp, parseArguments, toJson, UsageError } from './command.ts'
import { DONE, REFUSED, WRONG_USE } from './exit.ts'
import { sayProblems } from './report.ts'
import { ReaderGone, type Terminal } from './terminal.ts'

/** Errors that say no to a well-formed request; the others say that the request is wrong. */
const REFUSALS: ReadonlySet<RelocErrorCode> = new Set(['refused', 'not-verified', 'not-covered', 'stopped'])

interface Entry {
  readonly aliases: readonly string[]
  readonly summary: string
  load(): Promise<Command>
}

const COMMANDS: Readonly<Record<string, Entry>> = {
  relocate: {
    aliases: ['move'],
    summary: 'Move a blob of machine code to another address.',
    load: async () => (await import('./relocate.ts')).relocateCommand,
  },
  scan: {
    aliases: [],
    summary: 'List every address field of a blob.',
    load: async () => (await import('./scan.ts')).scanCommand,
  },
  verify: {
    aliases: [],
    summary: 'Check a moved blob against the original.',
    load: async () => (await import('./verify.ts')).verifyCommand,
  },
  demo: {
    aliases: [],
    summary: 'Move a shipped blob, show it, run it at both places.',
    load: async () => (await import('./demo.ts')).demoCommand,
  },
}

/** Runs one command line; returns the exit code. */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number> {
  try {
    return await dispatch(argv, terminal)
  } catch (error) {
    if (error instanceof ReaderGone) return DONE
    if (!(error instanceof RelocError)) throw error
    report(error, argv, terminal)
    const json = { ok: false, error: error.code, message: error.message, problems: error.problems }
    // Where the output itself cannot be written it was said above.
    if (argv.includes('--json')) await terminal.print(toJson(json)).catch(() => {})
    return REFUSALS.has(error.code) ? REFUSED : WRONG_USE
  }
}

async function dispatch(argv: readonly string[], terminal: Terminal): Promise<number> {
  const [word, ...rest] = argv
  if (word === '--version' || word === '-V') {
    await terminal.print(`${version()}\n`)
    return DONE
  }
  if (word === undefined || word === '--help' || word === '-h' || word === 'help') {
    const asked = word === 'help' ? rest[0] : undefined
    if (asked !== undefined) return dispatch([asked, '--help'], terminal)
    if (word === undefined) terminal.say(overview().trimEnd())
    else await terminal.print(overview())
    return word === undefined ? WRONG_USE : DONE
  }
  const found = Object.entries(COMMANDS).find(
    ([name, { aliases }]) => name === word || aliases.includes(word),
  )
  if (found === undefined)
    throw new UsageError(
      `${JSON.stringify(word)} is no command; there are ${Object.keys(COMMANDS).join(', ')}.`,
    )
  const [, entry] = found
  const command = await entry.load()
  const args = parseArguments(command, rest)
  if (!args.has('help')) return command.run(args, terminal)
  await terminal.print(formatHelp(command, entry.aliases))
  return DONE
}

function overview(): string {
  const rows = Object.entries(COMMANDS).map(
    ([name, { aliases, summary }]) =>
      `  ${name.padEnd(10)}${summary}${aliases.length === 0 ? '' : ` (alias: ${aliases.join(', ')})`}`,
  )
  return `Usage: x64-reloc <command> [options]

Moves x86-64 machine code: finds every address field, relocates, verifies.

Commands:
${rows.join('\n')}

Options:
  -h, --help     Show this help; with a command, its help.
  -V, --version  Show the version.

Examples:
  x64-reloc relocate code.bin --from 0x400000 --to 0x7f00_0000_0000 -o moved.bin
  x64-reloc scan code.bin --base 0x400000
  x64-reloc help relocate
`
}

const version = (): string =>
  (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string })
    .version

/** What an error says before its problems, of which its message repeats the first. */
const headline = ({ message, problems }: RelocError): string =>
  problems.length === 0 ? message : message.replace(/: error: \+0x.*$/s, ':')

/** The error, its problems one a line, and where help is. */
function report(error: RelocError, argv: readonly string[], terminal: Terminal): void {
  terminal.say(`${terminal.paint('red', 'x64-reloc:', 'error')} ${headline(error)}`)
  sayProblems(error.problems, terminal)
  if (error instanceof UsageError) {
    const known = argv.length > 0 && Object.hasOwn(COMMANDS, argv[0])
    terminal.say(`See x64-reloc ${known ? `${argv[0]} ` : ''}--help.`)
  }
}
