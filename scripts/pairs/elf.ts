/**
 * Reads what the pair builder needs from ELF64 x86-64 files (relocatable and linked) and from `ar` archives.
 * The files come from compilers and linkers on this machine, so nothing here guards against malice.
 */

/** One section header with its contents (empty for NOBITS). */
export interface Section {
  readonly index: number
  readonly name: string
  readonly type: number
  readonly flags: number
  readonly address: bigint
  readonly size: number
  readonly align: number
  readonly link: number
  readonly info: number
  readonly bytes: Buffer
}

/** One symbol; `section` is the header index (0 undefined, 0xfff1 absolute, 0xfff2 common). */
export interface ElfSymbol {
  readonly name: string
  readonly type: number
  readonly bind: number
  readonly section: number
  readonly value: bigint
  readonly size: number
}

/** One relocation record; `offset` is section-relative in objects, an address in linked files. */
export interface ElfReloc {
  readonly offset: bigint
  readonly type: number
  readonly symbol: number
  readonly addend: bigint
}

export interface Elf {
  readonly sections: readonly Section[]
  readonly symbols: readonly ElfSymbol[]
  /** Relocation records by the index of the section that they apply to. */
  readonly relocs: ReadonlyMap<number, readonly ElfReloc[]>
}

export const SHT = {
  PROGBITS: 1,
  SYMTAB: 2,
  RELA: 4,
  NOTE: 7,
  NOBITS: 8,
  GROUP: 17,
  SYMTAB_SHNDX: 18,
} as const
export const SHF = { WRITE: 1, ALLOC: 2, EXEC: 4, TLS: 0x400 } as const
export const STT = { OBJECT: 1, FUNC: 2, SECTION: 3, TLS: 6, IFUNC: 10 } as const

export function readElf(file: Buffer): Elf {
  if (file.readUInt32BE(0) !== 0x7f454c46) throw new Error('not an ELF file')
  const headers = Number(file.readBigUInt64LE(40))
  const count = file.readUInt16LE(60) || Number(file.readBigUInt64LE(headers + 32))
  const stringIndex = file.readUInt16LE(62)
  const names = stringIndex === 0xffff ? file.readUInt32LE(headers + 40) : stringIndex
  const raw = Array.from({ length: count }, (_, index) => readHeader(file, headers + index * 64, index))
  const sections = raw.map((section) => ({ ...section, name: text(raw[names].bytes, section.nameOffset) }))
  const symtab = sections.find((section) => section.type === SHT.SYMTAB)
  const wide = sections.find((section) => section.type === SHT.SYMTAB_SHNDX)
  const relocs = new Map<number, ElfReloc[]>()
  for (const section of sections) {
    if (section.type !== SHT.RELA || section.link !== symtab?.index) continue
    relocs.set(section.info, (relocs.get(section.info) ?? []).concat(readRelocs(section.bytes)))
  }
  const symbols = symtab ? readSymbols(symtab.bytes, sections[symtab.link].bytes, wide?.bytes) : []
  return { sections, symbols, relocs }
}

function readHeader(file: Buffer, at: number, index: number): Omit<Section, 'name'> & { nameOffset: number } {
  const type = file.readUInt32LE(at + 4)
  const offset = Number(file.readBigUInt64LE(at + 24))
  const size = Number(file.readBigUInt64LE(at + 32))
  const stored = type === SHT.NOBITS || type === 0 ? 0 : size
  return {
    index,
    nameOffset: file.readUInt32LE(at),
    type,
    flags: Number(file.readBigUInt64LE(at + 8)),
    address: file.readBigUInt64LE(at + 16),
    size,
    link: file.readUInt32LE(at + 40),
    info: file.readUInt32LE(at + 44),
    align: Number(file.readBigUInt64LE(at + 48)),
    bytes: file.subarray(offset, offset + stored),
  }
}

function readRelocs(bytes: Buffer): ElfReloc[] {
  return Array.from({ length: bytes.length / 24 }, (_, n) => ({
    offset: bytes.readBigUInt64LE(n * 24),
    type: bytes.readUInt32LE(n * 24 + 8),
    symbol: bytes.readUInt32LE(n * 24 + 12),
    addend: bytes.readBigInt64LE(n * 24 + 16),
  }))
}

function readSymbols(bytes: Buffer, names: Buffer, wide: Buffer | undefined): ElfSymbol[] {
  return Array.from({ length: bytes.length / 24 }, (_, n) => {
    const at = n * 24
    const section = bytes.readUInt16LE(at + 6)
    return {
      name: text(names, bytes.readUInt32LE(at)),
      type: bytes[at + 4] & 15,
      bind: bytes[at + 4] >> 4,
      section: section === 0xffff && wide ? wide.readUInt32LE(n * 4) : section,
      value: bytes.readBigUInt64LE(at + 8),
      size: Number(bytes.readBigUInt64LE(at + 16)),
    }
  })
}

function text(bytes: Buffer, offset: number): string {
  return bytes.toString('latin1', offset, bytes.indexOf(0, offset))
}

/** The ELF members of an `ar` archive in order. Names may repeat: that is legal in an archive. */
export function readArchive(file: Buffer): { readonly name: string; readonly bytes: Buffer }[] {
  const members: { name: string; bytes: Buffer }[] = []
  let longNames = ''
  for (let at = 8; at + 60 <= file.length; ) {
    const label = file.toString('latin1', at, at + 16).trimEnd()
    const size = Number(file.toString('latin1', at + 48, at + 58))
    const bytes = file.subarray(at + 60, at + 60 + size)
    at += 60 + size + (size & 1)
    if (label === '//') longNames = bytes.toString('latin1')
    else if (bytes.length > 64 && bytes.readUInt32BE(0) === 0x7f454c46) {
      const long = /^\/(\d+)$/.exec(label)
      const name = long ? longNames.slice(Number(long[1])).split('\n', 1)[0] : label
      members.push({ name: name.replace(/\/$/, ''), bytes })
    }
  }
  return members
}
