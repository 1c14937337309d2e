/** The symbols of a blob: listing, looking up, and as text. */
import { wrapAddress } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import type { ElfFile } from './file.ts'
import type { NameReader } from './names.ts'
import { hasBytes, isCode, type Section, SHF_WRITE, SHT_NOBITS } from './sections.ts'
import {
  STB_GNU_UNIQUE,
  STB_LOCAL,
  STB_WEAK,
  STT_COMMON,
  STT_FUNC,
  STT_GNU_IFUNC,
  STT_NOTYPE,
  STT_OBJECT,
  type SymbolTable,
} from './symbols.ts'

export interface BlobSymbol {
  readonly name: string
  /** Bytes from the blob's start. */
  readonly offset: number
  /** Bytes; 0 where the file does not say. */
  readonly size: number
  readonly type: 'function' | 'object' | 'none'
  /**
   * As `nm` shows it: T code, D data, R read-only, B zero-initialised, W V weak, i indirect, u unique; lower
   * case: local.
   */
  readonly letter: string
}

const TYPES: Readonly<{ [type: number]: BlobSymbol['type'] }> = {
  [STT_NOTYPE]: 'none',
  [STT_OBJECT]: 'object',
  [STT_COMMON]: 'object',
  [STT_FUNC]: 'function',
  [STT_GNU_IFUNC]: 'function',
}

/** The section of a symbol that names a place in memory; undefined for all others. */
function homeOf(elf: ElfFile, symbols: SymbolTable, i: number): Section | undefined {
  const home = symbols.home(i)
  return home === undefined || TYPES[symbols.type(i)] === undefined ? undefined : elf.sections[home]
}

/**
 * The symbols that `wanted` takes, by address, then in the order of the file; in typed arrays, because there
 * can be very many.
 */
function byAddress(symbols: SymbolTable, base: bigint, wanted: (i: number) => boolean): Uint32Array {
  let count = 0
  for (let i = 1; i < symbols.count; i++) if (wanted(i)) count++
  const found = new Uint32Array(count)
  const keys = new Float64Array(count)
  count = 0
  for (let i = 1; i < symbols.count; i++) {
    if (!wanted(i)) continue
    keys[count] = Number(symbols.value(i) - base)
    found[count++] = i
  }
  const order = new Uint32Array(count).map((_, i) => i)
  return order.sort((a, b) => keys[a] - keys[b] || a - b).map((i) => found[i])
}

/** Symbols of `sections` in `[base, end]`, by address, then in the order of the file. */
export function* symbolsIn(
  elf: ElfFile,
  base: bigint,
  end: bigint,
  sections: ReadonlySet<Section>,
  names: NameReader,
): Generator<BlobSymbol> {
  const { symbols } = elf
  const strings = symbols?.strings
  if (symbols === undefined || strings === undefined) return
  const inBlob = (i: number): boolean => {
    const home = homeOf(elf, symbols, i)
    const value = symbols.value(i)
    return home !== undefined && sections.has(home) && value >= base && value <= end
  }
  for (const i of byAddress(symbols, base, inBlob)) {
    const name = names.at(strings.offset, strings.offset + strings.size, symbols.nameOffset(i), `symbol ${i}`)
    if (name === '') continue
    yield {
      name,
      offset: Number(symbols.value(i) - base),
      size: Number(BigInt.asUintN(53, symbols.size(i))),
      type: TYPES[symbols.type(i)],
      letter: letterOf(symbols, i, homeOf(elf, symbols, i)!),
    }
  }
}

function letterOf(symbols: SymbolTable, i: number, section: Section): string {
  const binding = symbols.binding(i)
  if (symbols.type(i) === STT_GNU_IFUNC) return 'i'
  if (binding === STB_GNU_UNIQUE) return 'u'
  if (binding === STB_WEAK) return symbols.type(i) === STT_OBJECT ? 'V' : 'W'
  const letter = isCode(section)
    ? 't'
    : section.type === SHT_NOBITS
      ? 'b'
      : (section.flags & SHF_WRITE) !== 0
        ? 'd'
        : 'r'
  return binding === STB_LOCAL ? letter : letter.toUpperCase()
}

/** Symbols as text, one a line as `nm` prints them: address with the blob at `base`, letter, name. */
export function* symbolLines(symbols: Iterable<BlobSymbol>, base: bigint): Generator<string> {
  for (const { name, offset, letter } of symbols)
    yield `${wrapAddress(base + BigInt(offset))
      .toString(16)
      .padStart(16, '0')} ${letter} ${name}`
}

/** Where the function or object called `name` is. Throws `bad-argument` where there is none, several, or no size. */
export function findSymbol(elf: ElfFile, name: string): { start: bigint; size: number; section: Section } {
  const { symbols } = elf
  const strings = symbols?.strings
  if (symbols === undefined || strings === undefined)
    throw new RelocError(
      'bad-argument',
      `The ELF file has no symbols (it is stripped), so ${name} cannot be found in it.`,
    )
  const wanted = new TextEncoder().encode(name)
  const end = strings.offset + strings.size
  const places = new Map<bigint, { start: bigint; size: number; section: Section }>()
  for (let i = 1; i < symbols.count; i++) {
    const section = homeOf(elf, symbols, i)
    if (section === undefined || !namedAt(elf.bytes, strings.offset + symbols.nameOffset(i), end, wanted))
      continue
    const start = symbols.value(i)
    const size = symbols.size(i)
    const inside = start >= section.address && start + size <= section.address + BigInt(section.size)
    if (!inside || size === 0n || !hasBytes(section))
      throw new RelocError(
        'bad-argument',
        `Symbol ${name} has ${size} bytes in section ${section.name}: it has no code or data in the file that could be moved.`,
      )
    places.set(start, { start, size: Number(size), section })
  }
  if (places.size === 1) return [...places.values()][0]
  throw new RelocError(
    'bad-argument',
    places.size === 0
      ? `The ELF file has no symbol ${name}.`
      : `The ELF file has ${places.size} symbols ${name}, at ${[...places.keys()].map((at) => `0x${at.toString(16)}`).join(', ')}: the name alone does not choose one.`,
  )
}

function namedAt(bytes: Uint8Array, at: number, end: number, wanted: Uint8Array): boolean {
  if (at + wanted.length >= end || bytes[at + wanted.length] !== 0) return false
  for (let i = 0; i < wanted.length; i++) if (bytes[at + i] !== wanted[i]) return false
  return true
}

/** Objects with a size that lie in code, ascending and disjoint, but for those that a function's symbol contradicts. */
export function* objectRanges(
  elf: ElfFile,
  base: bigint,
  sections: ReadonlySet<Section>,
): Generator<{ readonly start: bigint; readonly end: bigint }> {
  const { symbols } = elf
  if (symbols === undefined) return
  const inCode = (i: number): boolean => {
    const section = homeOf(elf, symbols, i)
    return section !== undefined && isCode(section) && sections.has(section)
  }
  const functions = byAddress(symbols, base, (i) => TYPES[symbols.type(i)] === 'function' && inCode(i))
  let next = 0
  let done = 0n
  for (const i of byAddress(symbols, base, (i) => symbols.type(i) === STT_OBJECT && inCode(i))) {
    const start = symbols.value(i)
    const end = start + symbols.size(i)
    while (next < functions.length && symbols.value(functions[next]) < start) next++
    if (next < functions.length && symbols.value(functions[next]) < end) continue
    if (end > done) yield { start: start > done ? start : done, end }
    if (end > done) done = end
  }
}
