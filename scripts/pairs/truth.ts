/**
 * Turns two links of the same objects into ground truth: every `--emit-relocs` site of the blob, whether its
 * bytes differ, and in which direction. The byte comparison is the authority, the relocation records only say
 * where to look: a differing byte that no record explains fails the case.
 */
import type { Elf, ElfReloc, Section } from './elf.ts'
import { SHF, SHT, STT } from './elf.ts'
import type { Linked } from './link.ts'

export interface Range {
  readonly start: number
  readonly end: number
  readonly kind: 'code' | 'data'
  readonly section: string
}

/** One site; `adj` +1: the value follows the blob, -1: it counters the move. Absent when nothing changes. */
export interface Site {
  readonly offset: number
  readonly type: string
  readonly width: number
  readonly sym?: string
  readonly addend?: number
  readonly changes: boolean
  readonly adj?: 1 | -1
}

export interface NamedSpan {
  readonly offset: number
  readonly size: number
  readonly name: string
}

export interface Truth {
  readonly fromBytes: Buffer
  readonly toBytes: Buffer
  readonly memLength: number
  readonly ranges: readonly Range[]
  readonly sites: readonly Site[]
  readonly functions: readonly NamedSpan[]
  readonly objectsInCode: readonly NamedSpan[]
  readonly outsideChangedWords: number
}

/** R_X86_64_ names and widths by number (psABI 1.0, table 4.9). Width 0: nothing is stored. */
const TYPES: Readonly<Record<number, readonly [string, number]>> = {
  1: ['64', 8],
  2: ['PC32', 4],
  3: ['GOT32', 4],
  4: ['PLT32', 4],
  9: ['GOTPCREL', 4],
  10: ['32', 4],
  11: ['32S', 4],
  12: ['16', 2],
  13: ['PC16', 2],
  14: ['8', 1],
  15: ['PC8', 1],
  17: ['DTPOFF64', 8],
  18: ['TPOFF64', 8],
  19: ['TLSGD', 4],
  20: ['TLSLD', 4],
  21: ['DTPOFF32', 4],
  22: ['GOTTPOFF', 4],
  23: ['TPOFF32', 4],
  24: ['PC64', 8],
  25: ['GOTOFF64', 8],
  26: ['GOTPC32', 4],
  27: ['GOT64', 8],
  28: ['GOTPCREL64', 8],
  29: ['GOTPC64', 8],
  31: ['PLTOFF64', 8],
  32: ['SIZE32', 4],
  33: ['SIZE64', 8],
  34: ['GOTPC32_TLSDESC', 4],
  41: ['GOTPCRELX', 4],
  42: ['REX_GOTPCRELX', 4],
}

const FUNCTIONS = [STT.FUNC, STT.IFUNC]

/** The same bytes at both addresses; `length` excludes trailing .bss. */
interface Links {
  readonly elf: Elf
  readonly other: Elf
  readonly from: bigint
  readonly to: bigint
  readonly fromBytes: Buffer
  readonly toBytes: Buffer
}

/** The allocated output sections that lie in [start, start + size) of `elf`. */
function sectionsIn(elf: Elf, start: bigint, size: number): Section[] {
  return elf.sections.filter(
    (s) => s.flags & SHF.ALLOC && s.size > 0 && s.address >= start && s.address < start + BigInt(size),
  )
}

function image(elf: Elf, base: bigint, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (const section of sectionsIn(elf, base, length))
    section.bytes.copy(bytes, Number(section.address - base))
  return bytes
}

function little(bytes: Buffer, offset: number, width: number): bigint {
  let value = 0n
  for (let n = width - 1; n >= 0; n--) value = (value << 8n) | BigInt(bytes[offset + n])
  return value
}

/** The end of the moved sections: they are those whose name and order match and whose address differs. */
function movedSpan(from: Elf, to: Elf, base: bigint, target: bigint): { length: number; memLength: number } {
  let length = 0
  let memLength = 0
  for (const [n, section] of from.sections.entries()) {
    const other = to.sections[n]
    if (!(section.flags & SHF.ALLOC) || section.size === 0 || section.address === other.address) continue
    const end = Number(section.address - base) + section.size
    if (section.address - base !== other.address - target) throw new Error(`${section.name} moved by itself`)
    memLength = Math.max(memLength, end)
    if (section.type !== SHT.NOBITS) length = Math.max(length, end)
  }
  return { length, memLength }
}

export function groundTruth(from: Linked, to: Linked, base: bigint, target: bigint, mixed: boolean): Truth {
  const { length, memLength } = movedSpan(from.elf, to.elf, base, target)
  const first = sectionsIn(from.elf, base, memLength)[0]
  if (first?.address !== base) throw new Error(`the blob starts at ${first?.address}, not at its base`)
  const links: Links = {
    elf: from.elf,
    other: to.elf,
    from: base,
    to: target,
    fromBytes: image(from.elf, base, length),
    toBytes: image(to.elf, target, length),
  }
  const whole = sectionRanges(from.elf, base, length)
  const ranges = mixed
    ? [...mapRanges(from.map, base, length), ...whole.filter((r) => r.section !== '.text')]
    : whole
  const isCode = codePredicate(ranges)
  const spans = (types: readonly number[]): NamedSpan[] => namedSpans(links, types)
  return {
    fromBytes: links.fromBytes,
    toBytes: links.toBytes,
    memLength,
    ranges,
    sites: sitesOf(links),
    functions: spans(FUNCTIONS).filter((f) => isCode(f.offset)),
    objectsInCode: spans([STT.OBJECT]).filter((o) => mixed || isCode(o.offset)),
    outsideChangedWords: outsideChanges(links),
  }
}

/** The truth of one unit of a pack. */
export function unitTruth(
  from: Linked,
  to: Linked,
  output: string,
): (Truth & { from: bigint; to: bigint }) | undefined {
  const a = from.elf.sections.find((s) => s.name === output)
  const b = to.elf.sections.find((s) => s.name === output)
  if (!a || !b || a.size === 0) return undefined
  const moved = { from: a.address, to: b.address, fromBytes: a.bytes, toBytes: b.bytes }
  const links: Links = { elf: from.elf, other: to.elf, ...moved }
  return {
    ...moved,
    memLength: a.size,
    ranges: [{ start: 0, end: a.size, kind: 'code', section: output }],
    sites: sitesOf(links),
    functions: namedSpans(links, FUNCTIONS),
    objectsInCode: [],
    outsideChangedWords: 0,
  }
}

function sitesOf(links: Links): Site[] {
  const { fromBytes, toBytes, from, to } = links
  if (fromBytes.length !== toBytes.length) throw new Error('the two links differ in length')
  const before = relocsIn(links.elf, from, fromBytes.length)
  const after = relocsIn(links.other, to, toBytes.length)
  if (before.length !== after.length) throw new Error('the two links differ in their relocation records')
  const sites = new Map<number, Site>()
  for (const [n, record] of before.entries()) {
    if (after[n].type !== record.type || after[n].offset - to !== record.offset - from)
      throw new Error(`the links were relaxed differently at ${record.offset - from}`)
    const known = TYPES[record.type]
    if (!known) continue
    const site = makeSite(links, record, known[0], known[1])
    // Two records may share a place (a TLS sequence and its call): the one that explains a change counts.
    if (!sites.get(site.offset)?.changes) sites.set(site.offset, site)
  }
  for (const site of gotWords(links)) sites.set(site.offset, site)
  const sorted = [...sites.values()].sort((x, y) => x.offset - y.offset)
  requireExplained(links, sorted)
  return sorted
}

function requireExplained({ fromBytes, toBytes }: Links, sites: readonly Site[]): void {
  const explained = new Uint8Array(fromBytes.length)
  for (const site of sites) if (site.changes) explained.fill(1, site.offset, site.offset + site.width)
  const bad = fromBytes.findIndex((byte, n) => byte !== toBytes[n] && !explained[n])
  if (bad >= 0) throw new Error(`no record explains the difference at offset ${bad}`)
}

function relocsIn(elf: Elf, base: bigint, length: number): ElfReloc[] {
  const records = sectionsIn(elf, base, length).flatMap((section) => elf.relocs.get(section.index) ?? [])
  const inside = records.filter((r) => r.offset >= base && r.offset < base + BigInt(length))
  return inside.sort((x, y) => Number(x.offset - y.offset))
}

/** How the `width` bytes at `offset` follow the move: with it, against it, or not at all. */
function change({ from, to, fromBytes, toBytes }: Links, offset: number, width: number): 1 | -1 | 0 {
  const difference = little(toBytes, offset, width) - little(fromBytes, offset, width)
  const is = (value: bigint): boolean => BigInt.asUintN(width * 8, difference - value) === 0n
  if (is(0n)) return 0
  if (is(to - from)) return 1
  if (is(from - to)) return -1
  throw new Error(`the field at offset ${offset} changed by ${difference}, not by the delta`)
}

function makeSite(links: Links, record: ElfReloc, type: string, width: number): Site {
  const offset = Number(record.offset - links.from)
  const { name } = links.elf.symbols[record.symbol]
  const sym = name ? { sym: name } : {}
  const addend = record.addend ? { addend: Number(record.addend) } : {}
  const adj = change(links, offset, width)
  return { offset, type, width, ...sym, ...addend, changes: adj !== 0, ...(adj ? { adj } : {}) }
}

/** The linker fills the GOT itself and leaves no record. */
function gotWords(links: Links): Site[] {
  const words: Site[] = []
  for (const section of sectionsIn(links.elf, links.from, links.fromBytes.length)) {
    if (section.name !== '.got') continue
    const start = Number(section.address - links.from)
    for (let offset = start; offset + 8 <= start + section.size; offset += 8) {
      const adj = change(links, offset, 8)
      if (adj) words.push({ offset, type: 'LINKER_GOT', width: 8, changes: true, adj })
    }
  }
  return words
}

function sectionRanges(elf: Elf, base: bigint, length: number): Range[] {
  return sectionsIn(elf, base, length).map((section) => ({
    start: Number(section.address - base),
    end: Number(section.address - base) + section.bytes.length,
    kind: section.flags & SHF.EXEC && !/rodata/.test(section.name) ? 'code' : 'data',
    section: section.name,
  }))
}

/** Ranges of a blob whose objects alternate code and read-only data: only the linker's map tells them apart. */
function mapRanges(map: string, base: bigint, length: number): Range[] {
  const body = map.slice(map.search(/^\.text\b/m))
  const output = body.slice(0, body.slice(1).search(/^\.\S/m) + 1)
  const ranges: Range[] = []
  for (const match of output.matchAll(/^ (\.?[^\s*]\S*)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) \S+$/gm)) {
    const start = Number(BigInt('0x' + match[2]) - base)
    const size = Math.min(Number('0x' + match[3]), length - start)
    const kind = /^\.(rodata|gcc_except|data)/.test(match[1]) ? 'data' : 'code'
    const section = kind === 'code' ? '.text' : match[1]
    const last = ranges.at(-1)
    if (size === 0 || start >= length) continue
    // ld lists merged strings with the size they had; what follows shows how little of it is left.
    if (last && last.end > start) ranges[ranges.length - 1] = { ...last, end: start }
    if (last && last.kind === kind && last.section === section)
      ranges[ranges.length - 1] = { ...last, end: start + size }
    else ranges.push({ start, end: start + size, kind, section })
  }
  return ranges.filter((range) => range.end > range.start)
}

function codePredicate(ranges: readonly Range[]): (offset: number) => boolean {
  return (offset) => {
    let low = 0
    let high = ranges.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (ranges[middle].end <= offset) low = middle + 1
      else high = middle
    }
    return low < ranges.length && ranges[low].start <= offset && ranges[low].kind === 'code'
  }
}

function namedSpans({ elf, from, fromBytes }: Links, types: readonly number[]): NamedSpan[] {
  const end = from + BigInt(fromBytes.length)
  const found = new Map<string, NamedSpan>()
  for (const symbol of elf.symbols) {
    if (!types.includes(symbol.type) || symbol.value < from || symbol.value >= end) continue
    if (symbol.section === 0 || symbol.section >= 0xff00) continue
    const offset = Number(symbol.value - from)
    found.set(`${offset} ${symbol.name}`, { offset, size: symbol.size, name: symbol.name })
  }
  return [...found.values()].sort((x, y) => x.offset - y.offset)
}

/** 4-byte words of the fixed part that differ: pointers from outside into the blob, not the tool's job. */
function outsideChanges({ elf, other }: Links): number {
  let count = 0
  for (const [n, { bytes, flags, address }] of elf.sections.entries()) {
    if (!(flags & SHF.ALLOC) || address !== other.sections[n].address) continue
    for (let at = 0; at + 4 <= bytes.length; at += 4)
      if (bytes.readUInt32LE(at) !== other.sections[n].bytes.readUInt32LE(at)) count++
  }
  return count
}
