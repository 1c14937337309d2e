/** What was found, what is doubtful, what is proved: for people (lines on standard error) and for programs (JSON). */
import { formatProblem, type Problem } from '../core/errors.ts'
import { KIND_ROWS, SPLIT } from '../table/kinds.ts'
import { addressLevel, codeLevel, unpackEvidence } from '../table/site.ts'
import type { RelocationTable } from '../table/table.ts'
import type { Verdict } from '../verify/verify.ts'
import type { Terminal } from './terminal.ts'

/** Sites of one kind: how many, and how many at each level of evidence. */
export interface KindCount {
  readonly kind: string
  readonly count: number
  readonly code: Readonly<Record<string, number>>
  readonly address: Readonly<Record<string, number>>
}

/** Counts a table's sites by kind and evidence, in the order of the kinds. */
export function countKinds(table: RelocationTable): KindCount[] {
  const kinds = new Map<number, { count: number; bytes: Map<number, number> }>()
  const add = (kind: number, evidence: number): void => {
    const entry = kinds.get(kind) ?? { count: 0, bytes: new Map<number, number>() }
    entry.count++
    entry.bytes.set(evidence, (entry.bytes.get(evidence) ?? 0) + 1)
    kinds.set(kind, entry)
  }
  for (const group of table.parts.groups) for (const evidence of group.evidence) add(group.kind, evidence)
  for (const split of table.parts.splits) add(SPLIT, split.evidence)
  return [...kinds.keys()]
    .sort((a, b) => a - b)
    .map((kind) => {
      const { count, bytes } = kinds.get(kind)!
      return { kind: KIND_ROWS[kind].name, count, ...levels(bytes) }
    })
}

/** Counts by name of code and of address level, strongest first. */
function levels(bytes: ReadonlyMap<number, number>): Pick<KindCount, 'code' | 'address'> {
  const tally = (
    level: (evidence: number) => number,
    name: (evidence: number) => string | undefined,
  ): Record<string, number> => {
    const sums: Record<string, number> = {}
    for (const evidence of [...bytes.keys()].sort((a, b) => level(b) - level(a))) {
      const word = name(evidence)
      if (word !== undefined) sums[word] = (sums[word] ?? 0) + bytes.get(evidence)!
    }
    return sums
  }
  return {
    code: tally(codeLevel, (evidence) => unpackEvidence(evidence).code),
    address: tally(addressLevel, (evidence) => unpackEvidence(evidence).address),
  }
}

/** What `relocate --json` and `verify --json` say, in one shape. */
export interface MoveReport {
  readonly ok: boolean
  /** The blob before. */
  readonly input: string
  /** Files with the blob after, its table, its symbols, its veneers. */
  readonly output: string | undefined
  readonly table: string | undefined
  readonly symbols: string | undefined
  readonly veneers:
    | { readonly file: string | undefined; readonly at: bigint; readonly length: number }
    | undefined
  readonly from: bigint
  readonly to: bigint
  readonly problems: readonly Problem[]
  readonly verdict: Verdict | undefined
}

/** The report as JSON has it: what is not there is null. */
export const moveReport = (report: MoveReport, table: RelocationTable): object => ({
  ok: report.ok,
  input: report.input,
  output: report.output ?? null,
  table: report.table ?? null,
  symbols: report.symbols ?? null,
  veneers: report.veneers === undefined ? null : { ...report.veneers, file: report.veneers.file ?? null },
  from: report.from,
  to: report.to,
  length: table.length,
  span: spanOf(table),
  sites: table.size,
  kinds: countKinds(table),
  problems: report.problems,
  verdict: report.verdict ?? null,
})

/** Bytes that move. A table covers a byte at least, so that there is a range; of a blob without bytes nothing does. */
export const spanOf = ({ length, span }: RelocationTable): number => (length === 0 && span === 1 ? 0 : span)

const list = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ')

export const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? '' : 's'}`

/** `12 sites change when it moves`, and a line for each kind. */
export function siteLines(table: RelocationTable): string[] {
  return [
    `${plural(table.size, 'site')} that a move changes`,
    ...countKinds(table).map(({ kind, count, code, address }) => {
      const by = [list(code) && `code ${list(code)}`, list(address) && `address ${list(address)}`]
      return `  ${kind.padEnd(7)}${String(count).padStart(7)}  ${by.filter((part) => part !== '').join('; ')}`
    }),
  ]
}

/** Problems shown; the rest is counted. */
const SHOWN = 20

/** Says each problem on a line, errors first, and the remedy that several share once; of many only the first ones. */
export function sayProblems(problems: readonly Problem[], terminal: Terminal): void {
  const sorted = [...problems].sort((a, b) => Number(b.severity === 'error') - Number(a.severity === 'error'))
  const shown = sorted.slice(0, SHOWN)
  shown.forEach((problem, i) => {
    const { severity, remedy } = problem
    const line = formatProblem({ ...problem, remedy: '' }).trimEnd()
    const style = severity === 'error' ? 'red' : 'yellow'
    terminal.say(terminal.paint(style, severity, 'error') + line.slice(severity.length))
    if (shown[i + 1]?.remedy !== remedy) terminal.say(`  ${remedy}`)
  })
  if (sorted.length > SHOWN)
    terminal.say(`and ${plural(sorted.length - SHOWN, 'more problem')} (--json lists them all)`)
}

/** What was proved, and what the result rests on. */
export function verdictLine(verdict: Verdict): string {
  const { proved, rests } = verdict
  const relative = `${plural(proved.relative, 'relative site')} proved in ${plural(proved.instructions, 'instruction')}`
  const absolute = Object.values(rests).reduce((sum, count) => sum + count, 0)
  const evidence = absolute === 0 ? '' : `; ${plural(absolute, 'other site')} by evidence (${list(rests)})`
  const veneers = proved.veneers === 0 ? '' : `, ${plural(proved.veneers, 'veneered instruction')} followed`
  return `${plural(proved.bytes, 'byte')} kept, ${relative}${veneers}${evidence}`
}
