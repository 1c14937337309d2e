/**
 * An ELF object file (ET_REL), read and checked: sections without addresses, symbols, and relocation records
 * with addends.
 */
import { toBytes, viewOf } from '../core/bytes.ts'
import { badElf, readHeader } from './header.ts'
import { RELA_SIZE, type Record, readRecords } from './records.ts'
import {
  describe,
  isLoaded,
  readSections,
  type Section,
  SHF_EXCLUDE,
  SHF_TLS,
  SHT_CREL,
  SHT_REL,
  SHT_RELA,
  SHT_SYMTAB,
} from './sections.ts'
import { superviseElfy } from './supervise.ts'
import { SymbolTable } from './symbols.ts'

export interface ObjectFile {
  readonly bytes: Uint8Array
  readonly view: DataView
  /** In the order of their table. */
  readonly sections: readonly Section[]
  readonly symbols: SymbolTable | undefined
  /** The sections that hold the records about a section, by its index. */
  readonly records: ReadonlyMap<number, readonly Section[]>
}

/** Reads an x86-64 object file. `bytes` is kept, not copied. Throws `bad-input` with a sentence for everything else. */
export function readObject(bytes: Uint8Array): ObjectFile {
  const view = viewOf(toBytes(bytes, 'bytes'))
  const header = readHeader(bytes, view, 'object')
  const sections = readSections(bytes, view, header)
  superviseElfy(bytes, header, [], sections)
  const table = sections.find(({ type }) => type === SHT_SYMTAB)
  return {
    bytes,
    view,
    sections,
    symbols: table && new SymbolTable(view, table, sections),
    records: recordSections(sections, table),
  }
}

/**
 * Whether a section gets a place: it is loaded, and not thrown away by whoever links it. Thread-local storage
 * has no place of its own: each thread has another copy.
 */
export const isPlaced = (section: Section): boolean =>
  isLoaded(section) && (section.flags & (SHF_TLS | SHF_EXCLUDE)) === 0

function recordSections(
  sections: readonly Section[],
  symbols: Section | undefined,
): ReadonlyMap<number, readonly Section[]> {
  const found = new Map<number, Section[]>()
  for (const section of sections) {
    const { type, info, size, entrySize, link } = section
    if ((type !== SHT_RELA && type !== SHT_REL && type !== SHT_CREL) || size === 0) continue
    const about = sections[info]
    if (about === undefined || !isPlaced(about)) continue
    if (type !== SHT_RELA)
      throw badElf(
        `keeps the relocation records of section ${describe(about)} in another form than Elf64_Rela (${type === SHT_REL ? 'SHT_REL' : 'SHT_CREL; compile without --crel'}).`,
      )
    if (entrySize !== RELA_SIZE || size % RELA_SIZE !== 0)
      throw badElf(
        `is damaged: the records of section ${describe(section)} have ${entrySize} bytes, ${size} together; Elf64_Rela has ${RELA_SIZE}.`,
      )
    if (link !== symbols?.index)
      throw badElf(
        `is damaged: the records of section ${describe(section)} belong to symbol table ${link}, the file's is ${symbols?.index ?? 'missing'}.`,
      )
    const list = found.get(info)
    if (list === undefined) found.set(info, [section])
    else list.push(section)
  }
  return found
}

/** The records about a section, in the order of the file; their addresses are offsets into it. */
export function* recordsAbout(object: ObjectFile, section: Section): Generator<Record> {
  for (const { offset, size } of object.records.get(section.index) ?? [])
    yield* readRecords(object.view, offset, offset + size)
}
