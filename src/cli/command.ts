/** A command as data: its options are rows, and reading the arguments and the help text both come from them. */
import { parseArgs } from 'node:util'
import { type AddressLike, hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { nearest } from '../core/options.ts'
import type { Move } from '../core/range.ts'
import { parseAddress, parseAlso, parseBytes } from './options.ts'
import type { Terminal } from './terminal.ts'

export interface OptionRow {
  readonly name: string
  readonly short?: string
  /** What the value is called in the help; without it the option is a flag. */
  readonly value?: string
  /** May be given more than once. */
  readonly repeatable?: boolean
  readonly help: string
}

export interface Command {
  readonly name: string
  readonly summary: string
  /** Names of the positional arguments; all are needed. */
  readonly positionals: readonly string[]
  readonly options: readonly OptionRow[]
  /** What the help says beyond the options. */
  readonly notes?: string
  readonly examples: readonly string[]
  /** Returns the exit code. */
  run(args: Arguments, terminal: Terminal): Promise<number>
}

/** The command line is wrong; the help of the command would have told. */
export class UsageError extends RelocError {
  constructor(message: string) {
    super('bad-argument', message)
  }
}

type Values = Readonly<Record<string, readonly (string | boolean)[] | undefined>>

/** A command's arguments: every option at most once, unless it is repeatable. */
export class Arguments {
  readonly positionals: readonly string[]
  readonly #values: Values

  constructor(positionals: readonly string[], values: Values) {
    this.positionals = positionals
    this.#values = values
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined
  }

  text(name: string): string | undefined {
    return this.#values[name]?.[0] as string | undefined
  }

  address(name: string): bigint | undefined {
    const text = this.text(name)
    return text === undefined ? undefined : parseAddress(text, `--${name}`)
  }

  bytes(name: string): number | undefined {
    const text = this.text(name)
    return text === undefined ? undefined : parseBytes(text, `--${name}`)
  }

  /** The offsets of every `--name` in a blob of `length` bytes. */
  offsets(name: string, length: number): number[] {
    return ((this.#values[name] ?? []) as readonly string[]).map((text) => {
      const offset = parseBytes(text, `--${name}`)
      if (offset >= length)
        throw new UsageError(`--${name} is ${hex(offset)}: the blob has ${hex(length)} bytes.`)
      return offset
    })
  }

  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const text = this.text(name)
    if (text === undefined || (choices as readonly string[]).includes(text)) return text as T | undefined
    throw new UsageError(`--${name} is ${JSON.stringify(text)}: it is ${choices.join(', ')}.`)
  }

  /** The moves of every `--also`. */
  also(): (Move & { readonly from: bigint; readonly length: bigint })[] {
    return ((this.#values.also ?? []) as readonly string[]).map(parseAlso)
  }

  /** The address `--name`, or what is known otherwise; throws where neither is. */
  needAddress(name: string, otherwise?: AddressLike): bigint {
    const value = this.address(name) ?? otherwise
    if (value === undefined) throw new UsageError(`--${name} <address> is needed.`)
    return BigInt(value)
  }

  /** Throws where both options are given. */
  exclude(one: string, other: string, why: string): void {
    if (this.has(one) && this.has(other))
      throw new UsageError(`--${one} and --${other} contradict each other: ${why}`)
  }
}

/** Reads a command's arguments; throws `UsageError`. */
export function parseArguments(command: Command, argv: readonly string[]): Arguments {
  const rows = [...command.options, HELP_ROW]
  const options = Object.fromEntries(
    rows.map(({ name, short, value }) => [
      name,
      {
        type: value === undefined ? ('boolean' as const) : ('string' as const),
        multiple: true,
        ...(short === undefined ? {} : { short }),
      },
    ]),
  )
  const names = rows.map(({ name }) => `--${name}`)
  const { values, positionals } = parsed(names, () =>
    parseArgs({ args: [...argv], options, allowPositionals: true, strict: true }),
  )
  const args = new Arguments(positionals, values as Values)
  if (args.has('help')) return args
  for (const { name, repeatable } of rows)
    if (repeatable !== true && ((values[name] as unknown[] | undefined) ?? []).length > 1)
      throw new UsageError(`--${name} is given more than once.`)
  const empty = [
    ...names.filter((_, i) => (values[rows[i].name] as readonly unknown[] | undefined)?.includes('')),
    ...command.positionals.filter((_, i) => positionals[i] === ''),
  ]
  if (empty.length > 0) throw new UsageError(`${empty[0]} is empty.`)
  const { length } = command.positionals
  if (positionals.length < length)
    throw new UsageError(`${command.positionals[positionals.length]} is missing.`)
  if (positionals.length > length)
    throw new UsageError(
      `${JSON.stringify(positionals[length])} is one argument too many: ${command.name} takes ${length === 0 ? 'none' : command.positionals.join(' ')}.`,
    )
  return args
}

export const HELP_ROW: OptionRow = { name: 'help', short: 'h', help: 'Show this help.' }

/**
 * Node's own words about a wrong command line, without its hints about `--`, but with the option that is perhaps meant.
 */
function parsed<T>(names: readonly string[], parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code?.startsWith('ERR_PARSE_ARGS') !== true) throw error
    const option = /'(?:-., )?(--[\w-]+)/.exec(message)?.[1] ?? ''
    if (code === 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE' && /ambiguous|missing/.test(message))
      throw new UsageError(`${option} has no value; one that begins with a dash follows an equals sign.`)
    const meant = code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? nearest(option, names) : undefined
    const hint = meant === undefined ? '' : `, perhaps ${meant} is meant`
    throw new UsageError(`${message.split(/\. |\n/)[0].replace(/\.$/, '')}${hint}.`)
  }
}

/** The help of a command: usage, options, notes, examples. */
export function formatHelp(command: Command, aliases: readonly string[]): string {
  const flags = [...command.options, HELP_ROW].map(
    ({ name, short, value }) =>
      `${short === undefined ? '    ' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`,
  )
  const width = Math.max(...flags.map((flag) => flag.length))
  const lines = [
    `Usage: x64-reloc ${[command.name, ...command.positionals].join(' ')} [options]`,
    ...(aliases.length === 0 ? [] : [`Alias: ${aliases.join(', ')}`]),
    '',
    command.summary,
    '',
    'Options:',
    ...[...command.options, HELP_ROW].map(({ help }, i) =>
      `  ${flags[i].padEnd(width)}  ${help.replaceAll('\n', `\n${' '.repeat(width + 4)}`)}`.trimEnd(),
    ),
    ...(command.notes === undefined ? [] : ['', command.notes]),
    '',
    'Examples:',
    ...command.examples.map((example) => `  ${example}`),
  ]
  return `${lines.join('\n')}\n`
}

/** `{…}` with bigints as 0x strings. */
export const toJson = (value: unknown): string =>
  `${JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? hex(item) : item), 2)}\n`
