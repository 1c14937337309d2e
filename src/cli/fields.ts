/** The fields of a blob one by one, with the instructions that hold them, as people read them. */
import { hex, wrapAddress } from '../core/address.ts'
import { hexBytes, readField, viewOf } from '../core/bytes.ts'
import type { SiteKind } from '../table/kinds.ts'
import type { Evidence, Site, SplitPiece } from '../table/site.ts'
import type { CodeRun, RelocationTable } from '../table/table.ts'
import { formatInstruction, IcedCursor } from '../x86/iced.ts'
import type { Cpu } from '../x86/instruction.ts'
import { findInstructions } from '../x86/locate.ts'

/** A site of the table, or a relative operand whose two ends move together. */
export interface Field {
  /** Bytes from the blob's start. */
  readonly offset: number
  readonly kind: SiteKind
  readonly width: number
  readonly target: bigint
  /** Whether a move of the blob changes it: the field is a site. */
  readonly changes: boolean
  /** Of sites. */
  readonly evidence?: Evidence
  readonly anchor?: bigint
  readonly pieces?: readonly SplitPiece[]
  /** The instruction that holds it; absent in data. */
  readonly instruction?: CodeRun
}

/** Every site of `table`, with the instructions of `runs` that hold them. */
export function siteFields(code: Uint8Array, table: RelocationTable, runs: readonly CodeRun[]): Field[] {
  const sites = table.sites()
  const places = findInstructions(
    code,
    runs,
    sites.map((site) => site.offset),
  )
  return sites.map((site) => toField(site, places.get(site.offset)))
}

const toField = (site: Site, instruction: CodeRun | undefined): Field => ({
  ...site,
  changes: true,
  ...(instruction === undefined ? {} : { instruction }),
})

const PC_KINDS: Readonly<Record<number, SiteKind>> = { 1: 'pc8', 2: 'pc16', 4: 'pc32' }

/** Every site of `table` and every other relative operand in `runs`, by offset. */
export function allFields(
  code: Uint8Array,
  table: RelocationTable,
  runs: readonly CodeRun[],
  cpu: Cpu | undefined,
): Field[] {
  const sites = new Map(table.sites().map((site) => [site.offset, site]))
  const fields = new Map<number, Field>()
  const cursor = new IcedCursor(code, { cpu, base: table.base })
  try {
    for (const run of runs)
      for (let at = run.start; at < run.end && cursor.decode(at) > 0; at += cursor.length) {
        const instruction = { start: at, end: at + cursor.length }
        for (const place of operandOffsets(cursor)) {
          const site = sites.get(place)
          if (site !== undefined && !fields.has(place)) fields.set(place, toField(site, instruction))
        }
        const relative = relativeOperand(cursor)
        if (relative !== undefined && !fields.has(relative.offset))
          fields.set(relative.offset, { ...relative, changes: false, instruction })
      }
  } finally {
    cursor.dispose()
  }
  for (const site of sites.values())
    if (!fields.has(site.offset)) fields.set(site.offset, toField(site, undefined))
  return [...fields.values()].sort((a, b) => a.offset - b.offset)
}

const operandOffsets = (cursor: IcedCursor): number[] =>
  [
    [cursor.displacementOffset, cursor.displacementSize],
    [cursor.immediateOffset, cursor.immediateSize],
  ].flatMap(([offset, size]) => (size === 0 ? [] : [cursor.offset + offset]))

/** The branch field, or the RIP-relative displacement, under the cursor. */
function relativeOperand(
  cursor: IcedCursor,
): Pick<Field, 'offset' | 'width' | 'kind' | 'target'> | undefined {
  const { target } = cursor
  if (target === undefined || cursor.isBranch16) return undefined
  const [at, width] = cursor.isBranch
    ? [cursor.immediateOffset, cursor.immediateSize]
    : [cursor.displacementOffset, cursor.displacementSize]
  return { offset: cursor.offset + at, width, kind: PC_KINDS[width], target }
}

/** The instruction, or the data field as a directive. `base` is where `code` is. */
export function fieldText(code: Uint8Array, base: bigint, { offset, width, instruction }: Field): string {
  if (instruction !== undefined)
    return formatInstruction(code, instruction.start, wrapAddress(base + BigInt(instruction.start)))
  const directive = { 1: 'db', 2: 'dw', 4: 'dd', 8: 'dq' }[width]
  return directive === undefined ? '' : `${directive} ${hex(readField(viewOf(code), offset, width))}`
}

/** `code given, address flow`; `-` for what needs none. */
export function evidenceText(evidence: Evidence | undefined): string {
  if (evidence === undefined) return '-'
  return evidence.address === undefined
    ? `code ${evidence.code}`
    : `code ${evidence.code}, address ${evidence.address}`
}

/** A site before and after, as a difference of two lines. */
export function changeLines(
  field: Field,
  before: { readonly code: Uint8Array; readonly base: bigint },
  after: { readonly code: Uint8Array; readonly base: bigint },
): { readonly head: string; readonly old: string; readonly now: string } {
  const { start, end } = field.instruction ?? { start: field.offset, end: field.offset + field.width }
  const line = ({ code, base }: { readonly code: Uint8Array; readonly base: bigint }): string =>
    `${hex(wrapAddress(base + BigInt(start)))}  ${hexBytes(code, start, end).padEnd(20)}  ${fieldText(code, base, field)}`
  return {
    head: `+${hex(field.offset)} ${field.kind}, ${evidenceText(field.evidence)}`,
    old: line(before),
    now: line(after),
  }
}
