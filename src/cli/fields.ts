/** The fields of a blob one by one, with the instructions that hold them, as people read them. */
import { hex, wrapAddress } from '../core/address.ts'
import { hexBytes, readField, viewOf } from '../core/bytes.ts'
import type { SiteKind } from '../table/kinds.ts'
import type { Evidence, SplitPiece } from '../table/site.ts'
import type { CodeRun, RelocationTable } from '../table/table.ts'
import { IcedCursor, InstructionPrinter } from '../x86/iced.ts'
import type { Cpu } from '../x86/instruction.ts'
import { findInstructions, isOperand } from '../x86/locate.ts'

/** A site of the table, or a relative operand whose two ends move together. */
export interface Field extends Placed {
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
  /** Of `split` sites, each with the instruction whose operand it is. */
  readonly pieces?: readonly (SplitPiece & Placed)[]
}

interface Placed {
  /** The instruction whose operand it is; absent in data. */
  readonly instruction?: CodeRun
}

/** Every site of `table`, with the instructions of `runs` that hold them. */
export function siteFields(code: Uint8Array, table: RelocationTable, runs: readonly CodeRun[]): Field[] {
  const sites = table.sites()
  const offsets = sites.flatMap(({ offset, pieces }) => pieces?.map((piece) => piece.offset) ?? [offset])
  const places = findInstructions(code, runs, offsets, isOperand)
  const placed = <T extends { readonly offset: number }>(field: T): T & Placed => {
    const instruction = places.get(field.offset)
    return instruction === undefined ? field : { ...field, instruction }
  }
  return sites.map(({ pieces, ...site }) => ({
    ...placed(site),
    changes: true,
    ...(pieces === undefined ? {} : { pieces: pieces.map(placed) }),
  }))
}

const PC_KINDS: Readonly<Record<number, SiteKind>> = { 1: 'pc8', 2: 'pc16', 4: 'pc32' }

/** Every site of `table` and every other relative operand in `runs`, by offset. */
export function allFields(
  code: Uint8Array,
  table: RelocationTable,
  runs: readonly CodeRun[],
  cpu: Cpu | undefined,
): Field[] {
  const fields = new Map(siteFields(code, table, runs).map((field) => [field.offset, field]))
  const cursor = new IcedCursor(code, { cpu, base: table.base })
  try {
    for (const run of runs)
      for (let at = run.start; at < run.end && cursor.decode(at) > 0; at += cursor.length) {
        const relative = relativeOperand(cursor)
        if (relative === undefined || fields.has(relative.offset)) continue
        const instruction = { start: at, end: at + cursor.length }
        fields.set(relative.offset, { ...relative, changes: false, instruction })
      }
  } finally {
    cursor.dispose()
  }
  return [...fields.values()].sort((a, b) => a.offset - b.offset)
}

/** The branch field, or the RIP-relative displacement, under the cursor. */
function relativeOperand(
  cursor: IcedCursor,
): Pick<Field, 'offset' | 'width' | 'kind' | 'target'> | undefined {
  if (!(cursor.isBranch || cursor.isIpRelative) || cursor.isBranch16) return undefined
  const [at, width] = cursor.isBranch
    ? [cursor.immediateOffset, cursor.immediateSize]
    : [cursor.displacementOffset, cursor.displacementSize]
  return { offset: cursor.offset + at, width, kind: PC_KINDS[width], target: cursor.target! }
}

/** A blob's fields as text. */
export class FieldPrinter {
  readonly #code: Uint8Array
  readonly #base: bigint
  readonly #printer: InstructionPrinter

  constructor(code: Uint8Array, base: bigint) {
    this.#code = code
    this.#base = base
    this.#printer = new InstructionPrinter(code, base)
  }

  /** The instruction, or the data field as a directive. */
  text({ offset, width, instruction }: Pick<Field, 'offset' | 'width' | 'instruction'>): string {
    if (instruction !== undefined) return this.#printer.text(instruction.start)
    const directive = { 1: 'db', 2: 'dw', 4: 'dd', 8: 'dq' }[width]
    return `${directive} ${hex(readField(viewOf(this.#code), offset, width))}`
  }

  /** `0x400000  e8fbff0f00            call 0x500000`, and a line for every piece of a `split` site. */
  lines(field: Field): string[] {
    return (field.pieces ?? [field]).map((part) => {
      const { start, end } = part.instruction ?? { start: part.offset, end: part.offset + part.width }
      const address = hex(wrapAddress(this.#base + BigInt(start)))
      return `${address}  ${hexBytes(this.#code, start, end).padEnd(20)}  ${this.text(part)}`
    })
  }

  /** Frees what it holds; it cannot be used after it. */
  dispose(): void {
    this.#printer.dispose()
  }
}

/** `code given, address flow`; `-` for what needs none. */
export function evidenceText(evidence: Evidence | undefined): string {
  if (evidence === undefined) return '-'
  return evidence.address === undefined
    ? `code ${evidence.code}`
    : `code ${evidence.code}, address ${evidence.address}`
}

/** `+0x12 pc32, code flow` */
export const fieldHead = ({ offset, kind, evidence }: Field): string =>
  `+${hex(offset)} ${kind}, ${evidenceText(evidence)}`
