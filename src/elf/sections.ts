/** Section headers: Elf64_Shdr, checked against the file and against each other. */
import { ADDRESS_LIMIT, hex } from '../core/address.ts'
import { badElf, type ElfHeader, fileNumber, SHDR_SIZE } from './header.ts'
import { NameReader } from './names.ts'

/** sh_type */
export const SHT_PROGBITS = 1
export const SHT_SYMTAB = 2
export const SHT_STRTAB = 3
export const SHT_RELA = 4
export const SHT_NOBITS = 8
export const SHT_REL = 9
export const SHT_DYNSYM = 11
export const SHT_INIT_ARRAY = 14
export const SHT_FINI_ARRAY = 15
export const SHT_PREINIT_ARRAY = 16
export const SHT_SYMTAB_SHNDX = 18
export const SHT_CREL = 0x4000_0014
/** sh_flags */
export const SHF_WRITE = 1
export const SHF_ALLOC = 2
export const SHF_EXECINSTR = 4
export const SHF_TLS = 0x400
export const SHF_EXCLUDE = 0x8000_0000

export interface Section {
  readonly index: number
  readonly name: string
  readonly type: number
  /** The low 32 bits, which hold every flag that is looked at. */
  readonly flags: number
  readonly address: bigint
  /** Position in the file; for `SHT_NOBITS` nothing is there. */
  readonly offset: number
  /** Bytes in memory; in the file too, but for `SHT_NOBITS`. */
  readonly size: number
  readonly link: number
  readonly info: number
  /** Of its address: 0 or a power of two, as the file has it. */
  readonly align: bigint
  readonly entrySize: number
}

/** Whether the section has bytes in the file. */
export const hasBytes = (section: Section): boolean => section.type !== SHT_NOBITS && section.type !== 0

/** Whether the section takes up addresses: loaded, and no template of thread-local zeros. */
export const isLoaded = (section: Section): boolean =>
  (section.flags & SHF_ALLOC) !== 0 && !((section.flags & SHF_TLS) !== 0 && section.type === SHT_NOBITS)

/** Whether the section holds slots of the global offset table, or stubs that go through them; only the names tell. */
export const isGot = (section: Section): boolean => /^\.i?got(\.|$)/.test(section.name)
export const isStub = (section: Section): boolean => /^\.i?plt(\.|$)/.test(section.name)

export const isCode = (section: Section): boolean => (section.flags & SHF_EXECINSTR) !== 0

/** The sections, in the order of their table; empty where the file has none. Throws `bad-input`. */
export function readSections(bytes: Uint8Array, view: DataView, header: ElfHeader): Section[] {
  const { sectionCount, sectionOffset, nameSection } = header
  const read = (i: number): Section => readSection(view, sectionOffset + i * SHDR_SIZE, i)
  if (nameSection === 0) return Array.from({ length: sectionCount }, (_, i) => read(i))
  const strings = read(nameSection)
  if (strings.type !== SHT_STRTAB)
    throw badElf(
      `is damaged: section ${nameSection} should hold the section names, but its type is ${strings.type}, not ${SHT_STRTAB} (SHT_STRTAB).`,
    )
  const names = new NameReader(bytes)
  const end = strings.offset + strings.size
  return Array.from({ length: sectionCount }, (_, i) => {
    const at = view.getUint32(sectionOffset + i * SHDR_SIZE, true)
    return { ...read(i), name: names.at(strings.offset, end, at, `section ${i}`) }
  })
}

function readSection(view: DataView, at: number, index: number): Section {
  const type = view.getUint32(at + 4, true)
  const address = view.getBigUint64(at + 16, true)
  const offset = view.getBigUint64(at + 24, true)
  const size = type === 0 ? 0n : view.getBigUint64(at + 32, true)
  const flags = view.getUint32(at + 8, true)
  if (type !== SHT_NOBITS && size > 0n)
    fileNumber(offset + size, view.byteLength, `the end of section ${index}`)
  if (type === SHT_NOBITS && size > BigInt(Number.MAX_SAFE_INTEGER))
    throw badElf(`is damaged: section ${index} has ${hex(size)} bytes.`)
  if ((flags & SHF_ALLOC) !== 0 && address + size > ADDRESS_LIMIT)
    throw badElf(`is damaged: section ${index} at ${hex(address)} with ${hex(size)} bytes passes 2^64.`)
  return {
    index,
    name: '',
    type,
    flags,
    address,
    offset: type === SHT_NOBITS || size === 0n ? 0 : Number(offset),
    size: Number(size),
    link: view.getUint32(at + 40, true),
    info: view.getUint32(at + 44, true),
    align: view.getBigUint64(at + 48, true),
    entrySize: Number(BigInt.asUintN(53, view.getBigUint64(at + 56, true))),
  }
}

/** Throws `bad-input` where two loaded sections claim the same address. */
export function checkDisjoint(sections: readonly Section[]): void {
  const loaded = sections
    .filter((section) => isLoaded(section) && section.size > 0)
    .sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0))
  for (let i = 1; i < loaded.length; i++) {
    const before = loaded[i - 1]
    if (before.address + BigInt(before.size) > loaded[i].address)
      throw badElf(
        `is damaged: its sections ${describe(before)} and ${describe(loaded[i])} overlap in memory.`,
      )
  }
}

export const describe = (section: Section): string => `${section.index} (${section.name || 'unnamed'})`

/** The section that holds `address`, or undefined; `sorted` by address, disjoint. */
export function sectionAt(sorted: readonly Section[], address: bigint): Section | undefined {
  let low = 0
  let high = sorted.length - 1
  while (low <= high) {
    const middle = (low + high) >> 1
    const section = sorted[middle]
    if (address < section.address) high = middle - 1
    else if (address >= section.address + BigInt(section.size)) low = middle + 1
    else return section
  }
  return undefined
}
