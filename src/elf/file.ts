/** An ELF file, read and checked as a whole; the other files of this room take what they need from it. */
import { viewOf } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { DynamicInfo, type Loaded, loadedBytes } from './dynamic.ts'
import { badElf, type ElfHeader, ET_REL, readHeader, readSegments, type Segment } from './header.ts'
import { RELA_SIZE, type Record, readRecords } from './records.ts'
import {
  checkDisjoint,
  describe,
  isLoaded,
  readSections,
  type Section,
  SHF_ALLOC,
  SHT_CREL,
  SHT_REL,
  SHT_RELA,
} from './sections.ts'
import { superviseElfy } from './supervise.ts'
import { findSymbols, type SymbolTable } from './symbols.ts'

export interface ElfFile {
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly header: ElfHeader
  readonly segments: readonly Segment[]
  /** In the order of their table; empty where the file has none. */
  readonly sections: readonly Section[]
  /** Those that take up addresses, ascending, disjoint. */
  readonly loadedSections: readonly Section[]
  /** The full symbol table, or the dynamic one where the file is stripped. */
  readonly symbols: SymbolTable | undefined
  /** Sections of the relocation records that the linker kept, by the index of the section that they are about. */
  readonly kept: ReadonlyMap<number, Section>
  readonly dynamic: DynamicInfo
  readonly loaded: Loaded
}

/**
 * Reads an x86-64 executable or shared object. `bytes` is kept, not copied. Throws `bad-input` with a
 * sentence for everything else: object files, other machines, 32-bit, big-endian, damaged or truncated files.
 */
export function readElf(bytes: Uint8Array): ElfFile {
  if (!(bytes instanceof Uint8Array)) throw new RelocError('bad-argument', 'bytes is not a Uint8Array.')
  const view = viewOf(bytes)
  const header = readHeader(bytes, view, 'linked')
  const segments = readSegments(view, header)
  const sections = readSections(bytes, view, header)
  checkDisjoint(sections)
  superviseElfy(bytes, header, segments, sections)
  const loaded = loadedBytes(segments)
  return {
    bytes,
    view,
    header,
    segments,
    sections,
    loadedSections: sections
      .filter((section) => isLoaded(section) && section.size > 0)
      .sort((a, b) => (a.address < b.address ? -1 : 1)),
    symbols: findSymbols(view, sections),
    kept: keptRecords(sections),
    dynamic: new DynamicInfo(view, segments, loaded),
    loaded,
  }
}

/** Whether `bytes` begin like an ELF file. */
export const isElf = (bytes: Uint8Array): boolean =>
  bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46

/** Whether an ELF file says that it is an object file. */
export const isObjectFile = (bytes: Uint8Array): boolean => bytes[16] === ET_REL && bytes[17] === 0

/**
 * Which section holds the records that the linker kept (`--emit-relocs`), by the index of the section that
 * they are about.
 */
function keptRecords(sections: readonly Section[]): ReadonlyMap<number, Section> {
  const kept = new Map<number, Section>()
  for (const section of sections) {
    const { type, flags, info, size, entrySize } = section
    if (
      (type !== SHT_RELA && type !== SHT_REL && type !== SHT_CREL) ||
      (flags & SHF_ALLOC) !== 0 ||
      size === 0
    )
      continue
    const about = sections[info]
    if (about === undefined || !isLoaded(about)) continue
    if (type !== SHT_RELA)
      throw badElf(
        `keeps the relocation records of section ${describe(about)} in another form than Elf64_Rela (${type === SHT_REL ? 'SHT_REL, without addends, which x86-64 does not use' : 'SHT_CREL; compile without --crel'}).`,
      )
    if (entrySize !== RELA_SIZE || size % RELA_SIZE !== 0)
      throw badElf(
        `is damaged: the records of section ${describe(section)} have ${entrySize} bytes, ${size} together; Elf64_Rela has ${RELA_SIZE}.`,
      )
    if (kept.has(info))
      throw badElf(
        `is damaged: sections ${describe(kept.get(info)!)} and ${describe(section)} both hold the records of ${describe(about)}.`,
      )
    kept.set(info, section)
  }
  return kept
}

/** The kept records of a section, in the order of the file. */
export function* recordsOf(elf: ElfFile, section: Section): Generator<Record> {
  const kept = elf.kept.get(section.index)
  if (kept !== undefined) yield* readRecords(elf.view, kept.offset, kept.offset + kept.size)
}
