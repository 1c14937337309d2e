/**
 * From an ELF file to a blob: its bytes, where code and data are, where execution starts, and the sites that are known.
 */
import { ADDRESS_LIMIT, hex } from '../core/address.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import type { MovedRange } from '../core/range.ts'
import type { SiteInput } from '../table/from-sites.ts'
import { type CodeRun, RelocationTable } from '../table/table.ts'
import type { ElfFile } from './file.ts'
import { badElf, ET_DYN } from './header.ts'
import { NameReader } from './names.ts'
import { type BlobRange, blobEntries, blobRanges } from './ranges.ts'
import {
  describe,
  hasBytes,
  isGot,
  isLoaded,
  isStub,
  type Section,
  SHF_ALLOC,
  SHT_PROGBITS,
} from './sections.ts'
import { type Extent, elfSites } from './sites.ts'
import { type BlobSymbol, findSymbol, symbolsIn } from './symbol-list.ts'

/** Which part of the file is the blob; by default the section `.text`. */
export interface BlobChoice {
  /** A section, by name. */
  readonly section?: string | undefined
  /** A function or object of the symbol table, by name. */
  readonly symbol?: string | undefined
  /** All loaded segments as one blob, or those between two addresses. */
  readonly image?: boolean | { readonly start: bigint; readonly end: bigint } | undefined
}

export interface ElfBlob {
  /** What it is, for messages: "section .text", "function main", "the image". */
  readonly what: string
  /** The bytes; a view of the file where it holds them in one piece. */
  readonly bytes: Uint8Array
  /** Address of byte 0. */
  readonly base: bigint
  /** Bytes in memory: more than in the file where zero-initialised data follows. */
  readonly span: number
  /** Ascending and disjoint; what is in none of them is padding. */
  readonly ranges: readonly BlobRange[]
  /** Offsets where execution is known to start, ascending. */
  readonly entries: readonly number[]
  /** Symbols in the blob, by offset, then name. */
  symbols(): Iterable<BlobSymbol>
  /**
   * Every site of the blob, where the file keeps records that say so (the linker's own with `--emit-relocs`;
   * the loader's, for the image of a position-independent file); undefined where it does not. `report` is
   * told of records that do not fit the bytes.
   */
  readonly sites: ((report: (problem: Problem) => void) => Iterable<SiteInput>) | undefined
}

/**
 * The blob that `choice` names. Throws `bad-argument` for a choice that the file does not have, `bad-input`
 * for a damaged file.
 */
export function blobFromElf(elf: ElfFile, choice: BlobChoice = {}): ElfBlob {
  const given = [choice.section, choice.symbol, choice.image || undefined].filter((one) => one !== undefined)
  if (given.length > 1)
    throw new RelocError('bad-argument', 'Choose one of section, symbol and image, not several.')
  if (choice.image !== undefined && choice.image !== false)
    return imageBlob(elf, choice.image === true ? { start: 0n, end: ADDRESS_LIMIT } : choice.image)
  if (choice.symbol !== undefined) return symbolBlob(elf, choice.symbol)
  return sectionBlob(elf, choice.section ?? '.text')
}

/**
 * The exact table of a blob; throws `bad-argument` where the file keeps no records for it (`blob.sites` is undefined).
 */
export function tableFromElf(
  blob: ElfBlob,
  options: { readonly moved?: readonly MovedRange[]; readonly runs?: readonly CodeRun[] } = {},
): { readonly table: RelocationTable; readonly problems: readonly Problem[] } {
  if (blob.sites === undefined)
    throw new RelocError(
      'bad-argument',
      `The ELF file keeps no relocation records for ${blob.what}: analyse the code.`,
    )
  const problems: Problem[] = []
  const { base, span, bytes: code } = blob
  const sites = blob.sites((problem) => problems.push(problem))
  return { table: RelocationTable.fromSites(sites, { code, base, span, ...options }), problems }
}

/** The section called `name`. */
function findSection(elf: ElfFile, name: string): Section {
  if (elf.sections.length === 0)
    throw new RelocError(
      'bad-argument',
      `The ELF file has no section table, so there is no section ${name} to choose. Take the whole image (command: --image).`,
    )
  const found = elf.sections.filter((section) => section.name === name)
  if (found.length === 1) return found[0]
  const names = [...new Set(elf.loadedSections.filter(hasBytes).map((section) => section.name))]
  const shown = names.slice(0, 40).join(', ') + (names.length > 40 ? ' ...' : '')
  throw new RelocError(
    'bad-argument',
    found.length === 0
      ? `The ELF file has no section ${name}; it loads ${shown}.`
      : `The ELF file has ${found.length} sections ${name}: the name alone does not choose one. Take the whole image (command: --image).`,
  )
}

function sectionBlob(elf: ElfFile, name: string): ElfBlob {
  const section = findSection(elf, name)
  if (!isLoaded(section) || !hasBytes(section) || section.size === 0)
    throw new RelocError(
      'bad-argument',
      `Section ${name} ${section.size === 0 ? 'is empty' : isLoaded(section) ? 'has no bytes in the file' : 'is not loaded'}: there is nothing to move. Choose another (command: --section).`,
    )
  const bytes = elf.bytes.subarray(section.offset, section.offset + section.size)
  const end = section.address + BigInt(section.size)
  return finish(
    elf,
    `section ${name}`,
    {
      base: section.address,
      bytes,
      end,
      sections: new Set([section]),
      whole: true,
      image: false,
    },
    keepsSites(elf, section),
  )
}

/** Records describe what came from objects; stubs and tables that the linker made itself have none. */
const keepsSites = (elf: ElfFile, section: Section): boolean =>
  elf.kept.has(section.index) ||
  (elf.kept.size > 0 &&
    section.type === SHT_PROGBITS &&
    !isStub(section) &&
    !isGot(section) &&
    section.name !== '.eh_frame_hdr')

function symbolBlob(elf: ElfFile, name: string): ElfBlob {
  const { start, size, section } = findSymbol(elf, name)
  const offset = section.offset + Number(start - section.address)
  return finish(
    elf,
    `symbol ${name}`,
    {
      base: start,
      bytes: elf.bytes.subarray(offset, offset + size),
      end: start + BigInt(size),
      sections: new Set([section]),
      whole: false,
      image: false,
    },
    keepsSites(elf, section),
  )
}

/** An image may be larger than its file, because of the gaps between its segments; but not without measure. */
const MOST_GROWTH = 4
/** Gaps of whole pages are larger than small files. */
const SMALL_GAPS = 1 << 16

function imageBlob(elf: ElfFile, wanted: { readonly start: bigint; readonly end: bigint }): ElfBlob {
  const segments = elf.loaded.segments.filter(
    (segment) => segment.address >= wanted.start && segment.end <= wanted.end,
  )
  const backed = segments.filter((segment) => segment.fileSize > 0)
  if (backed.length === 0)
    throw new RelocError(
      'bad-argument',
      'The ELF file loads nothing there: it has no PT_LOAD segment with bytes.',
    )
  const base = segments[0].address
  const last = backed[backed.length - 1]
  const length = last.address + BigInt(last.fileSize) - base
  const end = segments[segments.length - 1].end
  if (length > BigInt(MOST_GROWTH * elf.bytes.length + SMALL_GAPS))
    throw badElf(
      `loads ${elf.bytes.length} bytes over ${hex(length)} bytes of memory, most of them a gap. Take a section (command: --section), or link it with its segments together (ld -z max-page-size=4096).`,
    )
  if (end - base > BigInt(Number.MAX_SAFE_INTEGER))
    throw badElf(`is damaged: its image has ${hex(end - base)} bytes in memory.`)
  const bytes =
    backed.length === 1
      ? elf.bytes.subarray(last.offset, last.offset + last.fileSize)
      : new Uint8Array(Number(length))
  if (backed.length > 1)
    for (const { address, offset, fileSize } of backed)
      bytes.set(elf.bytes.subarray(offset, offset + fileSize), Number(address - base))
  const sections = elf.sections.filter(
    (section) =>
      (section.flags & SHF_ALLOC) !== 0 &&
      section.address >= base &&
      section.address + BigInt(isLoaded(section) ? section.size : 0) <= end,
  )
  checkMapping(elf, sections)
  // What the loader must relocate has a record; an executable that stays where it is linked needs none,
  // unless the linker kept its own.
  const movable = elf.header.type === ET_DYN ? elf.dynamic.present : elf.dynamic.positionIndependent
  const exact = movable || elf.kept.size > 0
  const { otherForm } = elf.dynamic
  if (exact && otherForm !== undefined)
    throw badElf(
      `keeps the loader's relocation records in another form than Elf64_Rela and Elf64_Relr (${otherForm}), in which addresses would not keep their length. Link it with \`--pack-dyn-relocs=none\`.`,
    )
  return finish(
    elf,
    'the image',
    { base, bytes, end, sections: new Set(sections), whole: true, image: true },
    exact,
  )
}

/** What a section says of its bytes is what the segments load. */
function checkMapping(elf: ElfFile, sections: readonly Section[]): void {
  for (const section of sections)
    if (
      hasBytes(section) &&
      section.size > 0 &&
      elf.loaded.position(section.address, section.size) !== section.offset
    )
      throw badElf(
        `is damaged: section ${describe(section)} is at offset ${hex(section.offset)}, but its segment loads other bytes at ${hex(section.address)}.`,
      )
}

function finish(elf: ElfFile, what: string, extent: Extent, exact: boolean): ElfBlob {
  const { base, bytes, end } = extent
  const ranges = blobRanges(elf, extent)
  return {
    what,
    bytes,
    base,
    span: Number(end - base),
    ranges,
    entries: blobEntries(elf, extent, ranges),
    symbols: () => symbolsIn(elf, base, end, extent.sections, new NameReader(elf.bytes)),
    sites: exact ? (report) => elfSites(elf, extent, report) : undefined,
  }
}
