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

interface Span {
  readonly from: bigint
  readonly to: bigint
  /** Size in memory; the bytes in the file may be fewer. */
  readonly size: number
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
  const span = { from: base, to: target, size: length }
  const fromBytes = image(from.elf, base, length)
  const toBytes = image(to.elf, target, length)
  const sites = spanSites(from.elf, to.elf, span, fromBytes, toBytes)
  const whole = sectionRanges(from.elf, base, length)
  const ranges = mixed
    ? [...mapRanges(from.map, base, length), ...whole.filter((r) => r.section !== '.text')]
    : whole
  const isCode = codePredicate(ranges)
  const spans = (type: number[]): NamedSpan[] => namedSpans(from.elf, span, type)
  return {
    fromBytes,
    toBytes,
    memLength,
    ranges,
    sites,
    functions: spans([STT.FUNC, STT.IFUNC]).filter((f) => isCode(f.offset)),
    objectsInCode: spans([STT.OBJECT]).filter((o) => mixed || isCode(o.offset)),
    outsideChangedWords: outsideChanges(from.elf, to.elf, span),
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
  const span = { from: a.address, to: b.address, size: a.size }
  const sites = spanSites(from.elf, to.elf, span, a.bytes, b.bytes)
  return {
    from: a.address,
    to: b.address,
    fromBytes: a.bytes,
    toBytes: b.bytes,
    memLength: a.size,
    ranges: [{ start: 0, end: a.size, kind: 'code', section: output }],
    sites,
    functions: namedSpans(from.elf, span, [STT.FUNC, STT.IFUNC]),
    objectsInCode: [],
    outsideChangedWords: 0,
  }
}

function spanSites(from: Elf, to: Elf, span: Span, fromBytes: Buffer, toBytes: Buffer): Site[] {
  if (fromBytes.length !== toBytes.length) throw new Error('the two links differ in length')
  const before = relocsIn(from, span.from, span.size)
  const after = relocsIn(to, span.to, span.size)
  if (before.length !== after.length) throw new Error('the two links differ in their relocation records')
  const explained = new Uint8Array(fromBytes.length)
  const sites = new Map<number, Site>()
  for (const [n, record] of before.entries()) {
    const offset = Number(record.offset - span.from)
    if (after[n].type !== record.type || after[n].offset - span.to !== record.offset - span.from)
      throw new Error(`the links were relaxed differently at ${offset}`)
    const known = TYPES[record.type]
    if (!known) continue
    const [type, width] = known
    const site = makeSite(from, record, offset, type, width, span.to - span.from, fromBytes, toBytes)
    if (site.changes) explained.fill(1, offset, offset + width)
    if (!sites.get(offset)?.changes) sites.set(offset, site)
  }
  for (const site of linkerWords(from, span, fromBytes, toBytes, explained)) sites.set(site.offset, site)
  const bad = fromBytes.findIndex((byte, n) => byte !== toBytes[n] && !explained[n])
  if (bad >= 0) throw new Error(`no record explains the difference at ${bad} (${bad.toString(16)})`)
  return [...sites.values()].sort((x, y) => x.offset - y.offset)
}

function relocsIn(elf: Elf, base: bigint, length: number): ElfReloc[] {
  const records: ElfReloc[] = []
  for (const section of sectionsIn(elf, base, length)) records.push(...(elf.relocs.get(section.index) ?? []))
  const inside = records.filter((r) => r.offset >= base && r.offset < base + BigInt(length))
  return inside.sort((x, y) => Number(x.offset - y.offset))
}

function makeSite(
  elf: Elf,
  record: ElfReloc,
  offset: number,
  type: string,
  width: number,
  delta: bigint,
  fromBytes: Buffer,
  toBytes: Buffer,
): Site {
  const name = elf.symbols[record.symbol].name
  const site = {
    offset,
    type,
    width,
    ...(name ? { sym: name } : {}),
    ...(record.addend ? { addend: Number(record.addend) } : {}),
  }
  const difference = little(toBytes, offset, width) - little(fromBytes, offset, width)
  const bits = width * 8
  if (BigInt.asUintN(bits, difference) === 0n) return { ...site, changes: false }
  if (BigInt.asUintN(bits, difference - delta) === 0n) return { ...site, changes: true, adj: 1 }
  if (BigInt.asUintN(bits, difference + delta) === 0n) return { ...site, changes: true, adj: -1 }
  throw new Error(`${type} ${name} at ${offset} changed by ${difference}, not by the delta`)
}

/** Words that the linker makes itself carry no record: GOT slots, and in Go's own sections, follow the delta. */
function linkerWords(
  from: Elf,
  span: Span,
  fromBytes: Buffer,
  toBytes: Buffer,
  explained: Uint8Array,
): Site[] {
  const words: Site[] = []
  const go =
    from.sections.some((s) => /gopclntab/.test(s.name)) ||
    from.symbols.some((s) => s.name === 'runtime.pclntab')
  for (const section of sectionsIn(from, span.from, fromBytes.length)) {
    if (section.name !== '.got' && !go) continue
    const start = Number(section.address - span.from)
    for (let at = start; at + 8 <= start + section.size; at += 8) {
      if (explained.subarray(at, at + 8).some((e) => e) || fromBytes.equals(toBytes)) continue
      const difference = little(toBytes, at, 8) - little(fromBytes, at, 8)
      if (
        BigInt.asUintN(64, difference) === 0n ||
        BigInt.asUintN(64, difference - span.to + span.from) !== 0n
      )
        continue
      words.push({
        offset: at,
        type: section.name === '.got' ? 'LINKER_GOT' : 'INFERRED64',
        width: 8,
        changes: true,
        adj: 1,
      })
      explained.fill(1, at, at + 8)
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

function namedSpans(elf: Elf, span: Span, types: readonly number[]): NamedSpan[] {
  const end = span.from + BigInt(span.size)
  const found = new Map<string, NamedSpan>()
  for (const symbol of elf.symbols) {
    if (!types.includes(symbol.type) || symbol.value < span.from || symbol.value >= end) continue
    if (symbol.section === 0 || symbol.section >= 0xff00) continue
    const offset = Number(symbol.value - span.from)
    found.set(`${offset} ${symbol.name}`, { offset, size: symbol.size, name: symbol.name })
  }
  return [...found.values()].sort((x, y) => x.offset - y.offset)
}

function outsideChanges(from: Elf, to: Elf, span: Span): number {
  let count = 0
  for (const [n, section] of from.sections.entries()) {
    const other = to.sections[n]
    if (!(section.flags & SHF.ALLOC) || section.address !== other.address) continue
    if (section.address >= span.from && section.address < span.from + BigInt(span.size)) continue
    const { bytes } = section
    for (let at = 0; at + 4 <= Math.min(bytes.length, other.bytes.length); at += 4)
      if (bytes.readUInt32LE(at) !== other.bytes.readUInt32LE(at)) count++
  }
  return count
}
