/**
 * The structures of the ELF format that are loaded with the image and hold addresses. A linker that lays the image out
 * elsewhere writes other values there, so in an image their fields are sites like any other.
 *
 *     structure        field                 holds an address
 *     Elf64_Ehdr       e_entry               unless 0
 *     Elf64_Phdr       p_vaddr, p_paddr      unless the entry describes no memory (PT_NULL, PT_GNU_STACK)
 *     Elf64_Dyn        d_ptr                 for tags that say so
 *     Elf64_Sym        st_value              unless undefined, absolute or thread-local
 *     Elf64_Rela       r_offset              always
 *     Elf64_Rela       r_addend              for types whose addend is an address (RELATIVE, IRELATIVE)
 *     Elf64_Relr       even words            always (odd ones are bitmaps)
 *     GOT              the first word        where it is the address of the dynamic table
 */
import {
  DT_GNU_HASH,
  DT_HASH,
  DT_JMPREL,
  DT_PLTGOT,
  DT_PLTRELSZ,
  DT_RELA,
  DT_RELASZ,
  DT_RELR,
  DT_RELRSZ,
  DT_SYMTAB,
  DYN_SIZE,
  type DynamicTable,
  isPointerTag,
} from './dynamic.ts'
import type { ElfFile } from './file.ts'
import { EHDR_SIZE, PHDR_SIZE, PT_DYNAMIC, PT_GNU_STACK, PT_LOAD } from './header.ts'
import { RECORD_TYPES, RELA_SIZE } from './records.ts'
import { SHF_ALLOC, SHT_DYNSYM, SHT_RELA } from './sections.ts'
import { SHN_ABS, SHN_UNDEF, STT_TLS, SYM_SIZE } from './symbols.ts'

/**
 * One field of a record: where it is in the record, and whether the record at `at` of the file has an address there.
 */
interface AddressField {
  readonly offset: number
  holds(view: DataView, at: number): boolean
}

interface Structure {
  readonly size: number
  readonly fields: readonly AddressField[]
}

const hasMemory = (view: DataView, at: number): boolean => {
  const type = view.getUint32(at, true)
  return type !== 0 && type !== PT_GNU_STACK
}
const EHDR: Structure = {
  size: EHDR_SIZE,
  fields: [{ offset: 24, holds: (view, at) => view.getBigUint64(at + 24, true) !== 0n }],
}
const PHDR: Structure = {
  size: PHDR_SIZE,
  fields: [
    { offset: 16, holds: hasMemory },
    { offset: 24, holds: hasMemory },
  ],
}
const DYN: Structure = {
  size: DYN_SIZE,
  fields: [{ offset: 8, holds: (view, at) => isPointerTag(view.getBigUint64(at, true)) }],
}
const SYM: Structure = {
  size: SYM_SIZE,
  fields: [
    {
      offset: 8,
      holds(view, at) {
        const section = view.getUint16(at + 6, true)
        if ((view.getUint8(at + 4) & 15) === STT_TLS || section === SHN_ABS) return false
        // An undefined function whose address is taken by a fixed-position program has the address of its stub.
        return section !== SHN_UNDEF || view.getBigUint64(at + 8, true) !== 0n
      },
    },
  ],
}
const RELA: Structure = {
  size: RELA_SIZE,
  fields: [
    { offset: 0, holds: () => true },
    { offset: 16, holds: (view, at) => RECORD_TYPES[view.getUint32(at + 8, true)]?.formula === 'base+A' },
  ],
}
const RELR: Structure = {
  size: 8,
  fields: [{ offset: 0, holds: (view, at) => (view.getUint8(at) & 1) === 0 }],
}

/** The first word at DT_PLTGOT, for the loader's own use. */
function gotHead(elf: ElfFile): readonly [Structure, DynamicTable] | undefined {
  const address = elf.dynamic.value(DT_PLTGOT)
  const start = address === undefined ? undefined : elf.loaded.position(address, 8)
  const dynamic = elf.segments.find(({ type }) => type === PT_DYNAMIC)
  if (address === undefined || start === undefined || dynamic === undefined) return undefined
  const holds = (view: DataView, at: number): boolean => view.getBigUint64(at, true) === dynamic.address
  return [
    { size: 8, fields: [{ offset: 0, holds }] },
    { start, end: start + 8, address },
  ]
}

/** The loader's relocation records, each table once. */
export function loaderRecords(elf: ElfFile): DynamicTable[] {
  const { dynamic } = elf
  const named = [dynamic.table(DT_RELA, DT_RELASZ), dynamic.table(DT_JMPREL, DT_PLTRELSZ)].filter(
    (table) => table !== undefined,
  )
  const tables = [...named]
  // Static programs have no dynamic table; their start-up code finds the records of indirect functions by symbols.
  for (const { type, flags, offset, size, address } of elf.sections) {
    if (type !== SHT_RELA || (flags & SHF_ALLOC) === 0) continue
    if (!named.some((table) => offset >= table.start && offset < table.end))
      tables.push({ start: offset, end: offset + size, address })
  }
  return tables
}

/** The packed relative relocations (DT_RELR). */
export const packedRecords = (elf: ElfFile): DynamicTable | undefined => elf.dynamic.table(DT_RELR, DT_RELRSZ)

/** The dynamic symbols: by their section, else as many as the hash table has. */
function dynamicSymbols(elf: ElfFile): DynamicTable | undefined {
  const section = elf.sections.find(({ type, flags }) => type === SHT_DYNSYM && (flags & SHF_ALLOC) !== 0)
  if (section !== undefined)
    return { start: section.offset, end: section.offset + section.size, address: section.address }
  const address = elf.dynamic.value(DT_SYMTAB)
  const start = address === undefined ? undefined : elf.loaded.position(address, SYM_SIZE)
  if (address === undefined || start === undefined) return undefined
  const bytes = SYM_SIZE * hashedSymbols(elf)
  return elf.loaded.position(address, bytes) === undefined
    ? undefined
    : { start, end: start + bytes, address }
}

/**
 * How many symbols the hash tables know. The System V one says it; in the GNU one the last chain ends with
 * the last symbol.
 */
function hashedSymbols(elf: ElfFile): number {
  const { view, loaded, dynamic } = elf
  const word = (address: bigint): number => {
    const at = loaded.position(address, 4)
    return at === undefined ? 0 : view.getUint32(at, true)
  }
  const plain = dynamic.value(DT_HASH)
  if (plain !== undefined) return word(plain + 4n)
  const gnu = dynamic.value(DT_GNU_HASH)
  if (gnu === undefined) return 0
  const [buckets, first, bloom] = [word(gnu), word(gnu + 4n), word(gnu + 8n)]
  const start = gnu + 16n + 8n * BigInt(bloom)
  if (loaded.position(start, 4 * buckets) === undefined) return 0
  let last = 0
  for (let i = 0; i < buckets; i++) last = Math.max(last, word(start + 4n * BigInt(i)))
  if (last < first) return first
  const chain = start + 4n * BigInt(buckets)
  while (loaded.position(chain + 4n * BigInt(last - first), 4) !== undefined) {
    if ((word(chain + 4n * BigInt(last++ - first)) & 1) !== 0) break
  }
  return last
}

/** Where in the file each structure is, and at which address. */
function* tables(elf: ElfFile): Generator<readonly [Structure, DynamicTable]> {
  const { header, segments } = elf
  const mapped = (start: number, size: number): DynamicTable | undefined => {
    const segment = segments.find(
      ({ type, offset, fileSize }) =>
        type === PT_LOAD && start >= offset && start + size <= offset + fileSize,
    )
    return segment && { start, end: start + size, address: segment.address + BigInt(start - segment.offset) }
  }
  const programs = mapped(header.programOffset, header.programCount * PHDR_SIZE)
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC)
  const list: (readonly [Structure, DynamicTable | undefined])[] = [
    [EHDR, mapped(0, EHDR_SIZE)],
    [PHDR, programs],
    [DYN, dynamic && mapped(dynamic.offset, dynamic.fileSize)],
    [SYM, dynamicSymbols(elf)],
    ...loaderRecords(elf).map((table) => [RELA, table] as const),
    [RELR, packedRecords(elf)],
  ]
  for (const [structure, table] of list) if (table !== undefined) yield [structure, table]
  const got = gotHead(elf)
  if (got !== undefined) yield got
}

/** Every 8-byte field of a loaded structure that holds an address: the field's own address, and its value. */
export function* structureFields(elf: ElfFile): Generator<{ readonly at: bigint; readonly value: bigint }> {
  const { view } = elf
  for (const [{ size, fields }, { start, end, address }] of tables(elf)) {
    for (let record = start; record + size <= end; record += size)
      for (const { offset, holds } of fields)
        if (holds(view, record))
          yield {
            at: address + BigInt(record - start + offset),
            value: view.getBigUint64(record + offset, true),
          }
  }
}
