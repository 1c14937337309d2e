/** x64-reloc scan: every address field of a blob. */
import { explain } from '../analyze/explain.ts'
import { hex, wrapAddress } from '../core/address.ts'
import type { Site } from '../table/site.ts'
import { RelocationTable } from '../table/table.ts'
import { withText } from '../x86/locate.ts'
import { addressOf, ELF_NOTE, readBlob, sameLength } from './blob.ts'
import { type Arguments, type Command, toJson, UsageError } from './command.ts'
import { DONE } from './exit.ts'
import { ExplanationPrinter } from './explain.ts'
import { allFields, evidenceText, type Field, FieldPrinter } from './fields.ts'
import { Inputs } from './input.ts'
import { checkOutputs, type Output, writeOutputs } from './output.ts'
import { countKinds, plural, sayProblems, siteLines, spanOf } from './report.ts'
import {
  ALSO_OPTION,
  analysisOptions,
  checkBase,
  JSON_OPTION,
  readCpu,
  readSubject,
  SUBJECT_OPTIONS,
  type Subject,
} from './subject.ts'
import { tableFileData } from './tables.ts'
import type { Terminal } from './terminal.ts'

export const scanCommand: Command = {
  name: 'scan',
  summary:
    'Lists every address field of a blob: offset, address, kind, target, evidence, instruction. A field whose line begins\nwith * is a site: a move of the blob changes it. The others are relative and stay inside the blob.',
  positionals: ['<input>'],
  options: [
    { name: 'base', value: '<address>', help: 'Where the blob is: the address of its first byte.' },
    {
      name: 'pair',
      value: '<file>',
      help: 'The same code dumped at another base: the sites are exactly\nwhat differs, and nothing is inferred.',
    },
    { name: 'pair-base', value: '<address>', help: 'Where that one is.' },
    ...SUBJECT_OPTIONS,
    {
      name: 'write-table',
      value: '<file>',
      help: 'Write the relocation table of the blob:\nbinary where the name ends in .tbl, else JSON.',
    },
    {
      name: 'explain',
      value: '<offset>',
      repeatable: true,
      help: 'Instead of the list: why the byte there was read as code or data, and what\nspeaks for and against each address that it could belong to. Repeatable.',
    },
    { ...ALSO_OPTION, help: 'Another range that may move later. Repeatable.' },
    JSON_OPTION,
  ],
  notes: `With --table or an ELF file, --base may be left out. ${ELF_NOTE}`,
  examples: [
    'x64-reloc scan code.bin --base 0x400000',
    'x64-reloc scan code.bin --base 0x400000 --hints hints.json --write-table code.json',
    'x64-reloc scan program --symbol main',
    'x64-reloc scan a.bin --base 0x400000 --pair b.bin --pair-base 0x7f00_0000_0000 --write-table a.json',
  ],
  run,
}

async function run(args: Arguments, terminal: Terminal): Promise<number> {
  args.exclude('pair', 'table', 'both are exact tables of the blob.')
  for (const exact of ['pair', 'table'])
    args.exclude('explain', exact, 'with an exact table nothing is inferred that could be explained.')
  args.exclude('pair', 'also', 'two places of one blob say nothing about other ranges.')
  if (args.has('pair-base') && !args.has('pair')) throw new UsageError('--pair <file> is needed.')
  const tablePath = args.text('write-table')
  checkOutputs([tablePath, '-'])
  const inputs = new Inputs(terminal)
  const found = await readSubject(args.positionals[0], 'base', args, inputs, terminal)
  checkBase(found, 'base')
  const runs = found.table.code()
  const subject = args.has('pair') ? await pairSubject(found, args, inputs) : found
  const { code, base, table } = subject
  if (args.has('explain')) return explainOffsets(subject, args, inputs, terminal)
  const fields = allFields(code, table, runs, readCpu(args))
  const problems = withText(table.problems, code, base, runs)
  const outputs: Output[] =
    tablePath === undefined ? [] : [{ path: tablePath, data: tableFileData(tablePath, table, code) }]
  const printer = new FieldPrinter(code, base)
  const listing = args.has('json')
    ? toJson({
        ok: true,
        input: subject.name,
        base,
        length: code.length,
        span: spanOf(table),
        kinds: countKinds(table),
        problems,
        fields: fields.map((field) => jsonField(base, field, printer)),
      })
    : fields.map((field) => fieldLines(base, field, printer)).join('')
  printer.dispose()
  await writeOutputs([...outputs, { path: '-', data: listing }], terminal)
  for (const line of siteLines(table)) terminal.say(line)
  const inside = fields.length - table.size
  if (inside > 0) terminal.say(`${plural(inside, 'more relative field')} inside the blob, which it does not`)
  sayProblems(problems, terminal)
  return DONE
}

/** Says why the analysis decided as it did. */
async function explainOffsets(
  { code, base, table, ...blob }: Subject,
  args: Arguments,
  inputs: Inputs,
  terminal: Terminal,
): Promise<number> {
  const options = await analysisOptions({ code, ...blob }, 'base', args, inputs)
  const explanations = explain(code, args.offsets('explain', code.length), options)
  const records = blob.elf?.sites === undefined ? [] : table.sites()
  const recorded = (at: number): Site | undefined =>
    records.find(({ offset, width }) => at >= offset && at < offset + width)
  const printer = new ExplanationPrinter(code, base)
  const text = args.has('json')
    ? toJson({
        ok: true,
        input: blob.name,
        base,
        explanations: explanations.map((one) => printer.json(one, recorded(one.offset))),
      })
    : explanations.map((one) => printer.text(one, recorded(one.offset))).join('\n')
  printer.dispose()
  await terminal.print(text)
  return DONE
}

/** The same blob with the exact table that a second dump gives. */
async function pairSubject(found: Subject, args: Arguments, inputs: Inputs): Promise<Subject> {
  const { code, base } = found
  const other = await readBlob(args.text('pair')!, 'the pair', args, inputs, sameLength(code))
  const otherBase = addressOf(other, 'pair-base', args)
  const { span } = found.table
  const table = RelocationTable.fromPair(code, base, other.code, otherBase, { span })
  return { ...found, table }
}

/** `* +0x12  0x400012  pc32   -> 0x500000  code flow  call 0x500000`; the pieces of a `split` site below it. */
function fieldLines(base: bigint, field: Field, printer: FieldPrinter): string {
  const line = (star: string, offset: number, columns: readonly string[]): string => {
    const place = [`${star} +${hex(offset)}`.padEnd(10), hex(wrapAddress(base + BigInt(offset)))]
    return `${[...place, ...columns].join('  ').trimEnd()}\n`
  }
  const { changes, offset, kind, target, evidence, pieces } = field
  const columns = [kind.padEnd(6), `-> ${hex(target)}`, evidenceText(evidence).padEnd(28)]
  const text = pieces === undefined ? printer.text(field) : ''
  return [
    line(changes ? '*' : ' ', offset, [...columns, text]),
    ...(pieces ?? []).map((piece) =>
      line('  ', piece.offset, [
        `bits ${piece.shift} to ${piece.shift + 8 * piece.width - 1}`,
        printer.text(piece),
      ]),
    ),
  ].join('')
}

function jsonField(base: bigint, field: Field, printer: FieldPrinter): object {
  const place = (part: Pick<Field, 'offset' | 'width' | 'instruction'>): object => ({
    instruction: part.instruction?.start ?? null,
    text: printer.text(part),
  })
  const { instruction, pieces, ...rest } = field
  return {
    address: wrapAddress(base + BigInt(field.offset)),
    ...rest,
    ...(pieces === undefined
      ? place(field)
      : { pieces: pieces.map((piece) => ({ ...piece, ...place(piece) })) }),
  }
}
