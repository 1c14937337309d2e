/**
 * The exact sites of a blob that comes out of an ELF file: from the loader's records, from those that the
 * linker kept, from the ELF structures that are loaded with it, and from the words of the global offset
 * table, which no record describes.
 *
 * Sites come out one by one and nothing is kept of them but one bit for each byte of the blob, because a
 * hostile file can have as many records as it likes. The first to claim a field decides; what comes later
 * finds it taken.
 */
import { wrapAddress } from '../core/address.ts'
import { hexBytes, viewOf } from '../core/bytes.ts'
import type { Problem } from '../core/errors.ts'
import { frameEntries } from '../core/unwind.ts'
import type { SiteInput } from '../table/from-sites.ts'
import type { SiteKind } from '../table/kinds.ts'
import { type ElfFile, recordsOf } from './file.ts'
import { isFixed, RECORD_TYPES, readRecords, recordName } from './records.ts'
import { type Reference, ReferenceReader } from './references.ts'
import { hasBytes, isGot, isStub, type Section } from './sections.ts'
import { loaderRecords, packedRecords, structureFields } from './structures.ts'

/** What of the file moves: the addresses of the blob, and how what a record names tells whether it moves with it. */
export interface Extent {
  readonly base: bigint
  readonly bytes: Uint8Array
  /** Address behind the last byte that moves. */
  readonly end: bigint
  /** Sections of which something is in the blob. */
  readonly sections: ReadonlySet<Section>
  /** Whether these sections move whole; otherwise addresses alone decide. */
  readonly whole: boolean
  /** Whether the blob is a loaded image, with its ELF structures. */
  readonly image: boolean
}

/** Problems named before they are only counted. */
const NAMED = 100

/** Every site of `extent`; `report` is told of the records that bytes and symbols do not explain. */
export function* elfSites(
  elf: ElfFile,
  extent: Extent,
  report: (problem: Problem) => void,
): Generator<SiteInput> {
  const claims = new Claims(extent)
  if (extent.image) yield* loaderSites(elf, extent, claims)
  yield* frameSites(elf, extent, claims)
  yield* keptSites(elf, extent, claims, report)
  if (!extent.image) return
  for (const { at, value } of structureFields(elf))
    if (claims.take(at, 8)) yield absoluteSite(extent, at, value)
  yield* slotSites(elf, extent, claims)
  yield* stubSites(elf, extent, claims)
}

/** One bit a byte of the blob: does it belong to a field that has been decided? */
export class Claims {
  readonly #base: bigint
  readonly #length: bigint
  readonly #bits: Uint8Array

  constructor({ base, bytes }: Pick<Extent, 'base' | 'bytes'>) {
    this.#base = base
    this.#length = BigInt(bytes.length)
    this.#bits = new Uint8Array(Math.ceil(bytes.length / 8))
  }
  /** Takes `[address, address + width)`; false where it is not all in the blob, or some of it is taken. */
  take(address: bigint, width: number): boolean {
    const from = address - this.#base
    if (from < 0n || from + BigInt(width) > this.#length) return false
    const start = Number(from)
    for (let i = start; i < start + width; i++) if ((this.#bits[i >>> 3] & (1 << (i & 7))) !== 0) return false
    for (let i = start; i < start + width; i++) this.#bits[i >>> 3] |= 1 << (i & 7)
    return true
  }
}

const absoluteSite = ({ base }: Extent, address: bigint, target: bigint): SiteInput => ({
  offset: Number(address - base),
  kind: 'abs64',
  target,
})

/**
 * Fields that the loader's records name. Where the file already holds the address (some linkers write it) it
 * is a site; where it holds something else, usually 0, the loader fills it in from the record, which is a
 * site itself.
 */
function* loaderSites(elf: ElfFile, extent: Extent, claims: Claims): Generator<SiteInput> {
  const view = viewOf(extent.bytes)
  const word = (address: bigint): bigint => view.getBigUint64(Number(address - extent.base), true)
  const points = (value: bigint): boolean => value !== 0n && value >= extent.base && value <= extent.end
  for (const { start, end } of loaderRecords(elf))
    for (const { address, type, addend } of readRecords(elf.view, start, end)) {
      const known = RECORD_TYPES[type]
      if (known === undefined || isFixed(known) || !claims.take(address, 8)) continue
      const value = word(address)
      if (points(value) || (known.formula === 'base+A' && value === wrapAddress(addend)))
        yield absoluteSite(extent, address, value)
    }
  const packed = packedRecords(elf)
  if (packed === undefined) return
  for (const address of packedAddresses(elf.view, packed.start, packed.end))
    if (claims.take(address, 8)) yield absoluteSite(extent, address, word(address))
}

/**
 * DT_RELR: an even word is an address, an odd one a bitmap of the 63 words behind the last one (generic ABI,
 * "Relative relocations").
 */
function* packedAddresses(view: DataView, start: number, end: number): Generator<bigint> {
  let next = 0n
  for (let at = start; at + 8 <= end; at += 8) {
    const word = view.getBigUint64(at, true)
    if ((word & 1n) === 0n) {
      yield word
      next = word + 8n
      continue
    }
    for (let bits = word >> 1n, address = next; bits !== 0n; bits >>= 1n, address += 8n)
      if ((bits & 1n) !== 0n) yield address
    next += 63n * 8n
  }
}

/** Pointers in unwind entries, which say themselves what they are. */
function* frameSites(elf: ElfFile, extent: Extent, claims: Claims): Generator<SiteInput> {
  for (const section of extent.sections) {
    if (section.name !== FRAMES || !hasBytes(section)) continue
    const { offset, size, address } = section
    for (const { pointers } of frameEntries(elf.view, offset, offset + size, address))
      for (const pointer of pointers) {
        const kind = FRAME_KINDS[`${pointer.relative} ${pointer.width} ${pointer.signed}`]
        if (kind === undefined || !claims.take(pointer.address, pointer.width)) continue
        const site = { offset: Number(pointer.address - extent.base), kind, target: pointer.target }
        yield pointer.relative ? { ...site, anchor: pointer.address } : site
      }
  }
}

const FRAMES = '.eh_frame'
/** Of unwind pointers, by relative, width and signed. */
const FRAME_KINDS: Readonly<{ [key: string]: SiteKind }> = {
  'false 4 false': 'abs32',
  'false 4 true': 'abs32s',
  'false 8 false': 'abs64',
  'false 8 true': 'abs64',
  'true 4 true': 'diff32',
  'true 4 false': 'diff32u',
  'true 8 false': 'diff64',
  'true 8 true': 'diff64',
}

/** Fields that the linker's kept records name. */
function* keptSites(
  elf: ElfFile,
  extent: Extent,
  claims: Claims,
  report: (problem: Problem) => void,
): Generator<SiteInput> {
  const { symbols } = elf
  if (symbols === undefined) return
  let unexplained = 0
  for (const section of extent.sections) {
    if (!elf.kept.has(section.index) || !hasBytes(section) || section.name === FRAMES) continue
    const reader = new ReferenceReader(elf, symbols, section)
    for (const record of recordsOf(elf, section)) {
      const found = reader.read(record)
      if (found === 'fixed') continue
      if (found === 'unexplained') {
        if (!claims.take(record.address, RECORD_TYPES[record.type]?.width ?? 1)) continue
        if (unexplained++ < NAMED) report(unexplainedRecord(extent, record.address, record.type))
        continue
      }
      if (found.constantSlot !== undefined) claims.take(found.constantSlot, 8)
      if (claims.take(found.address, found.width)) yield siteOf(extent, found)
    }
  }
}

/** The site of a reference: its target is an address that moves as the record says. */
function siteOf(extent: Extent, reference: Reference): SiteInput {
  const { address, kind, anchor } = reference
  return { offset: Number(address - extent.base), kind, target: targetOf(extent, reference), anchor }
}

/**
 * An address that moves with what `reference` names: the one that the value points at if that is in the same
 * section, else S, else the nearest that is. Last, the blob's own edges decide, because one past its end may
 * be the start of something else.
 */
function targetOf(extent: Extent, { pointed, symbolValue, section, named }: Reference): bigint {
  const { base, end } = extent
  let target = pointed
  if (section !== undefined && section.size > 0) {
    const { address } = section
    const last = address + BigInt(section.size) - 1n
    if (pointed < address || pointed > last) {
      const nearest = pointed < address ? address : last
      target = symbolValue >= address && symbolValue <= last ? symbolValue : nearest
    }
  }
  const inside = extent.whole
    ? section !== undefined && extent.sections.has(section)
    : section !== undefined && within(extent, named ? symbolValue : pointed)
  if (inside) return target < base ? base : target >= end ? end - 1n : target
  return target >= base && target <= end ? wrapAddress(end + 1n) : target
}

const within = ({ base, end }: Extent, address: bigint): boolean => address >= base && address < end

/** Slots of the global offset table that no record leads to: those of stubs, and the linker's own. */
function* slotSites(elf: ElfFile, extent: Extent, claims: Claims): Generator<SiteInput> {
  for (const section of extent.sections) {
    if (!isGot(section) || !hasBytes(section)) continue
    for (let at = 0; at + 8 <= section.size; at += 8) {
      const address = section.address + BigInt(at)
      const value = elf.view.getBigUint64(section.offset + at, true)
      const points = value !== 0n && value >= extent.base && value <= extent.end
      if (points && claims.take(address, 8)) yield absoluteSite(extent, address, value)
    }
  }
}

const LAZY_STUB = 16

/**
 * `jmp *slot; push index; jmp first`: lld's stubs for indirect functions in static programs, too, where there
 * is no first stub, and the distance is that to address 0.
 */
function* stubSites(elf: ElfFile, extent: Extent, claims: Claims): Generator<SiteInput> {
  const { view } = elf
  for (const section of extent.sections) {
    if (!isStub(section) || !hasBytes(section)) continue
    for (let at = 0; at + LAZY_STUB <= section.size; at += LAZY_STUB) {
      const start = section.offset + at
      const isLazy = view.getUint16(start, true) === 0x25ff && view.getUint8(start + 6) === 0x68
      if (!isLazy || view.getUint8(start + 11) !== 0xe9) continue
      const address = section.address + BigInt(at + 12)
      const target = wrapAddress(address + 4n + BigInt(view.getInt32(start + 12, true)))
      const inside = target >= extent.base && target < extent.end
      if (!inside && claims.take(address, 4))
        yield { offset: Number(address - extent.base), kind: 'pc32', target }
    }
  }
}

function unexplainedRecord(extent: Extent, address: bigint, type: number): Problem {
  const offset = Number(BigInt.asUintN(53, address - extent.base))
  return {
    severity: 'warning',
    code: 'unexplained-record',
    offset,
    address,
    bytes: hexBytes(extent.bytes, offset, offset + (RECORD_TYPES[type]?.width ?? 4)),
    message: `the file has a ${recordName(type)} record for this field, but its symbol and the bytes do not fit together.`,
    remedy:
      'The field is left as it is. Check it, or let the code be analysed instead of trusting the records.',
  }
}
