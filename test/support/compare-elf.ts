/** Compares what we read of an ELF file with what readelf says of it: sections, symbols, records, ranges, sites. */
import type { ElfBlob } from '../../src/elf/blob.ts'
import type { ElfFile } from '../../src/elf/file.ts'
import { NameReader } from '../../src/elf/names.ts'
import type { BlobRange } from '../../src/elf/ranges.ts'
import { readRecords, recordName } from '../../src/elf/records.ts'
import { type Section, SHT_RELA } from '../../src/elf/sections.ts'
import { SymbolTable } from '../../src/elf/symbols.ts'
import type { ReadelfFile, ReadelfSection } from './readelf.ts'

const SYMBOL_TYPES = ['NOTYPE', 'OBJECT', 'FUNC', 'SECTION', 'FILE', 'COMMON', 'TLS', '', '', '', 'IFUNC']
const BINDINGS = ['LOCAL', 'GLOBAL', 'WEAK', '', '', '', '', '', '', '', 'UNIQUE']
const padded = (value: bigint): string => value.toString(16).padStart(16, '0')
const signedHex = (value: bigint): string =>
  value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`

/** Every difference, as a sentence; at most `limit`. */
export function compareElf(elf: ElfFile, said: ReadelfFile, limit = 20): string[] {
  const differences: string[] = []
  const check = (what: string, ours: unknown, theirs: unknown): void => {
    if (ours !== theirs && differences.length < limit)
      differences.push(`${what}: ${ours}, readelf says ${theirs}`)
  }
  check('number of sections', elf.sections.length, said.sections.length)
  elf.sections.forEach((section, i) => {
    const theirs = said.sections[i]
    if (theirs === undefined) return
    check(`section ${i} name`, section.name, theirs.name)
    check(`section ${i} address`, padded(section.address), theirs.address)
    check(`section ${i} size`, section.size, theirs.size)
    if (section.size > 0 && theirs.type !== 'NOBITS')
      check(`section ${i} offset`, section.offset, theirs.offset)
    check(`section ${i} link`, section.link, theirs.link)
    check(`section ${i} info`, section.info, theirs.info)
    check(`section ${i} entry size`, section.entrySize, theirs.entrySize)
    const flags =
      (section.flags & 1 ? 'W' : '') + (section.flags & 2 ? 'A' : '') + (section.flags & 4 ? 'X' : '')
    check(`section ${i} flags`, flags, theirs.flags.replace(/[^WAX]/g, ''))
  })
  for (const section of elf.sections) {
    const symbols = said.symbols[section.name]
    if (symbols !== undefined) compareSymbols(elf, section, symbols, check)
    const records = said.records[section.name]
    if (records !== undefined && section.type === SHT_RELA) compareRecords(elf, section, records, check)
  }
  return differences
}

type Check = (what: string, ours: unknown, theirs: unknown) => void

function compareSymbols(
  elf: ElfFile,
  section: Section,
  theirs: ReadelfFile['symbols'][string],
  check: Check,
): void {
  const table = new SymbolTable(elf.view, section, elf.sections)
  const strings = table.strings!
  let names = new NameReader(elf.bytes)
  check(`${section.name} count`, table.count, theirs.length)
  for (const symbol of theirs) {
    const { index, name } = symbol
    const what = `${section.name} ${index}`
    check(`${what} value`, padded(table.value(index)), symbol.value)
    check(`${what} size`, Number(table.size(index)), symbol.size)
    check(`${what} type`, SYMBOL_TYPES[table.type(index)], symbol.type)
    check(`${what} binding`, BINDINGS[table.binding(index)], symbol.bind)
    const home = table.home(index) ?? (table.isDefined(index) ? 'ABS' : 'UND')
    check(`${what} section`, `${home}`, symbol.section)
    // readelf shows a section's name for its symbol, and adds versions to dynamic ones.
    if (table.type(index) === 3) continue
    if (index % 1000 === 0) names = new NameReader(elf.bytes)
    const ours = names.at(strings.offset, strings.offset + strings.size, table.nameOffset(index), what)
    const shown = section.name === '.dynsym' ? name.replace(/@.*/, '') : name
    check(`${what} name`, ours.slice(0, 200), shown.slice(0, 200))
  }
}

function compareRecords(
  elf: ElfFile,
  section: Section,
  theirs: ReadelfFile['records'][string],
  check: Check,
): void {
  let i = 0
  for (const record of readRecords(elf.view, section.offset, section.offset + section.size)) {
    const other = theirs[i]
    if (other === undefined) break
    const what = `${section.name} ${i++}`
    check(`${what} address`, padded(record.address), other.address)
    check(`${what} type`, recordName(record.type), other.type)
    check(`${what} symbol`, record.symbol, other.symbol)
    check(`${what} addend`, signedHex(record.addend), other.addend)
  }
  check(`${section.name} count`, section.size / 24, theirs.length)
}

const MOVED = new Set(['R_X86_64_RELATIVE', 'R_X86_64_IRELATIVE'])

/** What a blob should be, from readelf's section list: base, span, and code and data (less the objects in code). */
export function compareBlob(blob: ElfBlob, said: ReadelfFile, sections: readonly ReadelfSection[]): string[] {
  const differences: string[] = []
  const kind = (section: ReadelfSection): BlobRange['kind'] => (section.flags.includes('X') ? 'code' : 'data')
  const at = (section: ReadelfSection): number => Number(BigInt(`0x${section.address}`) - blob.base)
  const kinds = new Uint8Array(blob.bytes.length)
  // An image may begin with the file's own headers: 64 bytes, then e_phnum entries of 56.
  if (blob.bytes[0] === 0x7f && blob.bytes[1] === 0x45) kinds.fill(2, 0, 64 + 56 * blob.bytes[56])
  for (const section of sections) {
    if (section.type === 'NOBITS') continue
    kinds.fill(kind(section) === 'code' ? 1 : 2, at(section), at(section) + section.size)
  }
  const symbols = said.symbols['.symtab'] ?? said.symbols['.dynsym'] ?? []
  const inCode = new Map(
    sections.filter((section) => kind(section) === 'code').map((s) => [String(s.index), s]),
  )
  for (const { section, type, value, size } of symbols)
    if (type === 'OBJECT' && inCode.has(section)) {
      const start = Number(BigInt(`0x${value}`) - blob.base)
      kinds.fill(2, start, start + size)
    }
  const ours = new Uint8Array(blob.bytes.length)
  for (const range of blob.ranges) ours.fill(range.kind === 'code' ? 1 : 2, range.start, range.end)
  const wrong = ours.findIndex((value, i) => value !== kinds[i])
  if (wrong >= 0)
    differences.push(`ranges: byte ${wrong} is ${ours[wrong]}, by readelf's sections ${kinds[wrong]}`)

  const homes = new Set(sections.map(({ index }) => String(index)))
  const named = symbols.filter(
    ({ section, type, name }) => homes.has(section) && !/SECTION|FILE|TLS/.test(type) && name !== '',
  )
  const theirs = named.map(({ value, name, size }) => `${value} ${size} ${name.replace(/@.*/, '')}`).sort()
  const listed = [...blob.symbols()]
    .map(
      ({ offset, name, size }) => `${padded(blob.base + BigInt(offset))} ${size} ${name.replace(/@.*/, '')}`,
    )
    .sort()
  const lost = theirs.find((line, i) => line !== listed[i])
  if (lost !== undefined || theirs.length !== listed.length)
    differences.push(`symbols: ${listed.length} of ${theirs.length}; first difference ${lost}`)
  return differences
}

/** Fields of the loader's relative records are sites, unless the file leaves them to the loader (0). */
export function compareLoaderSites(blob: ElfBlob, said: ReadelfFile): string[] {
  if (blob.sites === undefined) return []
  const sites = new Set<number>()
  for (const { offset, kind } of blob.sites(() => undefined)) if (kind === 'abs64') sites.add(offset ?? -1)
  const view = new DataView(blob.bytes.buffer, blob.bytes.byteOffset, blob.bytes.byteLength)
  const wrong: string[] = []
  for (const table of ['.rela.dyn', '.rela.plt'])
    for (const { address, type, addend } of said.records[table] ?? []) {
      const offset = Number(BigInt(`0x${address}`) - blob.base)
      if (!MOVED.has(type) || offset + 8 > blob.bytes.length) continue
      const value = view.getBigUint64(offset, true)
      const expected = value !== 0n || BigInt(addend.replace('-', '')) === 0n
      if (sites.has(offset) !== expected)
        wrong.push(`${type} at ${address}: site ${sites.has(offset)}, holds ${value}`)
    }
  return wrong
}
