/** x64-reloc verify: does a moved blob hold what it must? */
import { hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { filterTable } from '../move.ts'
import { relocate } from '../relocate/relocate.ts'
import type { RelocationTable } from '../table/table.ts'

import { type Verdict, type VerifyOptions, verifyAhead } from '../verify/verify.ts'
import { withText } from '../x86/locate.ts'
import { type AheadThread, startAhead } from './ahead.ts'
import { addressOf, ELF_NOTE, readBlob, sameLength } from './blob.ts'
import { type Arguments, type Command, toJson, UsageError } from './command.ts'
import { DONE, REFUSED } from './exit.ts'
import { Inputs } from './input.ts'
import { showProgress } from './progress.ts'
import { type MoveReport, moveReport, plural, sayProblems, verdictLine } from './report.ts'
import {
  ALSO_OPTION,
  checkBase,
  EVIDENCE_OPTION,
  findTable,
  JSON_OPTION,
  readBlobAndTable,
  readCpu,
  readEvidence,
  SUBJECT_OPTIONS,
  type Subject,
} from './subject.ts'
import type { TableFile } from './tables.ts'
import type { Terminal } from './terminal.ts'

export const verifyCommand: Command = {
  name: 'verify',
  summary:
    'Checks that one blob is the other one moved: every site holds its new value, every other byte is the same, every\nrelative operand that the move breaks is accounted for.',
  positionals: ['<before>', '<after>'],
  options: [
    { name: 'from', value: '<address>', help: 'Where the blob was.' },
    { name: 'to', value: '<address>', help: 'Where it is now.' },
    ...SUBJECT_OPTIONS,
    ALSO_OPTION,
    EVIDENCE_OPTION,
    { name: 'veneers', value: '<file>', help: 'The veneers that relocate wrote; they are followed.' },
    { name: 'veneers-at', value: '<address>', help: 'Where they are, as relocate reported it.' },
    { name: 'no-red-zone', help: 'They were made with --no-red-zone.' },
    JSON_OPTION,
  ],
  notes: `With an ELF file, --from may be left out; with two of them --to, too. ${ELF_NOTE}
--table is the table of the blob before the move, or the one that relocate --write-table wrote.
Exit code: 0 verified; 1 not verified; 2 wrong use or unreadable input.`,
  examples: [
    'x64-reloc verify code.bin moved.bin --from 0x400000 --to 0x7f00_0000_0000',
    'x64-reloc verify code.bin moved.bin --from 0x400000 --to 0x500000 --table moved.json',
    'x64-reloc verify code.bin far.bin --from 0x400000 --to 0x7f00_0000_0000 --veneers veneers.bin --veneers-at 0x7f00_0000_1000',
  ],
  run,
}

async function run(args: Arguments, terminal: Terminal): Promise<number> {
  const [beforePath, afterPath] = args.positionals
  const inputs = new Inputs(terminal)
  const { blob, tableFile } = await readBlobAndTable(beforePath, args, inputs)
  const ahead = await startAhead(blob.code, readCpu(args))
  const from = addressOf(blob, 'from', args)
  const moved = await readBlob(afterPath, 'the moved blob', args, inputs, sameLength(blob.code))
  const to = addressOf(moved, 'to', args)
  const after = moved.code
  const subject =
    tableFile === undefined
      ? await findTable(blob, 'from', args, inputs, terminal)
      : { ...blob, base: from, table: claimOf(tableFile, blob.code, from, after, to, args) }
  checkBase(subject, 'from')
  ahead?.startAt(subject.table.code())
  const veneers = await readVeneers(args, inputs)
  const verdict = check(subject, after, to, veneers, args, ahead, terminal)
  if (args.has('json')) {
    const report: MoveReport = {
      ok: verdict.ok,
      input: subject.name,
      output: moved.name,
      table: args.text('table'),
      symbols: undefined,
      veneers: veneers && { file: args.text('veneers'), at: veneers.at, length: veneers.bytes.length },
      from,
      to,
      problems: verdict.problems,
      verdict,
    }
    await terminal.print(toJson(moveReport(report, subject.table)))
  }
  sayProblems(verdict.problems, terminal)
  const ok = `${terminal.paint('green', 'verified:', 'error')} ${verdictLine(verdict)}`
  const wrong = `${terminal.paint('red', 'not verified:', 'error')} ${plural(verdict.problems.length, 'problem')}; ${afterPath} is not ${beforePath} moved from ${hex(from)} to ${hex(to)}`
  terminal.say(verdict.ok ? ok : wrong)
  return verdict.ok ? DONE : REFUSED
}

/**
 * The table of the blob before the move; one of the moved blob, as relocate writes it, is taken back to where
 * it came from.
 */
function claimOf(
  file: TableFile,
  before: Uint8Array,
  from: bigint,
  after: Uint8Array,
  to: bigint,
  args: Arguments,
): RelocationTable {
  if (file.base() !== to || from === to) return file.load(before)
  const table = loadMoved(file, after)
  const back = args.also().map((move) => ({ from: move.to, to: move.from, length: move.length }))
  return relocate(after, table, { to: from, also: back }).table
}

function loadMoved(file: TableFile, after: Uint8Array): RelocationTable {
  try {
    return file.load(after)
  } catch (error) {
    if (!(error instanceof RelocError) || error.code !== 'bad-table') throw error
    throw new RelocError(
      'not-verified',
      'Not verified: the moved blob is not what the table describes. It was changed after the move, or the table is another one.',
    )
  }
}

/** The veneers that the move made, and what it allowed them. */
async function readVeneers(args: Arguments, inputs: Inputs): Promise<VerifyOptions['veneers']> {
  const [path, at] = [args.text('veneers'), args.address('veneers-at')]
  if (path === undefined && (at !== undefined || args.has('no-red-zone')))
    throw new UsageError('--veneers-at and --no-red-zone are about veneers: --veneers <file> is needed.')
  if (path === undefined) return undefined
  if (at === undefined)
    throw new UsageError('--veneers-at <address> is needed: where the veneers are, as relocate reported it.')
  const bytes = await inputs.bytes(path, 'the veneers')
  return args.has('no-red-zone') ? { at, bytes, redZone: false, scratch: 'r11' } : { at, bytes }
}

function check(
  subject: Subject,
  after: Uint8Array,
  to: bigint,
  veneers: VerifyOptions['veneers'],
  args: Arguments,
  ahead: AheadThread | undefined,
  terminal: Terminal,
): Verdict {
  const { code, base, table } = subject
  const claim = filterTable(table, code, readEvidence(args)).table
  try {
    const options = {
      moves: [{ from: base, to, length: BigInt(claim.span) }, ...args.also()],
      claim,
      veneers,
      cpu: readCpu(args),
      ...showProgress(terminal, 'verify'),
    }
    const verdict = verifyAhead(code, after, options, ahead)
    return { ...verdict, problems: withText(verdict.problems, code, base, table.code()) }
  } finally {
    terminal.status('')
  }
}
