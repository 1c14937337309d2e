/**
 * The ELF header and the program headers, read strictly: every offset and size is checked against the file before it is
 * used, and what cannot be an x86-64 program that has been linked is refused with a sentence.
 * Layouts: System V ABI, "ELF-64 Object File Format", version 1.5.
 */
import { ADDRESS_LIMIT, hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'

/** e_type */
export const ET_REL = 1
export const ET_EXEC = 2
export const ET_DYN = 3
const ET_CORE = 4
const EM_X86_64 = 62

/** p_type */
export const PT_LOAD = 1
export const PT_DYNAMIC = 2
export const PT_TLS = 7
export const PT_GNU_EH_FRAME = 0x6474_e550
export const PT_GNU_STACK = 0x6474_e551
/** p_flags: executable */
export const PF_X = 1

/** st_shndx: section numbers from here on mean something else. */
export const SHN_LORESERVE = 0xff00
/** The number does not fit in 16 bits and is elsewhere. */
export const SHN_XINDEX = 0xffff

export const EHDR_SIZE = 64
export const PHDR_SIZE = 56
export const SHDR_SIZE = 64

/** A program header; file positions are numbers, checked to lie in the file for `PT_LOAD`. */
export interface Segment {
  readonly type: number
  readonly flags: number
  readonly offset: number
  readonly fileSize: number
  readonly address: bigint
  /** Address behind the last byte in memory. */
  readonly end: bigint
  readonly align: bigint
}

export interface ElfHeader {
  readonly type: typeof ET_REL | typeof ET_EXEC | typeof ET_DYN
  readonly entry: bigint
  readonly programOffset: number
  readonly programCount: number
  readonly sectionOffset: number
  /** 0 where there is no section table. */
  readonly sectionCount: number
  readonly nameSection: number
  /** Whether one of the last two is not in its own field, but in the first section header. */
  readonly extended: boolean
}

export const badElf = (what: string): RelocError => new RelocError('bad-input', `The ELF file ${what}`)

/** A 64-bit file offset or size as a number; throws `bad-input` where it leaves the file. */
export function fileNumber(value: bigint, limit: number, what: string): number {
  if (value > BigInt(limit))
    throw badElf(
      `is damaged or truncated: ${what} is ${hex(value)}, but the file has only ${limit} bytes. Get a complete copy; a memory dump is raw bytes (command: --raw).`,
    )
  return Number(value)
}

/** The 4-byte words of e_ident that decide whether the rest can be read at all. */
function checkIdent(bytes: Uint8Array): void {
  if (bytes.length < 4 || bytes[0] !== 0x7f || bytes[1] !== 0x45 || bytes[2] !== 0x4c || bytes[3] !== 0x46)
    throw new RelocError(
      'bad-input',
      'This is no ELF file: it does not begin with 7f 45 4c 46. Raw code needs its address (command: --from).',
    )
  if (bytes.length < EHDR_SIZE)
    throw badElf(`is truncated: it has ${bytes.length} bytes, its header alone has ${EHDR_SIZE}.`)
  if (bytes[4] !== 2)
    throw badElf(
      bytes[4] === 1
        ? 'is a 32-bit one; only 64-bit x86-64 code can be moved here.'
        : `has class ${bytes[4]}, which is neither 32-bit nor 64-bit.`,
    )
  if (bytes[5] !== 1)
    throw badElf(
      bytes[5] === 2
        ? 'is big-endian; x86-64 files are little-endian.'
        : `has data encoding ${bytes[5]}, which does not exist.`,
    )
}

/** An object file has no addresses yet; what is linked has. */
export type ElfClass = 'object' | 'linked'

function checkType(type: number, wanted: ElfClass): asserts type is ElfHeader['type'] {
  if (type === ET_REL && wanted === 'linked')
    throw badElf(
      'is an object file (ET_REL): it has no addresses yet. Give it some (`placeObject`), or link it and keep its relocation records, e.g. `ld --emit-relocs -o prog file.o`.',
    )
  if (type === ET_CORE)
    throw badElf('is a core dump (ET_CORE). Give the program, or the raw bytes of the code with --from.')
  if (type !== ET_REL && type !== ET_EXEC && type !== ET_DYN)
    throw badElf(`has type ${type}; an executable (2) or a shared object (3) is needed.`)
  if (type !== ET_REL && wanted === 'object')
    throw badElf(
      'is linked already: its sections have addresses. Only an object file (ET_REL) can be placed.',
    )
}

/** Reads the file header. Throws `bad-input`. */
export function readHeader(bytes: Uint8Array, view: DataView, wanted: ElfClass): ElfHeader {
  checkIdent(bytes)
  const machine = view.getUint16(18, true)
  if (machine !== EM_X86_64) throw badElf(`is for machine ${machine}, not for x86-64 (62).`)
  const type = view.getUint16(16, true)
  checkType(type, wanted)
  const version = view.getUint32(20, true)
  if (bytes[6] !== 1 || version !== 1)
    throw badElf(`has version ${bytes[6]}/${version}; only version 1 exists.`)
  const programCount = view.getUint16(56, true)
  const sectionOffset = fileNumber(view.getBigUint64(40, true), bytes.length, 'the section table offset')
  if (programCount === 0xffff) throw badElf('has 65535 or more program headers, which no linker writes.')
  if (programCount > 0 && view.getUint16(54, true) !== PHDR_SIZE)
    throw badElf(`has program headers of ${view.getUint16(54, true)} bytes; Elf64_Phdr has ${PHDR_SIZE}.`)
  return {
    type,
    entry: view.getBigUint64(24, true),
    programOffset: table(view, 32, programCount, PHDR_SIZE, 'program headers'),
    programCount,
    ...sectionTable(bytes, view, sectionOffset),
  }
}

/** The offset of a table of `count` records, checked to lie in the file. */
function table(view: DataView, at: number, count: number, size: number, what: string): number {
  if (count === 0) return 0
  const offset = view.getBigUint64(at, true)
  if (offset === 0n)
    throw badElf(`is damaged: it has ${count} ${what}, but says nothing about where they are.`)
  fileNumber(offset + BigInt(count * size), view.byteLength, `the end of its ${count} ${what}`)
  return Number(offset)
}

/**
 * Count and name table of the sections. Where they do not fit in their 16-bit fields, the first section
 * header, which stands for no section, has them in sh_size and sh_link (generic ABI, "ELF Header").
 */
function sectionTable(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
): Pick<ElfHeader, 'sectionOffset' | 'sectionCount' | 'nameSection' | 'extended'> {
  if (offset === 0) return { sectionOffset: 0, sectionCount: 0, nameSection: 0, extended: false }
  if (view.getUint16(58, true) !== SHDR_SIZE)
    throw badElf(`has section headers of ${view.getUint16(58, true)} bytes; Elf64_Shdr has ${SHDR_SIZE}.`)
  fileNumber(BigInt(offset + SHDR_SIZE), bytes.length, 'the end of its first section header')
  const [count, names] = [view.getUint16(60, true), view.getUint16(62, true)]
  const sectionCount = count === 0 ? view.getBigUint64(offset + 32, true) : BigInt(count)
  const nameSection = names === SHN_XINDEX ? view.getUint32(offset + 40, true) : names
  if (sectionCount === 0n) throw badElf('has a section table, but says that it has no sections.')
  fileNumber(
    BigInt(offset) + sectionCount * BigInt(SHDR_SIZE),
    bytes.length,
    `the end of its ${sectionCount} section headers`,
  )
  if (nameSection >= sectionCount)
    throw badElf(
      `names section ${nameSection} as its table of section names, but has ${sectionCount} sections.`,
    )
  const extended = count === 0 || names === SHN_XINDEX
  return { sectionOffset: offset, sectionCount: Number(sectionCount), nameSection, extended }
}

/**
 * Reads the program headers. Throws `bad-input` where a loaded one leaves the file or the address space, or
 * where two overlap.
 */
export function readSegments(view: DataView, header: ElfHeader): Segment[] {
  const segments: Segment[] = []
  for (let i = 0; i < header.programCount; i++) {
    const at = header.programOffset + i * PHDR_SIZE
    const type = view.getUint32(at, true)
    const address = view.getBigUint64(at + 16, true)
    const memory = view.getBigUint64(at + 40, true)
    const [start, size] = [view.getBigUint64(at + 8, true), view.getBigUint64(at + 32, true)]
    const used = type === PT_LOAD || type === PT_DYNAMIC || type === PT_GNU_EH_FRAME
    if (used) {
      fileNumber(start + size, view.byteLength, `the end of segment ${i}`)
      if (memory < size)
        throw badElf(`is damaged: segment ${i} has ${size} bytes in the file, but only ${memory} in memory.`)
      if (address + memory > ADDRESS_LIMIT)
        throw badElf(`is damaged: segment ${i} at ${hex(address)} with ${memory} bytes passes 2^64.`)
    }
    segments.push({
      type,
      flags: view.getUint32(at + 4, true),
      offset: used ? Number(start) : 0,
      fileSize: used ? Number(size) : 0,
      address,
      end: address + memory,
      align: view.getBigUint64(at + 48, true),
    })
  }
  return segments
}
