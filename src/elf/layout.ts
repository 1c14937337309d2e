/**
 * Where the sections of an object go. They lie one behind the other, each aligned as it asks, in this order:
 *
 *     code, stubs | what is only read | what is only written while it is placed, the GOT | what is written later | zeros, common symbols
 *
 * and in the order of the file within each, but for sections of one name, which lie together. The first three
 * may lie in memory that is never written again; with a place of its own, the rest is a second part.
 */
import { ADDRESS_LIMIT, hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { badElf } from './header.ts'
import { isPlaced, type ObjectFile } from './object.ts'
import {
  describe,
  hasBytes,
  type Section,
  SHF_ALLOC,
  SHF_EXECINSTR,
  SHF_WRITE,
  SHT_FINI_ARRAY,
  SHT_INIT_ARRAY,
  SHT_NOBITS,
  SHT_PREINIT_ARRAY,
  SHT_PROGBITS,
} from './sections.ts'

/** What the object needs beside its own sections. */
export interface Needs {
  /** Slots of the global offset table, 8 bytes each. */
  readonly slots: number
  /** Stubs, `STUB_SIZE` bytes each. */
  readonly stubs: number
  /** Common symbols, in order. */
  readonly common: readonly { readonly size: bigint; readonly align: bigint }[]
}

export interface Bases {
  readonly base: bigint
  /** Of the part that is written; undefined where there is one part only. */
  readonly writable: bigint | undefined
}

/** Sections that stay together. */
export interface Part {
  readonly base: bigint
  /** Of the base, a power of two. */
  readonly align: number
  /** Bytes that are not just zeros behind the rest. */
  readonly length: number
  /** Bytes in memory. */
  readonly span: number
  readonly sections: readonly Section[]
}

export interface Layout {
  readonly code: Part
  readonly data: Part | undefined
  /**
   * Those of the file in its order, with addresses where they are placed (others are not `SHF_ALLOC`), then
   * stubs, GOT and common symbols.
   */
  readonly sections: readonly Section[]
  readonly stubs: Section
  readonly got: Section
  /** Address of each common symbol. */
  readonly common: readonly bigint[]
  partOf(section: Section): Part
}

/** `jmp *slot(%rip)` and two bytes that trap. */
export const STUB_SIZE = 8
export const SLOT_SIZE = 8

/** Bytes between sections, beyond what the file has itself. */
const MOST_PADDING = 1 << 24
const MOST_ALIGN = 1n << 32n
/** A stub reaches its slot. */
const MOST_BYTES = 2 ** 31 - 2 ** 12

const RELRO_TYPES: ReadonlySet<number> = new Set([SHT_INIT_ARRAY, SHT_FINI_ARRAY, SHT_PREINIT_ARRAY])
/** Linkers protect these once their addresses are in; only names and types tell. */
const isRelro = ({ name, type }: Section): boolean =>
  RELRO_TYPES.has(type) || /^\.data\.rel\.ro(\.|$)/.test(name) || name === '.got'

/** Place in the order above. */
function rankOf(section: Section): number {
  if (!hasBytes(section)) return 4
  if ((section.flags & SHF_EXECINSTR) !== 0) return 0
  if ((section.flags & SHF_WRITE) === 0) return 1
  return isRelro(section) ? 2 : 3
}

/** Sections in order. Those of one name have one rank, the last that one of them asks for. */
function inOrder(sections: readonly Section[]): { readonly section: Section; readonly rank: number }[] {
  const groups = new Map<string, { rank: number; readonly first: number }>()
  const groupOf = (section: Section): { rank: number; readonly first: number } => {
    const name = `${hasBytes(section)} ${section.name}`
    const known = groups.get(name)
    const group = known ?? { rank: 0, first: section.index }
    if (known === undefined) groups.set(name, group)
    group.rank = Math.max(group.rank, rankOf(section))
    return group
  }
  return sections
    .map((section) => ({ section, group: groupOf(section) }))
    .sort(
      (a, b) =>
        a.group.rank - b.group.rank || a.group.first - b.group.first || a.section.index - b.section.index,
    )
    .map(({ section, group }) => ({ section, rank: group.rank }))
}

/** Lays an object out. Throws `bad-input` for what cannot be aligned, `bad-argument` for a base that does not fit. */
export function layOut(object: ObjectFile, needs: Needs, bases: Bases): Layout {
  const count = object.sections.length
  const made = madeSections(count, needs)
  const all = [...object.sections, ...made.sections]
  const ranked = inOrder(all.filter(isPlaced))
  const ordered = ranked.map(({ section }) => section)
  const split = bases.writable === undefined ? ranked.length : ranked.findIndex(({ rank }) => rank > 2)
  const codeEnd = split < 0 ? ranked.length : split
  const code = placePart(ordered.slice(0, codeEnd), bases.base, 0, object)
  const data =
    codeEnd < ranked.length
      ? placePart(ordered.slice(codeEnd), bases.writable!, code.length, object)
      : undefined
  checkApart(code, data)
  const sections: Section[] = all.map((section) => ({ ...section, flags: section.flags & ~SHF_ALLOC }))
  for (const section of [...code.sections, ...(data?.sections ?? [])]) sections[section.index] = section
  const [stubs, got, common] = sections.slice(count)
  const written = new Set(data?.sections.map(({ index }) => index))
  return {
    code,
    data,
    partOf: ({ index }) => (written.has(index) ? data! : code),
    sections,
    stubs,
    got,
    common: made.offsets.map((offset) => common.address + BigInt(offset)),
  }
}

/** Sections that no file has: stubs, GOT and common symbols, numbered behind the others. */
function madeSections(count: number, needs: Needs): { sections: Section[]; offsets: number[] } {
  const offsets: number[] = []
  let [size, most] = [0, 1n]
  for (const { size: bytes, align } of needs.common) {
    const checked = checkAlign(align, 'a common symbol')
    size = alignUp(size, Number(checked))
    offsets.push(size)
    size += Number(bytes)
    if (checked > most) most = checked
    if (size > Number.MAX_SAFE_INTEGER) throw badElf(`is damaged: its common symbols have ${size} bytes.`)
  }
  const section = (
    at: number,
    name: string,
    type: number,
    flags: number,
    bytes: number,
    align: bigint,
  ): Section => ({
    index: count + at,
    name,
    type,
    flags: flags | SHF_ALLOC,
    address: 0n,
    offset: 0,
    size: bytes,
    link: 0,
    info: 0,
    align,
    entrySize: 0,
  })
  return {
    sections: [
      section(0, '.plt', SHT_PROGBITS, SHF_EXECINSTR, STUB_SIZE * needs.stubs, 16n),
      section(1, '.got', SHT_PROGBITS, SHF_WRITE, SLOT_SIZE * needs.slots, 8n),
      section(2, 'COMMON', SHT_NOBITS, SHF_WRITE, size, most),
    ],
    offsets,
  }
}

const alignUp = (offset: number, align: number): number => Math.ceil(offset / align) * align

/** An alignment as the file says it; 0 stands for 1. */
function checkAlign(align: bigint, what: string): bigint {
  if (align === 0n) return 1n
  if ((align & (align - 1n)) !== 0n || align > MOST_ALIGN)
    throw badElf(`is damaged: the alignment of ${what} is ${hex(align)}, no power of two up to 2^32.`)
  return align
}

/** Places sections in order; their `offset` becomes a position in the image, of which the part begins at `start`. */
function placePart(sections: readonly Section[], base: bigint, start: number, object: ObjectFile): Part {
  let [at, length, most, padding] = [0, 0, 1n, 0]
  const placed = sections.map((section) => {
    const align = checkAlign(section.align, `section ${describe(section)}`)
    if (align > most) most = align
    const offset = alignUp(at, Number(align))
    if (hasBytes(section)) padding += offset - at
    at = offset + section.size
    if (hasBytes(section)) length = at
    return { ...section, address: base + BigInt(offset), offset: start + offset }
  })
  if (padding > MOST_PADDING + object.bytes.length)
    throw badElf(`has sections that together need ${padding} bytes of padding, because of their alignment.`)
  if (length > MOST_BYTES)
    throw badElf(
      `has sections of ${length} bytes together: from end to end of more than 2 GiB nothing reaches.`,
    )
  const coarse = sections.find(({ align }) => align === most)
  if (base % most !== 0n)
    throw new RelocError(
      'bad-argument',
      `The object cannot be placed at ${hex(base)}: section ${describe(coarse!)} needs an address that is a multiple of ${most}.`,
    )
  if (at > Number.MAX_SAFE_INTEGER || base + BigInt(at) > ADDRESS_LIMIT)
    throw new RelocError(
      'bad-argument',
      `The object cannot be placed at ${hex(base)}: its ${at} bytes pass the end of the address space (2^64).`,
    )
  return { base, align: Number(most), length, span: at, sections: placed }
}

function checkApart(code: Part, data: Part | undefined): void {
  if (data === undefined || code.span === 0 || data.span === 0) return
  const [first, second] = code.base < data.base ? [code, data] : [data, code]
  if (first.base + BigInt(first.span) > second.base)
    throw new RelocError(
      'bad-argument',
      `The object has ${code.span} bytes at ${hex(code.base)} and ${data.span} that are written at ${hex(data.base)}: they overlap.`,
    )
}
