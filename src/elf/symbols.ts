/** Symbol tables: Elf64_Sym, 24 bytes each, read in place. */
import { badElf, SHN_LORESERVE, SHN_XINDEX } from './header.ts'
import { describe, type Section, SHT_DYNSYM, SHT_STRTAB, SHT_SYMTAB, SHT_SYMTAB_SHNDX } from './sections.ts'

export const SYM_SIZE = 24

/** st_info & 15 */
export const STT_NOTYPE = 0
export const STT_OBJECT = 1
export const STT_FUNC = 2
export const STT_SECTION = 3
export const STT_COMMON = 5
export const STT_TLS = 6
export const STT_GNU_IFUNC = 10
/** st_info >> 4 */
export const STB_LOCAL = 0
export const STB_WEAK = 2
export const STB_GNU_UNIQUE = 10
/** st_shndx */
export const SHN_UNDEF = 0
/** Processor-specific: common, and large. */
const SHN_X86_64_LCOMMON = 0xff02
export const SHN_ABS = 0xfff1
const SHN_COMMON = 0xfff2

/** Whether an st_shndx is that of zeros without a section, which whoever links makes room for. */
export const isCommon = (index: number): boolean => index === SHN_COMMON || index === SHN_X86_64_LCOMMON

/** One symbol table; a symbol is its index. */
export class SymbolTable {
  readonly count: number
  /** Index of its section. */
  readonly section: number
  /** The string table of its names. */
  readonly strings: Section | undefined
  readonly #view: DataView
  readonly #offset: number
  /** The 4-byte section numbers that do not fit in the symbols. */
  readonly #extended: Section | undefined

  constructor(view: DataView, section: Section, sections: readonly Section[]) {
    if (section.size % SYM_SIZE !== 0)
      throw badElf(
        `is damaged: its symbol table, section ${describe(section)}, has ${section.size} bytes, no multiple of ${SYM_SIZE}.`,
      )
    this.#view = view
    this.#offset = section.offset
    this.count = section.size / SYM_SIZE
    this.section = section.index
    const strings = sections[section.link]
    this.strings = strings?.type === SHT_STRTAB ? strings : undefined
    this.#extended = sections.find(({ type, link }) => type === SHT_SYMTAB_SHNDX && link === section.index)
    if (this.#extended !== undefined && this.#extended.size < 4 * this.count)
      throw badElf(
        `is damaged: section ${describe(this.#extended)} has ${this.#extended.size} bytes, 4 for each of ${this.count} symbols are needed.`,
      )
  }

  #at(symbol: number): number {
    if (symbol >= this.count)
      throw badElf(
        `is damaged: a relocation record names symbol ${symbol}, its symbol table has ${this.count}.`,
      )
    return this.#offset + SYM_SIZE * symbol
  }
  nameOffset(symbol: number): number {
    return this.#view.getUint32(this.#at(symbol), true)
  }
  type(symbol: number): number {
    return this.#view.getUint8(this.#at(symbol) + 4) & 15
  }
  binding(symbol: number): number {
    return this.#view.getUint8(this.#at(symbol) + 4) >> 4
  }
  value(symbol: number): bigint {
    return this.#view.getBigUint64(this.#at(symbol) + 8, true)
  }
  size(symbol: number): bigint {
    return this.#view.getBigUint64(this.#at(symbol) + 16, true)
  }
  /**
   * Index of the section that it is defined in; undefined where there is none, because it is undefined,
   * absolute or common.
   */
  home(symbol: number): number | undefined {
    const index = this.index(symbol)
    if (index === SHN_XINDEX)
      return this.#extended && this.#view.getUint32(this.#extended.offset + 4 * symbol, true)
    return index === SHN_UNDEF || index >= SHN_LORESERVE ? undefined : index
  }
  isDefined(symbol: number): boolean {
    return this.index(symbol) !== SHN_UNDEF
  }
  /** st_shndx itself. */
  index(symbol: number): number {
    return this.#view.getUint16(this.#at(symbol) + 6, true)
  }
}

/** The full symbol table, or the dynamic one where the file is stripped, or undefined. */
export function findSymbols(view: DataView, sections: readonly Section[]): SymbolTable | undefined {
  const section =
    sections.find((candidate) => candidate.type === SHT_SYMTAB && candidate.size > 0) ??
    sections.find((candidate) => candidate.type === SHT_DYNSYM && candidate.size > 0)
  return section === undefined ? undefined : new SymbolTable(view, section, sections)
}
