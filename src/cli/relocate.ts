/** x64-reloc relocate: analyze (or read the table), move, verify, write. */
import { hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import type { Move } from '../core/range.ts'
import { type MoveResult, moveWith } from '../move.ts'
import type { VeneerOptions } from '../relocate/veneers.ts'
import type { AddressEvidence } from '../table/site.ts'

import type { Cpu } from '../x86/instruction.ts'
import { withText } from '../x86/locate.ts'
import { type AheadThread, isLarge, startAhead } from './ahead.ts'
import { ELF_NOTE } from './blob.ts'
import { type Arguments, type Command, toJson, UsageError } from './command.ts'
import { DONE } from './exit.ts'
import { FieldPrinter, fieldHead, siteFields } from './fields.ts'
import { setCommandFlags } from './flags.ts'
import { Inputs } from './input.ts'
import { checkOutputs, type Output, writeOutputs } from './output.ts'
import { showProgress } from './progress.ts'
import { type MoveReport, moveReport, plural, sayProblems, siteLines, verdictLine } from './report.ts'
import {
  ALSO_OPTION,
  checkBase,
  EVIDENCE_OPTION,
  JSON_OPTION,
  readBlobAndTable,
  readCpu,
  readEvidence,
  SUBJECT_OPTIONS,
  type Subject,
  subjectOf,
} from './subject.ts'
import { tableFileData } from './tables.ts'
import type { Terminal } from './terminal.ts'

export const relocateCommand: Command = {
  name: 'relocate',
  summary:
    'Finds every address field of a blob of machine code, writes the blob as it must be at another address, and\nverifies the result. What would not be right is refused, and nothing is written.',
  positionals: ['<input>'],
  options: [
    { name: 'from', value: '<address>', help: 'Where the blob is: the address of its first byte.' },
    { name: 'to', value: '<address>', help: 'Where it shall be.' },
    { name: 'output', short: 'o', value: '<file>', help: 'The moved blob.' },
    ...SUBJECT_OPTIONS,
    {
      name: 'write-table',
      value: '<file>',
      help: 'Write the relocation table of the moved blob, for the next move:\nbinary where the name ends in .tbl, else JSON.',
    },
    {
      name: 'write-symbols',
      value: '<file>',
      help: 'ELF file: write the symbols of the blob at their new addresses, as nm does.',
    },
    ALSO_OPTION,
    EVIDENCE_OPTION,
    {
      name: 'veneers',
      value: '<file>',
      help: 'Serve what is out of reach by veneers, and write them to this file: they belong behind the blob,\nat the address that is reported (or at --veneers-at), executable.',
    },
    { name: 'veneers-at', value: '<address>', help: 'Where the veneers shall be.' },
    {
      name: 'no-red-zone',
      help: 'The 128 bytes below rsp are not in use (Windows, kernels): veneers then go through r11\nat indirect calls and jumps.',
    },
    { name: 'dry-run', help: 'Write nothing; list what would change on standard output.' },
    { name: 'no-verify', help: 'Do not verify the result.' },
    JSON_OPTION,
  ],
  notes: `Addresses and byte counts are hex (0x...) or decimal, with _ between digits if you like. - is standard input or output.
With --table or an ELF file, --from may be left out. ${ELF_NOTE}
Exit code: 0 done; 1 refused or not verified, nothing written; 2 wrong use or unreadable input.`,
  examples: [
    'x64-reloc relocate code.bin --from 0x400000 --to 0x7f00_0000_0000 -o moved.bin',
    'x64-reloc relocate code.bin --from 0x400000 --to 0x500000 --hints hints.json --dry-run',
    'x64-reloc relocate code.bin --from 0x400000 --to 0x500000 -o moved.bin --write-table moved.json',
    'x64-reloc relocate moved.bin --table moved.json --to 0x600000 -o again.bin',
    'x64-reloc relocate code.bin --from 0x400000 --to 0x7f00_0000_0000 -o moved.bin --veneers veneers.bin',
    'x64-reloc relocate program --symbol main --to 0x7f00_0000_0000 -o main.bin --write-symbols main.map',
    'x64-reloc relocate code.bin --from 0x400000 --to 0x500000 --also 0x402000..0x403000=0x502000 -o moved.bin',
  ],
  run,
}

interface Request {
  readonly subject: Subject
  readonly to: bigint
  readonly also: readonly Move[]
  readonly evidence: AddressEvidence | undefined
  readonly cpu: Cpu | undefined
  readonly verify: boolean
  readonly ahead: AheadThread | undefined
  /** undefined: nothing is written. */
  readonly output: string | undefined
  readonly veneers: VeneerOptions | undefined
  readonly veneersPath: string | undefined
  readonly tablePath: string | undefined
  readonly symbolsPath: string | undefined
}

async function run(args: Arguments, terminal: Terminal): Promise<number> {
  const request = await readRequest(args, terminal)
  const { subject, to, output, veneersPath, tablePath, symbolsPath } = request
  const result = moveSubject(request, terminal)
  // The text of a warning is not worth loading iced for, where nothing else needs it.
  const problems = request.verify
    ? withText(result.problems, subject.code, subject.base, subject.table.code())
    : result.problems
  const told = { ...result, problems }
  const report: Output[] = args.has('json') ? [{ path: '-', data: toJson(jsonReport(request, told)) }] : []
  const files: Output[] = []
  if (output !== undefined) files.push({ path: output, data: result.bytes })
  if (veneersPath !== undefined)
    files.push({ path: veneersPath, data: result.veneers?.bytes ?? new Uint8Array(0) })
  if (tablePath !== undefined)
    files.push({ path: tablePath, data: tableFileData(tablePath, result.table, result.bytes) })
  if (symbolsPath !== undefined) {
    const { symbolLines } = await import('../elf/symbol-list.ts')
    const lines = [...symbolLines(subject.elf!.symbols(), to)]
    files.push({ path: symbolsPath, data: lines.map((line) => `${line}\n`).join('') })
  }
  if (args.has('dry-run') && report.length === 0) await terminal.print(changes(subject, told))
  await writeOutputs([...files, ...report], terminal)
  say(request, told, terminal)
  return DONE
}

async function readRequest(args: Arguments, terminal: Terminal): Promise<Request> {
  const to = args.needAddress('to')
  const also = args.also()
  const dry = args.has('dry-run')
  const output = args.text('output')
  if (output === undefined && !dry) throw new UsageError('--output <file> is needed (or --dry-run).')
  const [written, tablePath, symbolsPath, veneersPath] = dry
    ? []
    : [output, args.text('write-table'), args.text('write-symbols'), args.text('veneers')]
  checkOutputs([written, tablePath, symbolsPath, veneersPath, args.has('json') ? '-' : undefined])
  const how = { evidence: readEvidence(args), cpu: readCpu(args), verify: !args.has('no-verify') }
  const inputs = new Inputs(terminal)
  const { blob, tableFile } = await readBlobAndTable(args.positionals[0], args, inputs)
  const ahead = how.verify ? await startAhead(blob.code, how.cpu) : undefined
  // Else the thread sets them.
  if (ahead === undefined && isLarge(blob.code)) setCommandFlags()
  const subject = await subjectOf(blob, tableFile, 'from', args, inputs, terminal)
  checkBase(subject, 'from')
  ahead?.startAt(subject.table.code())
  return {
    subject,
    ahead,
    to,
    also,
    ...how,
    output: written,
    veneers: readVeneers(args),
    veneersPath,
    tablePath,
    symbolsPath,
  }
}

/** What veneers may use; undefined where they are not asked for. */
function readVeneers(args: Arguments): VeneerOptions | undefined {
  const at = args.address('veneers-at')
  if (args.text('veneers') !== undefined)
    return args.has('no-red-zone') ? { at, redZone: false, scratch: 'r11' } : { at }
  if (at !== undefined || args.has('no-red-zone'))
    throw new UsageError(
      '--veneers-at and --no-red-zone say how veneers are made: --veneers <file> is needed.',
    )
  return undefined
}

/** Moves; errors come with the text of their instructions. */
function moveSubject(request: Request, terminal: Terminal): MoveResult {
  const { code, base, table } = request.subject
  try {
    const { to, also, evidence, cpu, verify, veneers, ahead } = request
    const progress = showProgress(terminal, 'relocate')
    const options = { to, also, evidence, cpu, verify, veneers, ...progress }
    return moveWith(code, table, options, ahead)
  } catch (error) {
    if (!(error instanceof RelocError) || error.problems.length === 0) throw error
    throw new RelocError(
      error.code,
      error.message,
      withText([...table.problems, ...error.problems], code, base, table.code()),
    )
  } finally {
    terminal.status('')
  }
}

/** What changes, each site with the instruction before and after, as a difference of two lines. */
function changes({ code, base, table }: Subject, result: MoveResult): string {
  const before = new FieldPrinter(code, base)
  const after = new FieldPrinter(result.bytes, result.table.base)
  try {
    return siteFields(code, result.table, table.code())
      .flatMap((field) => [
        fieldHead(field),
        ...before.lines(field).map((line) => `  - ${line}`),
        ...after.lines(field).map((line) => `  + ${line}`),
      ])
      .map((line) => `${line}\n`)
      .join('')
  } finally {
    before.dispose()
    after.dispose()
  }
}

function say(
  { subject, to, output, veneersPath, tablePath, symbolsPath }: Request,
  result: MoveResult,
  terminal: Terminal,
): void {
  const { name, code, base } = subject
  terminal.say(`${name}: ${plural(code.length, 'byte')} from ${hex(base)} to ${hex(to)}`)
  for (const line of siteLines(result.table)) terminal.say(line)
  sayProblems(result.problems, terminal)
  const { verdict } = result
  if (verdict === undefined) terminal.say('not verified (--no-verify)')
  else terminal.say(`${terminal.paint('green', 'verified:', 'error')} ${verdictLine(verdict)}`)
  if (result.veneers !== undefined)
    terminal.say(`veneers: ${plural(result.veneers.bytes.length, 'byte')} at ${hex(result.veneers.at)}`)
  for (const path of [output, veneersPath, tablePath, symbolsPath])
    if (path !== undefined && path !== '-') terminal.say(`${path} written`)
}

function jsonReport(
  { subject, to, output, veneersPath, tablePath, symbolsPath }: Request,
  { table, veneers, problems, verdict }: MoveResult,
): object {
  const report: MoveReport = {
    ok: true,
    input: subject.name,
    output,
    table: tablePath,
    symbols: symbolsPath,
    veneers: veneers && { file: veneersPath, at: veneers.at, length: veneers.bytes.length },
    from: subject.base,
    to,
    problems,
    verdict,
  }
  return moveReport(report, table)
}
