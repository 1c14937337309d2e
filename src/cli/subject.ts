/** What a command works on: a blob, its base, and the table that says which of its fields are addresses. */
import { type AnalyzeOptions, analyze } from '../analyze/analyze.ts'
import type { Hints } from '../analyze/hints.ts'
import { placeKnownSites } from '../analyze/known-sites.ts'
import { hex } from '../core/address.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import type { ElfBlob } from '../elf/blob.ts'
import type { SiteInput } from '../table/from-sites.ts'
import type { AddressEvidence } from '../table/site.ts'
import { RelocationTable } from '../table/table.ts'
import type { Cpu, DecoderKind } from '../x86/instruction.ts'
import { addressOf, checkElfOptions, ELF_OPTIONS, type InputBlob, readBlob } from './blob.ts'
import { type Arguments, type OptionRow, UsageError } from './command.ts'
import type { Inputs } from './input.ts'
import { showProgress } from './progress.ts'
import { readTableFile, type TableFile } from './tables.ts'
import type { Terminal } from './terminal.ts'

/** How the blob and its table come about: shared by all commands. */
export const SUBJECT_OPTIONS: readonly OptionRow[] = [
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
  ...ELF_OPTIONS,
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

interface KnownRange {
  readonly start: bigint
  readonly length: bigint
}

export interface Subject extends InputBlob {
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
  const { blob, tableFile } = await readBlobAndTable(path, args, inputs)
  return subjectOf(blob, tableFile, baseOption, args, inputs, terminal)
}

/** The blob with the table of the file, or with the one that is found. */
export async function subjectOf(
  blob: InputBlob,
  tableFile: TableFile | undefined,
  baseOption: string,
  args: Arguments,
  inputs: Inputs,
  terminal: Terminal,
): Promise<Subject> {
  if (tableFile === undefined) return findTable(blob, baseOption, args, inputs, terminal)
  const table = tableFile.load(blob.code)
  return { ...blob, base: args.address(baseOption) ?? blob.elf?.base ?? table.base, table }
}

/** Reads the blob `path`, and the file of `--table`, which the code explains. */
export async function readBlobAndTable(
  path: string,
  args: Arguments,
  inputs: Inputs,
): Promise<{ readonly blob: InputBlob; readonly tableFile: TableFile | undefined }> {
  args.exclude('table', 'hints', 'a table is exact, nothing is inferred beside it.')
  args.exclude('table', 'span', 'the table says how long the moved range is.')
  for (const [one, other] of [
    ['section', 'symbol'],
    ['section', 'image'],
    ['symbol', 'image'],
  ])
    args.exclude(one, other, 'they are different parts of the file.')
  const tablePath = args.text('table')
  const tableFile = tablePath === undefined ? undefined : await readTableFile(tablePath, inputs)
  const blob = await readBlob(path, 'the blob', args, inputs, tableFile?.describes)
  checkElfOptions(blob, args)
  return { blob, tableFile }
}

/** What the arguments, and an ELF file, say about a blob. */
export async function analysisOptions(
  blob: InputBlob,
  baseOption: string,
  args: Arguments,
  inputs: Inputs,
): Promise<AnalyzeOptions & { readonly base: bigint; readonly moved: readonly KnownRange[] }> {
  const { elf } = blob
  const [span, cpu] = [args.bytes('span'), readCpu(args)]
  const decoder = args.choice<DecoderKind>('decoder', ['iced', 'tables'])
  const moved = args.also().map(({ from, length }) => ({ start: from, length }))
  if (span !== undefined && elf !== undefined)
    throw new UsageError('--span and an ELF file contradict each other: the file says how long it is.')
  const base = addressOf(blob, baseOption, args)
  const path = args.text('hints')
  // analyze checks what it is; a file that holds `null` is no absent one.
  const hints =
    path === undefined
      ? elf && { ranges: elf.ranges, entries: elf.entries }
      : ((await inputs.json(path, 'the hints')) as Hints)
  return { base, moved, cpu, decoder, hints, span: elf?.span ?? span }
}

/** Analyses a blob, or takes what its ELF file says. */
export async function findTable(
  blob: InputBlob,
  baseOption: string,
  args: Arguments,
  inputs: Inputs,
  terminal: Terminal,
): Promise<Subject> {
  const { code, elf } = blob
  const options = await analysisOptions(blob, baseOption, args, inputs)
  const found = analyze(code, { ...options, ...showProgress(terminal, 'analyze') })
  terminal.status('')
  const table = elf?.sites === undefined ? warnOfSpan(found) : recordedTable(elf, found, options.moved)
  return { ...blob, base: options.base, table }
}

/** Behind the bytes by which nothing refers to zero-initialised data any more, unless it is of the large code model. */
const REACH = 2 ** 31

/** Warns of a span so long that it is hardly meant: what points into it counts as moving along, branches too. */
function warnOfSpan(table: RelocationTable): RelocationTable {
  const { base, length, span, problems } = table
  if (span - length < REACH) return table
  const warning: Problem = {
    severity: 'warning',
    code: 'long-span',
    offset: length,
    address: base + BigInt(length),
    bytes: '',
    message: `--span says that ${hex(span - length)} bytes of zero-initialised data lie behind the blob, more than RIP-relative code reaches: whatever points up to ${hex(base + BigInt(span))} is taken to move along.`,
    remedy: 'Give the length that the program has in memory.',
  }
  return RelocationTable.create({ ...table.parts, problems: [...problems, warning] })
}

/** Warnings of the analysis that are about code, and stand where its sites do not count. */
const ABOUT_CODE: ReadonlySet<string> = new Set(['falls-through', 'prefix-66-branch', 'unknown-hint'])

/**
 * The exact table by the file's records; of the analysis only where the code is, so that the records can be verified.
 */
function recordedTable(elf: ElfBlob, found: RelocationTable, moved: readonly KnownRange[]): RelocationTable {
  const { bytes: code, base, span, entries } = elf
  const problems: Problem[] = []
  const records = [...elf.sites!((problem) => problems.push(problem))]
  records.push(...callsOfNothing(found, records))
  const { sites, runs } = placeKnownSites(code, base, records, found.code(), entries)
  const table = RelocationTable.fromSites(sites, { code, base, span, moved, runs })
  problems.push(...found.problems.filter((problem) => ABOUT_CODE.has(problem.code)))
  return RelocationTable.create({ ...table.parts, problems })
}

/**
 * Branches to address 0, from wherever the code is: calls of weak symbols that nobody defines, of which a
 * linker keeps no record for the loader.
 */
function callsOfNothing(found: RelocationTable, records: readonly SiteInput[]): SiteInput[] {
  const fields = new Set(records.map(({ offset }) => offset))
  const isFree = (offset: number): boolean =>
    [-3, -2, -1, 0, 1, 2, 3].every((distance) => !fields.has(offset + distance))
  return found
    .sites()
    .filter(({ kind, target, offset }) => kind === 'pc32' && target === 0n && isFree(offset))
}

/** Throws `bad-table` unless the subject's table describes it where the caller says it is. */
export function checkBase({ base, table }: Subject, option: string): void {
  if (table.base !== base)
    throw new RelocError(
      'bad-table',
      `The table describes the blob at ${hex(table.base)}, not at ${hex(base)} (--${option}).`,
    )
}
