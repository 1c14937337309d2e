/**
 * Relocation records: Elf64_Rela, 24 bytes each, and what each x86-64 type says about a field. Source of
 * names and formulas: "System V ABI, AMD64 Architecture Processor Supplement", 4.4, version 1.0, and its APX
 * additions.
 */
import type { SiteKind } from '../table/kinds.ts'

export const RELA_SIZE = 24

/**
 * What a field holds. S symbol, A addend, P the field's own address, G a slot of the global offset table
 * (GOT) as an address. Linkers know which instruction carries a `slot` or a `thread` record, and may change
 * it into one that needs no slot.
 */
export type Formula =
  | 'none' // no address: an offset into thread-local storage, or nothing at all
  | 'size' // of the symbol, + A
  | 'S+A-TP' // TP the end of the thread-local storage: a constant, but for symbols that nobody defines
  | 'S+A'
  | 'S+A-P'
  | 'L+A-P' // L a stub for S, or S itself
  | 'slot' // G + A - P
  | 'thread' // G + A - P, where the slot describes a thread-local variable
  | 'slot-GOT' // G + A - GOT
  | 'GOT+A-P'
  | 'S+A-GOT'
  | 'PLT+A-GOT'
  /** Of a loader's records only. */
  | 'base+A'
  | 'S'

export interface RecordType {
  readonly name: string
  readonly formula: Formula
  readonly width: 1 | 2 | 4 | 8
  /** The kind of site of an `S+A` field, where there is one that can be moved. */
  readonly kind?: SiteKind
}

const type = (name: string, formula: Formula, width: 1 | 2 | 4 | 8, kind?: SiteKind): RecordType =>
  kind === undefined ? { name, formula, width } : { name, formula, width, kind }

/** By number. */
export const RECORD_TYPES: readonly (RecordType | undefined)[] = [
  type('NONE', 'none', 1),
  type('64', 'S+A', 8, 'abs64'),
  type('PC32', 'S+A-P', 4),
  type('GOT32', 'slot-GOT', 4),
  type('PLT32', 'L+A-P', 4),
  type('COPY', 'none', 8),
  type('GLOB_DAT', 'S', 8),
  type('JUMP_SLOT', 'S', 8),
  type('RELATIVE', 'base+A', 8),
  type('GOTPCREL', 'slot', 4),
  type('32', 'S+A', 4, 'abs32'),
  type('32S', 'S+A', 4, 'abs32s'),
  type('16', 'S+A', 2),
  type('PC16', 'S+A-P', 2),
  type('8', 'S+A', 1),
  type('PC8', 'S+A-P', 1),
  type('DTPMOD64', 'none', 8),
  type('DTPOFF64', 'none', 8),
  type('TPOFF64', 'none', 8),
  type('TLSGD', 'thread', 4),
  type('TLSLD', 'thread', 4),
  type('DTPOFF32', 'none', 4),
  type('GOTTPOFF', 'thread', 4),
  type('TPOFF32', 'S+A-TP', 4),
  type('PC64', 'S+A-P', 8),
  type('GOTOFF64', 'S+A-GOT', 8),
  type('GOTPC32', 'GOT+A-P', 4),
  type('GOT64', 'slot-GOT', 8),
  type('GOTPCREL64', 'slot', 8),
  type('GOTPC64', 'GOT+A-P', 8),
  type('GOTPLT64', 'slot-GOT', 8),
  type('PLTOFF64', 'PLT+A-GOT', 8),
  type('SIZE32', 'size', 4),
  type('SIZE64', 'size', 8),
  type('GOTPC32_TLSDESC', 'thread', 4),
  type('TLSDESC_CALL', 'none', 1),
  type('TLSDESC', 'none', 8),
  type('IRELATIVE', 'base+A', 8),
  type('RELATIVE64', 'base+A', 8),
  undefined,
  undefined,
  type('GOTPCRELX', 'slot', 4),
  type('REX_GOTPCRELX', 'slot', 4),
  type('CODE_4_GOTPCRELX', 'slot', 4),
  type('CODE_4_GOTTPOFF', 'thread', 4),
  type('CODE_4_GOTPC32_TLSDESC', 'thread', 4),
  type('CODE_5_GOTPCRELX', 'slot', 4),
  type('CODE_5_GOTTPOFF', 'thread', 4),
  type('CODE_5_GOTPC32_TLSDESC', 'thread', 4),
  type('CODE_6_GOTPCRELX', 'slot', 4),
  type('CODE_6_GOTTPOFF', 'thread', 4),
  type('CODE_6_GOTPC32_TLSDESC', 'thread', 4),
]

/** Whether no move changes the field: it holds no address, and no distance between what could move apart. */
export const isFixed = ({ formula }: RecordType): boolean =>
  formula === 'none' || formula === 'size' || formula === 'slot-GOT'

/** `R_X86_64_…` */
export const recordName = (number: number): string =>
  RECORD_TYPES[number] === undefined ? `relocation type ${number}` : `R_X86_64_${RECORD_TYPES[number].name}`

/**
 * Types whose following record belongs to the call of __tls_get_addr, which goes when the linker needs no such call.
 */
export const TLSGD = 19
export const TLSLD = 20

export interface Record {
  /** r_offset: in linked files an address. */
  readonly address: bigint
  readonly type: number
  readonly symbol: number
  readonly addend: bigint
}

/** The records at `[start, end)` of the file; a rest shorter than a record is left. */
export function* readRecords(view: DataView, start: number, end: number): Generator<Record> {
  for (let at = start; at + RELA_SIZE <= end; at += RELA_SIZE)
    yield {
      address: view.getBigUint64(at, true),
      type: view.getUint32(at + 8, true),
      symbol: view.getUint32(at + 12, true),
      addend: view.getBigInt64(at + 16, true),
    }
}
