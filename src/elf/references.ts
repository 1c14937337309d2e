/**
 * What the linker's kept records say about the fields of a section, by the records and the bytes together.
 *
 * A record gives the formula, the symbol S and the addend A; the bytes give the value. Solving the formula
 * for S tells whether both agree. Where they do, S says what the value moves with, even if the value itself
 * lies elsewhere (biased, one past the end). They disagree where the linker made another instruction of the
 * one that the record was for (no slot needed), went through a stub (PLT), or merged strings; each of these
 * leaves its own trace. What no reading explains is reported, never guessed.
 */
import { wrapAddress } from '../core/address.ts'
import { readField } from '../core/bytes.ts'
import type { SiteKind } from '../table/kinds.ts'
import type { ElfFile } from './file.ts'
import { PT_TLS } from './header.ts'
import { isFixed, RECORD_TYPES, type Record, type RecordType, TLSGD, TLSLD } from './records.ts'
import { isCode, isGot, isStub, type Section, sectionAt } from './sections.ts'
import { STT_SECTION, type SymbolTable } from './symbols.ts'

/** A field that holds an address or a difference of two. */
export interface Reference {
  /** Of the field. */
  readonly address: bigint
  readonly kind: SiteKind
  readonly width: number
  /** The address that the value stands for (relative to the field's end for pc kinds). */
  readonly pointed: bigint
  /** S. */
  readonly symbolValue: bigint
  /** Whether S is a symbol that names one thing, not a whole section. */
  readonly named: boolean
  /** The section that S is in; undefined where nothing moves it. */
  readonly section: Section | undefined
  /** diff kinds: what the value is measured from. */
  readonly anchor: bigint | undefined
  /** The GOT slot that the field leads to, where the linker keeps a number there and no address. */
  readonly constantSlot: bigint | undefined
}

/** A field before it is known what its value moves with. */
type Field = Pick<Reference, 'address' | 'kind' | 'width' | 'pointed' | 'anchor'>

const referTo = (
  { address, kind, width, pointed, anchor }: Field,
  symbolValue: bigint,
  named: boolean,
  section: Section | undefined,
  constantSlot?: bigint,
): Reference => ({ address, kind, width, pointed, symbolValue, named, section, anchor, constantSlot })

/**
 * Why a record gave no reference: `fixed`, it holds no address; `unexplained`, record and bytes do not fit together.
 */
export type Outcome = Reference | 'fixed' | 'unexplained'

const RELATIVE_KINDS: Readonly<{ [width: number]: SiteKind }> = { 1: 'pc8', 2: 'pc16', 4: 'pc32' }

/** Reads the records of one section. */
export class ReferenceReader {
  readonly #elf: ElfFile
  readonly #symbols: SymbolTable
  readonly #section: Section
  /** Address of byte 0 of the section less its position in the file. */
  readonly #bias: bigint
  readonly #end: bigint
  #removedCall = false

  constructor(elf: ElfFile, symbols: SymbolTable, section: Section) {
    this.#elf = elf
    this.#symbols = symbols
    this.#section = section
    this.#bias = section.address - BigInt(section.offset)
    this.#end = section.address + BigInt(section.size)
  }

  /** Records must come in the order of the file: the one behind a removed thread-local call goes with it. */
  read(record: Record): Outcome {
    const type = RECORD_TYPES[record.type]
    const removed = this.#removedCall
    this.#removedCall = false
    if (removed || type === undefined || record.address < this.#section.address)
      return removed ? 'fixed' : 'unexplained'
    if (isFixed(type)) return 'fixed'
    if (record.address + BigInt(type.width) > this.#end) return 'unexplained'
    switch (type.formula) {
      case 'S+A':
        return this.#absolute(record, type)
      case 'S+A-P':
      case 'L+A-P':
        return this.#relative(record, type.width)
      case 'slot':
        return this.#slot(record, type.width)
      case 'thread':
        return this.#thread(record)
      case 'S+A-TP':
        return this.#missingThread(record, record.address)
      case 'GOT+A-P':
        return this.#gotDistance(record, type.width)
      case 'S+A-GOT':
      case 'PLT+A-GOT':
        return this.#gotOffset(record)
      default:
        return 'unexplained'
    }
  }

  /** The signed field at `address`. */
  #value(address: bigint, width: number): bigint {
    return BigInt.asIntN(8 * width, this.#bits(address, width))
  }
  #bits(address: bigint, width: number): bigint {
    return readField(this.#elf.view, Number(address - this.#bias), width)
  }
  /** The byte at `address`, -1 before the section. */
  #byte(address: bigint): number {
    return address < this.#section.address ? -1 : Number(this.#bits(address, 1))
  }

  #absolute(record: Record, { width, kind }: RecordType): Outcome {
    if (kind === undefined) return this.#symbolSection(record.symbol) === undefined ? 'fixed' : 'unexplained'
    const value = kind === 'abs32s' ? this.#value(record.address, 4) : this.#bits(record.address, width)
    return this.#explain(record, wrapAddress(value - record.addend), {
      address: record.address,
      kind,
      width,
      pointed: wrapAddress(value),
      anchor: undefined,
    })
  }

  #relative(record: Record, width: number): Outcome {
    const { address, addend } = record
    const value = this.#value(address, width)
    return this.#explain(record, wrapAddress(value + address - addend), this.#distance(address, width, value))
  }

  /** A distance from the field itself: an operand in code, a plain difference in data. */
  #distance(address: bigint, width: number, value: bigint): Field {
    if (width < 8 && (width < 4 || isCode(this.#section))) {
      const pointed = wrapAddress(address + BigInt(width) + value)
      return { address, kind: RELATIVE_KINDS[width], width, pointed, anchor: undefined }
    }
    const kind = width === 8 ? 'diff64' : 'diff32'
    return { address, kind, width, pointed: wrapAddress(address + value), anchor: address }
  }

  /** `field` with what S is, where the bytes (by which S is `solved`) and the record agree. */
  #explain({ symbol }: Record, solved: bigint, field: Field): Outcome {
    const named = this.#symbols.type(symbol) !== STT_SECTION
    if (!this.#symbols.isDefined(symbol)) {
      // An undefined symbol without a stub is a weak one: 0, wherever the code is.
      if (solved === 0n) return referTo(field, 0n, named, undefined)
      const at = sectionAt(this.#elf.loadedSections, solved)
      return at === undefined ? 'unexplained' : referTo(field, solved, false, at)
    }
    const home = this.#symbolSection(symbol)
    if (solved === this.#symbols.value(symbol)) return referTo(field, solved, named, home)
    const at = sectionAt(this.#elf.loadedSections, solved)
    if (at !== undefined && isStub(at)) return referTo(field, solved, false, at)
    if (!named && home !== undefined && sectionAt(this.#elf.loadedSections, field.pointed) === home)
      return referTo(field, home.address, named, home)
    return 'unexplained'
  }

  /** The section that a symbol is defined in; undefined for absolute and undefined ones. */
  #symbolSection(symbol: number): Section | undefined {
    const home = this.#symbols.home(symbol)
    return home === undefined ? undefined : this.#elf.sections[home]
  }

  #slot(record: Record, width: number): Outcome {
    const { address, addend, symbol } = record
    const value = this.#value(address, width)
    const s = this.#symbols.value(symbol)
    const defined = this.#symbols.isDefined(symbol)
    if (width === 4 && defined) {
      // `lea sym(%rip)` or `call sym` instead of `mov sym@GOT(%rip)`, `call *sym@GOT(%rip)`.
      if (wrapAddress(value + address - addend) === s) return this.#relative(record, 4)
      // `jmp sym; nop` instead of `jmp *sym@GOT(%rip)`: the field is one byte earlier.
      if (this.#byte(address - 2n) === 0xe9 && wrapAddress(this.#value(address - 1n, 4) + address + 3n) === s)
        return this.#relative({ ...record, address: address - 1n, addend: -4n }, 4)
      // An immediate instead of the slot: ModRM names a register (`mov $sym`, `test`, `add` and the like).
      if (this.#byte(address - 1n) >= 0xc0 && wrapAddress(value) === s)
        return this.#absolute({ ...record, addend: 0n }, RECORD_TYPES[11]!)
      if (this.#byte(address - 1n) >= 0xc0 && this.#bits(address, 4) === s)
        return this.#absolute({ ...record, addend: 0n }, RECORD_TYPES[10]!)
    }
    return this.#toSlot(
      address,
      width,
      value,
      wrapAddress(value + address - addend),
      defined && this.#symbols.home(symbol) === undefined,
    )
  }

  /** A field that leads to the GOT slot at `slot`, if one is there; `constant`: it holds no address. */
  #toSlot(address: bigint, width: number, value: bigint, slot: bigint, constant: boolean): Outcome {
    const section = sectionAt(this.#elf.loadedSections, slot)
    if (section === undefined || !isGot(section)) return 'unexplained'
    return referTo(this.#distance(address, width, value), slot, false, section, constant ? slot : undefined)
  }

  #thread(record: Record): Outcome {
    const { address, addend, type } = record
    const value = this.#value(address, 4)
    const kept = this.#toSlot(address, 4, value, wrapAddress(value + address - addend), true)
    if (kept !== 'unexplained') return kept
    // No slot: the offset from the thread pointer is in the code. Both calls of __tls_get_addr are followed
    // by the call's own record.
    this.#removedCall = type === TLSGD || type === TLSLD
    // Or a slot with that offset: `mov %fs:0,%rax; add sym@gottpoff(%rip),%rax` in place of the call, 8 bytes on.
    const add = address + 5n
    const long = type === TLSGD && add + 7n <= this.#end
    if (!long || this.#bits(add, 3) !== ADD_RIP)
      return this.#missingThread(record, long ? address + 8n : address)
    const moved = this.#value(address + 8n, 4)
    return this.#toSlot(address + 8n, 4, moved, wrapAddress(moved + address + 12n), true)
  }

  /**
   * The offset from the thread pointer of a weak variable that nobody defines: 0 - TP, for code that never
   * runs, but with an address in it. Of variables that exist it is a constant.
   */
  #missingThread({ symbol, addend }: Record, address: bigint): Outcome {
    const storage = this.#elf.segments.find(({ type }) => type === PT_TLS)
    if (storage === undefined || this.#symbols.isDefined(symbol)) return 'fixed'
    const { align } = storage
    const end = align > 1n ? ((storage.end + align - 1n) / align) * align : storage.end
    // A record for a slot has an addend that makes up for the distance from the field's end; the offset has none.
    const offset = this.#value(address, 4) + end
    if (offset !== 0n && offset !== addend) return 'fixed'
    return referTo(
      { address, kind: 'diff32', width: 4, pointed: 0n, anchor: storage.address },
      0n,
      false,
      undefined,
    )
  }

  #gotDistance({ address, addend }: Record, width: number): Outcome {
    const value = this.#value(address, width)
    const got = wrapAddress(value + address - addend)
    const section = this.#gotSection(got)
    if (section === undefined) return 'unexplained'
    return referTo(this.#distance(address, width, value), got, false, section)
  }

  #gotOffset(record: Record): Outcome {
    const { address, addend, symbol } = record
    const value = this.#bits(address, 8)
    // The record tells S, and the bytes then where the GOT is: that it is there shows that both agree. A stub
    // is no such S, not even where the symbol is defined: another file may define it too.
    const bases = [wrapAddress(this.#symbols.value(symbol) + addend - value), this.#gotBase()]
    const got = bases
      .slice(this.#symbols.isDefined(symbol) ? 0 : 1)
      .find((base) => base !== undefined && this.#gotSection(base) !== undefined)
    if (got === undefined) return 'unexplained'
    const field = {
      address,
      kind: 'diff64',
      width: 8,
      pointed: wrapAddress(value + got),
      anchor: got,
    } as const
    return this.#explain(record, wrapAddress(value + got - addend), field)
  }

  /** Where offsets from the GOT count from. */
  #gotBase(): bigint | undefined {
    const { loadedSections } = this.#elf
    return (
      loadedSections.find((section) => section.name === '.got.plt') ??
      loadedSections.find((section) => section.name === '.got')
    )?.address
  }

  /** The GOT section that `address` is in or at the end of. */
  #gotSection(address: bigint): Section | undefined {
    const { loadedSections } = this.#elf
    const section = sectionAt(loadedSections, address) ?? sectionAt(loadedSections, wrapAddress(address - 1n))
    return section !== undefined && isGot(section) ? section : undefined
  }
}

/** `48 03 05`: add disp32(%rip),%rax */
const ADD_RIP = 0x05_03_48n
