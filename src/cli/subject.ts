/** What a command works on: bytes, their base, and the table that says which of them are addresses. */
import { analyze } from '../analyze/analyze.ts'
import type { Hints } from '../analyze/hints.ts'
import { hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import type { AddressEvidence } from '../table/site.ts'
import { RelocationTable } from '../table/table.ts'
import type { Cpu, DecoderKind } from '../x86/instruction.ts'
import type { Arguments, OptionRow } from './command.ts'
import type { Inputs } from './input.ts'
import { showProgress } from './progress.ts'
import type { Terminal } from './terminal.ts'

/** How the table comes about: shared by all commands. */
export const TABLE_OPTIONS: readonly OptionRow[] = [
  {
    name: 'hints',
    value: '<file>',
    help: "What is known about the blob, as JSON:\n{ ranges: [{ start, end, kind: 'code'|'data' }], entries: [offset] }",
  },
  { name: 'table', value: '<file>', help: 'The relocation table of the blob; then nothing is inferred.' },
  {
    name: 'span',
    value: '<bytes>',
    help: 'Length of the moved range, where it is longer than the file\n(zero-initialised data behind it).',
  },
  {
    name: 'cpu',
    value: '<cpu>',
    help: 'Whose reading of near branches with a 66 prefix: intel (default), amd.',
  },
  { name: 'decoder', value: '<decoder>', help: 'What decodes: iced, tables. Both find the same.' },
]

export const ALSO_OPTION: OptionRow = {
  name: 'also',
  value: '<from>..<end>=<to>',
  repeatable: true,
  help: 'Another range that moves at the same time. Repeatable.',
}

export const EVIDENCE_OPTION: OptionRow = {
  name: 'evidence',
  value: '<level>',
  help: 'The weakest evidence on which an absolute address is written:\nexact, encoding, flow, range (default).',
}

export const JSON_OPTION: OptionRow = { name: 'json', help: 'Report as JSON on standard output.' }

export interface Subject {
  readonly name: string
  readonly code: Uint8Array
  readonly base: bigint
  readonly table: RelocationTable
}

export const readCpu = (args: Arguments): Cpu | undefined => args.choice<Cpu>('cpu', ['intel', 'amd'])

export const readEvidence = (args: Arguments): AddressEvidence | undefined =>
  args.choice<AddressEvidence>('evidence', ['exact', 'encoding', 'flow', 'range'])

/** Reads the blob `path`, and its table, or finds it. `baseOption` names the option that says where the blob is. */
export async function readSubject(
  path: string,
  baseOption: string,
  args: Arguments,
  inputs: Inputs,
  terminal: Terminal,
): Promise<Subject> {
  args.exclude('table', 'hints', 'a table is exact, nothing is inferred beside it.')
  args.exclude('table', 'span', 'the table says how long the moved range is.')
  const base = args.address(baseOption)
  const options = {
    span: args.bytes('span'),
    moved: args.also().map(({ from, length }) => ({ start: from, length })),
    cpu: readCpu(args),
    decoder: args.choice<DecoderKind>('decoder', ['iced', 'tables']),
  }
  const tablePath = args.text('table')
  if (tablePath === undefined) args.needAddress(baseOption)
  const code = await inputs.bytes(path, 'the blob')
  const name = path === '-' ? 'standard input' : path
  if (tablePath !== undefined) {
    const table = RelocationTable.fromJSON(await inputs.json(tablePath, 'the table'))
    table.check(code)
    return { name, code, base: base ?? table.base, table }
  }
  const hints = await readHints(args, inputs)
  const progress = showProgress(terminal, 'analyze')
  const table = analyze(code, { ...options, ...progress, base: base!, hints })
  terminal.status('')
  return { name, code, base: base!, table }
}

async function readHints(args: Arguments, inputs: Inputs): Promise<Hints | undefined> {
  const path = args.text('hints')
  // analyze checks what it is.
  return path === undefined ? undefined : ((await inputs.json(path, 'the hints')) as Hints)
}

/** Throws `bad-table` unless the subject's table describes it where the caller says it is. */
export function checkBase({ base, table }: Subject, option: string): void {
  if (table.base !== base)
    throw new RelocError(
      'bad-table',
      `The table describes the blob at ${hex(table.base)}, not at ${hex(base)} (--${option}).`,
    )
}
