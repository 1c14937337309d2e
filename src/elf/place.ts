/**
 * Gives an object file addresses: lays its sections out, resolves its symbols, applies its relocation
 * records. What a linker does for one object, but nothing is thrown away: the records become the exact
 * relocation table of the placed code.
 *
 * A placed object is read like a file that is linked, with sections, symbols and unwind entries at their
 * addresses (`PlacedFile`); where its fields are is worked out anew whenever it is asked for, not kept.
 */
import { type AddressLike, hex, toAddress, wrapAddress } from '../core/address.ts'
import { viewOf, writeField } from '../core/bytes.ts'
import { formatProblem, type Problem, RelocError } from '../core/errors.ts'
import { checkedLater, oneOf, optional, optionsRule } from '../core/options.ts'
import type { MovedRange } from '../core/range.ts'
import type { SiteInput } from '../table/from-sites.ts'
import { RelocationTable } from '../table/table.ts'
import type { ElfBlob } from './blob.ts'
import { Definitions, nameOf, type SymbolAddresses } from './definitions.ts'
import { DynamicInfo, loadedBytes } from './dynamic.ts'
import { type Allotted, FieldReader } from './fields.ts'
import type { ElfFile } from './file.ts'
import { badElf, ET_DYN } from './header.ts'
import { type Bases, type Layout, layOut, type Part, SLOT_SIZE, STUB_SIZE } from './layout.ts'
import { NameReader } from './names.ts'
import { isPlaced, type ObjectFile, readObject, recordsAbout } from './object.ts'
import { blobEntries, blobRanges } from './ranges.ts'
import { RECORD_TYPES } from './records.ts'
import { hasBytes, type Section } from './sections.ts'
import { Claims, type Extent } from './sites.ts'
import { symbolsIn } from './symbol-list.ts'
import { isCommon, STB_LOCAL, SymbolTable } from './symbols.ts'

export interface PlaceOptions {
  /** Address of byte 0; a multiple of the greatest alignment that a section asks for. */
  readonly base: AddressLike
  /**
   * Where the sections go that the program writes (.data, .bss), as a part of their own; by default behind the others.
   */
  readonly writable?: AddressLike | undefined
  /** Addresses of the symbols that the object does not define, by name. A weak one may stay undefined; it is 0. */
  readonly symbols?: SymbolAddresses | undefined
  /**
   * Which calls of what stays where it is go through a stub, `jmp *slot(%rip)`: those that would not reach
   * from everywhere in the part (`far`, default), or `all`, so that the part can be moved away from what it
   * calls.
   */
  readonly stubs?: 'far' | 'all' | undefined
}

const checkOptions = optionsRule<PlaceOptions>('placeObject', {
  base: toAddress,
  writable: optional(toAddress),
  symbols: checkedLater,
  stubs: optional(oneOf('far', 'all')),
})

/** Sections that lie together. */
export interface PlacedPart extends Omit<ElfBlob, 'sites'> {
  /** Of its address, a power of two; every move should keep it. */
  readonly align: number
  /** Where each section is: offset and size in bytes, zeros at the end included. */
  readonly sections: readonly { readonly name: string; readonly offset: number; readonly size: number }[]
  /** Every field that a move of anything could change. */
  sites(): Iterable<SiteInput>
  /**
   * The exact table; `moved` are the other ranges that may move: the other part, the heap (`heap.moved(base, span)`).
   */
  table(moved?: readonly MovedRange[]): RelocationTable
}

export interface PlacedObject {
  /** Code, and what it reads; without `writable` all sections. */
  readonly code: PlacedPart
  /** What it writes, where it has a place of its own. */
  readonly data: PlacedPart | undefined
  /** Address of a symbol that the object defines for others (global or weak); undefined where it does not. */
  symbol(name: string): bigint | undefined
}

/**
 * Places an x86-64 object file. `bytes` is kept, and must not be changed while the result is in use. Throws
 * `refused` where a record cannot be served (`problems` says which, why, and what can be done), `bad-input`
 * for a damaged file, `bad-argument` for a base that does not fit.
 */
export function placeObject(bytes: Uint8Array, options: PlaceOptions): PlacedObject {
  const object = readObject(bytes)
  const { stubs = 'far' } = checkOptions(options)
  const definitions = new Definitions(object, options.symbols)
  const bases = {
    base: toAddress(options.base, 'base'),
    writable: options.writable === undefined ? undefined : toAddress(options.writable, 'writable'),
  }
  const allotted = allot(object, definitions, bases, stubs)
  const layout = layOutFor(object, definitions, allotted, bases)
  const problems = new ProblemList()
  const reader = new FieldReader(object, definitions, layout, allotted, (problem) => problems.add(problem))
  const parts = [layout.code, layout.data].filter((part) => part !== undefined)
  const images = parts.map((part) => imageOf(object, part, reader))
  problems.check()
  const file = placedFile(object, layout, allotted, images)
  const silent = new FieldReader(object, definitions, layout, allotted, () => undefined)
  const placed = parts.map((part, i) => placedPart(object, file, part, images[i], silent))
  return {
    code: placed[0],
    data: placed[1]?.span > 0 ? placed[1] : undefined,
    symbol: globalSymbols(object, file),
  }
}

/** Slots for what is reached through the GOT, stubs for what is called and far, room for common symbols; by symbol. */
function allot(
  object: ObjectFile,
  definitions: Definitions,
  { base }: Bases,
  calls: 'far' | 'all',
): Allotted {
  const [slots, stubs, common] = [
    new Map<number, number>(),
    new Map<number, number>(),
    new Map<number, number>(),
  ]
  for (let i = 1; i < (object.symbols?.count ?? 0); i++)
    if (isCommon(object.symbols!.index(i))) common.set(i, common.size)
  const end = highestEnd(object, base)
  const wantsStub = (symbol: number): boolean => {
    const definition = definitions.of(symbol)
    // A weak function that nobody defines is called behind a test whether it is 0; but the call must be there.
    if (definition.is !== 'outside' && definition.is !== 'constant') return false
    const { address } = definition
    return calls === 'all' || address < base - REACH || address >= base + REACH || end - address >= REACH
  }
  for (const section of object.sections) {
    if (!isPlaced(section)) continue
    for (const { type, symbol } of recordsAbout(object, section)) {
      const formula = RECORD_TYPES[type]?.formula
      const isCall = formula === 'L+A-P' || formula === 'PLT+A-GOT'
      if (isCall && !stubs.has(symbol) && wantsStub(symbol)) stubs.set(symbol, stubs.size)
      else if (formula !== 'slot' && formula !== 'slot-GOT') continue
      if (!slots.has(symbol)) slots.set(symbol, slots.size)
    }
  }
  return { slots, stubs, common }
}

/** No byte of the object lies farther up than this, whatever it needs beside its sections. */
function highestEnd(object: ObjectFile, base: bigint): bigint {
  let bytes = (object.symbols?.count ?? 0) * (SLOT_SIZE + STUB_SIZE)
  for (const section of object.sections)
    if (isPlaced(section)) bytes += section.size + Number(BigInt.asUintN(32, section.align))
  return base + BigInt(bytes)
}

/** A signed 32-bit distance, less what an addend may add. */
const REACH = 2n ** 31n - 2n ** 12n

function layOutFor(object: ObjectFile, definitions: Definitions, allotted: Allotted, bases: Bases): Layout {
  const common = [...allotted.common.keys()].flatMap((symbol) => {
    const definition = definitions.of(symbol)
    return definition.is === 'common' ? [definition] : []
  })
  return layOut(object, { slots: allotted.slots.size, stubs: allotted.stubs.size, common }, bases)
}

/** Bytes of a part, with every field written. Throws `bad-input` where two records write to one field. */
function imageOf(object: ObjectFile, part: Part, reader: FieldReader): Uint8Array {
  const bytes = new Uint8Array(part.length)
  for (const { index, address, size } of part.sections) {
    const source = object.sections[index]
    if (source !== undefined && hasBytes(source))
      bytes.set(object.bytes.subarray(source.offset, source.offset + size), Number(address - part.base))
  }
  const view = viewOf(bytes)
  const claims = new Claims({ base: part.base, bytes })
  for (const { address, width, value } of reader.fields(part)) {
    if (!claims.take(address, width))
      throw badElf(
        `is damaged: two of its relocation records write to the same field (placed at ${hex(address)}).`,
      )
    writeField(view, Number(address - part.base), width, value)
  }
  return bytes
}

/** Problems that are named; the rest is counted. */
const NAMED = 100

class ProblemList {
  readonly #problems: Problem[] = []
  #count = 0

  add(problem: Problem): void {
    if (this.#count++ < NAMED) this.#problems.push(problem)
  }
  /** Throws `refused` where there is one. */
  check(): void {
    if (this.#count === 0) return
    const [records, more] =
      this.#count === 1
        ? ['a relocation record', '']
        : [`${this.#count} relocation records`, ` (and ${this.#count - 1} more)`]
    throw new RelocError(
      'refused',
      `The object file is not placed, ${records} cannot be served: ${formatProblem(this.#problems[0])}${more}`,
      this.#problems,
    )
  }
}

/** Symbols with the addresses that they have where the object was placed. */
class PlacedSymbols extends SymbolTable {
  readonly #layout: Layout
  readonly #common: ReadonlyMap<number, number>

  constructor(object: ObjectFile, table: Section, layout: Layout, common: ReadonlyMap<number, number>) {
    super(object.view, table, object.sections)
    this.#layout = layout
    this.#common = common
  }
  override home(symbol: number): number | undefined {
    return this.#common.has(symbol) ? this.#layout.sections.length - 1 : super.home(symbol)
  }
  override value(symbol: number): bigint {
    const common = this.#common.get(symbol)
    if (common !== undefined) return this.#layout.common[common]
    const home = super.home(symbol)
    const value = super.value(symbol)
    return home === undefined ? value : wrapAddress((this.#layout.sections[home]?.address ?? 0n) + value)
  }
}

/**
 * The object as the other files of this room read one that is linked: sections, symbols and unwind entries at
 * their addresses.
 */
function placedFile(
  object: ObjectFile,
  layout: Layout,
  allotted: Allotted,
  images: readonly Uint8Array[],
): ElfFile {
  const bytes = images.length === 1 ? images[0] : new Uint8Array(images[0].length + images[1].length)
  if (images.length > 1) for (const [i, image] of images.entries()) bytes.set(image, i * images[0].length)
  const view = viewOf(bytes)
  const { sections } = layout
  const table = object.symbols && object.sections[object.symbols.section]
  const loaded = loadedBytes([])
  return {
    bytes,
    view,
    header: {
      type: ET_DYN,
      entry: 0n,
      programOffset: 0,
      programCount: 0,
      sectionOffset: 0,
      sectionCount: sections.length,
      nameSection: 0,
      extended: false,
    },
    segments: [],
    sections,
    loadedSections: [layout.code, layout.data]
      .flatMap((part) => part?.sections ?? [])
      .filter(({ size }) => size > 0)
      .sort((a, b) => (a.address < b.address ? -1 : 1)),
    symbols: table && new PlacedSymbols(object, table, layout, allotted.common),
    kept: new Map(),
    dynamic: new DynamicInfo(view, [], loaded),
    loaded,
  }
}

function placedPart(
  object: ObjectFile,
  file: ElfFile,
  part: Part,
  bytes: Uint8Array,
  reader: FieldReader,
): PlacedPart {
  const { base, span, align } = part
  const end = base + BigInt(span)
  const sections = new Set(part.sections)
  const extent: Extent = { base, bytes, end, sections, whole: true, image: false }
  const ranges = blobRanges(file, extent)
  const sites = function* (): Generator<SiteInput> {
    for (const { site } of reader.fields(part)) if (site !== undefined) yield site
  }
  const called = function* (): Generator<bigint> {
    for (const { called } of reader.fields(part)) if (called !== undefined) yield called
  }
  return {
    what: 'the object',
    bytes,
    base,
    span,
    align,
    ranges,
    entries: blobEntries(file, extent, ranges, called()),
    symbols: () => symbolsIn(file, base, end, sections, new NameReader(object.bytes)),
    sections: part.sections.map(({ name, address, size }) => ({
      name,
      offset: Number(address - base),
      size,
    })),
    sites,
    table: (moved = []) => RelocationTable.fromSites(sites(), { code: bytes, base, span, moved }),
  }
}

/** Looks global symbols up by name. */
function globalSymbols(object: ObjectFile, { symbols, sections }: ElfFile): PlacedObject['symbol'] {
  let found: Map<string, bigint> | undefined
  const list = (): Map<string, bigint> => {
    const map = new Map<string, bigint>()
    const names = new NameReader(object.bytes)
    for (let i = 1; i < (symbols?.count ?? 0); i++) {
      const home = symbols!.home(i)
      if (symbols!.binding(i) === STB_LOCAL || home === undefined || !isPlaced(sections[home])) continue
      map.set(nameOf(object, i, names), symbols!.value(i))
    }
    return map
  }
  return (name) => (found ??= list()).get(name)
}
