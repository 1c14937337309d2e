/** What `scan --explain` prints: why the analysis decided as it did at an offset. */
import type { Explanation } from '../analyze/explain.ts'
import type { FieldReading } from '../analyze/explain-field.ts'
import type { FlowStep, Reading } from '../analyze/explain-reading.ts'
import type { Reason } from '../analyze/judge.ts'
import { hex, wrapAddress } from '../core/address.ts'
import { hexBytes } from '../core/bytes.ts'
import { formatProblem } from '../core/errors.ts'
import type { Site } from '../table/site.ts'
import { InstructionPrinter } from '../x86/iced.ts'
import { evidenceText } from './fields.ts'
import { plural } from './report.ts'

/** How a byte was read, in words. */
const READ: Readonly<Record<Reading['by'], string>> = {
  given: 'given as data',
  table: 'in a jump table',
  line: 'read in a line, one instruction after the other',
  weighed: 'weighed as code and as data at every offset around',
}

/** How execution gets from one place to the next. */
const STEP: Readonly<Record<FlowStep['by'], string>> = {
  entry: 'entry',
  call: 'call',
  jump: 'jump',
  branch: 'branch',
  table: 'jump table',
  address: 'address taken',
  pointer: 'pointer in data',
  next: 'falls through',
}

/** Steps of a path that are shown. */
const SHOWN = 6

/** Prints explanations of one blob. */
export class ExplanationPrinter {
  readonly #code: Uint8Array
  readonly #base: bigint
  readonly #printer: InstructionPrinter

  constructor(code: Uint8Array, base: bigint) {
    this.#code = code
    this.#base = base
    this.#printer = new InstructionPrinter(code, base)
  }

  /** Frees what it holds; it cannot be used after it. */
  dispose(): void {
    this.#printer.dispose()
  }

  /** @param recorded the site there by the file's own records, which count, whatever the analysis thinks */
  text({ offset, address, reading, fields, problems }: Explanation, recorded: Site | undefined): string {
    const { as, by, evidence, instruction, path, table, reasons } = reading
    const lines = [`+${hex(offset)}  ${hex(address)}  ${as}, ${evidence}; ${READ[by]}`]
    if (table !== undefined)
      lines.push(
        `  the table +${hex(table.start)} to +${hex(table.end)}, ${table.width} bytes an entry, of the jump at ${table.jumps.map((jump) => `+${hex(jump)}`).join(', ')}`,
      )
    if (path !== undefined) lines.push(`  reached from: ${pathText(path)}`)
    if (instruction !== undefined) {
      lines.push(
        `  ${as === 'code' ? '' : 'as code: '}${this.#instruction(instruction.start, instruction.end)}`,
      )
      lines.push(...reasonLines(reasons, '    '))
    } else lines.push('  no instruction begins here')
    for (const { start, end } of reading.shared ?? [])
      lines.push(`  a branch leads into it: ${this.#instruction(start, end)}`)
    for (const field of fields) lines.push(...fieldLines(field))
    if (fields.length === 0)
      lines.push(
        as === 'code'
          ? '  it has no operand that could hold an address'
          : '  nothing here looks like an address',
      )
    if (recorded !== undefined)
      lines.push(
        `  the file's records: ${recorded.kind} at +${hex(recorded.offset)} -> ${hex(recorded.target)}`,
      )
    for (const problem of problems) lines.push(`  ${formatProblem(problem).replaceAll('\n', '\n  ')}`)
    return `${lines.map((line) => line.trimEnd()).join('\n')}\n`
  }

  json(explanation: Explanation, recorded: Site | undefined): object {
    const { instruction, ...reading } = explanation.reading
    return {
      ...explanation,
      reading: {
        ...reading,
        ...(instruction === undefined
          ? {}
          : { instruction: { ...instruction, text: this.#printer.text(instruction.start) } }),
      },
      ...(recorded === undefined ? {} : { recorded }),
    }
  }

  #instruction(start: number, end: number): string {
    const address = hex(wrapAddress(this.#base + BigInt(start)))
    return `${address}  ${hexBytes(this.#code, start, end).padEnd(20)}  ${this.#printer.text(start)}`
  }
}

function pathText(path: readonly FlowStep[]): string {
  const text = ({ at, from, by }: FlowStep): string =>
    from === undefined ? `${STEP[by]} +${hex(at)}` : `${STEP[by]} at +${hex(from)} to +${hex(at)}`
  if (path.length <= SHOWN) return path.map(text).join(', ')
  const last = path.slice(1 - SHOWN).map(text)
  return [text(path[0]), `${plural(path.length - SHOWN, 'more step')}`, ...last].join(', ')
}

function fieldLines({
  offset,
  width,
  verdict,
  why,
  kind,
  target,
  site,
  reasons,
  odds,
  least,
}: FieldReading): string[] {
  const what = { site: 'a site', kept: 'no move changes it', refused: 'refused', number: 'no address' }[
    verdict
  ]
  const head = [`+${hex(offset)} ${kind ?? plural(width, 'byte')}`]
  if (target !== undefined) head.push(`-> ${hex(target)}`)
  const evidence = site === undefined ? '' : `, ${evidenceText(site.evidence)}`
  const pieces = (site?.pieces ?? []).map(
    (piece) =>
      `    +${hex(piece.offset)} bits ${piece.shift} to ${piece.shift + 8 * piece.width - 1}, ${piece.operation}`,
  )
  const sum =
    odds === undefined ? [] : [`    ${oddsText(odds)}  together; an address needs ${oddsText(least!).trim()}`]
  return [
    `  ${head.join(' ')}: ${what}${evidence}: ${why}`,
    ...pieces,
    ...reasonLines(reasons, '    '),
    ...sum,
  ]
}

/** What is for and what is against it; nothing of what says nothing. */
const reasonLines = (reasons: readonly Reason[], indent: string): string[] =>
  reasons
    .filter(({ odds }) => odds.toFixed(1) !== '0.0' && odds.toFixed(1) !== '-0.0')
    .map(({ what, odds }) => `${indent}${oddsText(odds)}  ${what}`)

const oddsText = (odds: number): string => `${odds < 0 ? '' : '+'}${odds.toFixed(1)}`.padStart(6)
