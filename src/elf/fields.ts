/**
 * The fields of a placed object: what each of its relocation records writes, and what the value moves with.
 * Every record is the one equation
 *
 *     value = target - anchor + addend
 *
 * with the ends that its type names: S the symbol, L the stub by which it is called, G its slot in the GOT, P
 * the field itself.
 */
import { ADDRESS_LIMIT, hex, wrapAddress } from '../core/address.ts'
import type { Problem } from '../core/errors.ts'
import type { SiteInput } from '../table/from-sites.ts'
import { KIND_ROWS, kindCode, type SiteKind } from '../table/kinds.ts'
import type { Definitions } from './definitions.ts'
import { badElf } from './header.ts'
import { type Layout, type Part, SLOT_SIZE, STUB_SIZE } from './layout.ts'
import { type ObjectFile, recordsAbout } from './object.ts'
import { type Formula, RECORD_TYPES, type Record, type RecordType, recordName } from './records.ts'
import { describe, hasBytes, isCode, type Section } from './sections.ts'

/** Which symbols have a slot, a stub, room among the common ones: their numbers there. */
export interface Allotted {
  readonly slots: ReadonlyMap<number, number>
  readonly stubs: ReadonlyMap<number, number>
  readonly common: ReadonlyMap<number, number>
}

/**
 * An end of the equation: an address, and the part that it moves with; `outside` where the caller moves it,
 * `nothing` where it is a number.
 */
interface End {
  readonly address: bigint
  readonly moves: Part | 'outside' | 'nothing'
}

export interface Field {
  readonly address: bigint
  readonly width: number
  readonly value: bigint
  /** Undefined where the value is a number that nothing moves. */
  readonly site: SiteInput | undefined
  /** Where it calls or jumps to in the object itself, where its record says that it does. */
  readonly called?: bigint | undefined
}

/** An address that nothing covers. */
const NOWHERE = ADDRESS_LIMIT - 1n
const RELATIVE_KINDS: Readonly<{ [width: number]: SiteKind }> = { 1: 'pc8', 2: 'pc16', 4: 'pc32' }

const INDIRECT_JUMP = 0x25ffn

export class FieldReader {
  readonly #object: ObjectFile
  readonly #definitions: Definitions
  readonly #layout: Layout
  readonly #allotted: Allotted
  readonly #report: (problem: Problem) => void
  /** Symbols that were reported as missing, each once. */
  readonly #missing = new Set<number>()

  constructor(
    object: ObjectFile,
    definitions: Definitions,
    layout: Layout,
    allotted: Allotted,
    report: (problem: Problem) => void,
  ) {
    this.#object = object
    this.#definitions = definitions
    this.#layout = layout
    this.#allotted = allotted
    this.#report = report
  }

  /** Every field of a part, section by section; what cannot be written is reported and left out. Throws `bad-input`. */
  *fields(part: Part): Generator<Field> {
    for (const section of part.sections) {
      for (const record of recordsAbout(this.#object, section)) {
        const field = this.#read(section, record)
        if (field !== undefined) yield field
      }
      if (section === this.#layout.got) yield* this.#slots(part, section)
      if (section === this.#layout.stubs) yield* this.#stubs(section)
    }
  }

  *#slots(part: Part, got: Section): Generator<Field> {
    for (const [symbol, slot] of this.#allotted.slots) {
      const end = this.#symbol(symbol)
      const address = got.address + BigInt(slot * SLOT_SIZE)
      // Missing symbols are reported where they are used.
      if (end !== undefined) yield finish(part, { address, kind: 'abs64', width: 8 }, end, undefined, 0n)
    }
  }

  /** Each `ff 25`, distance to its slot, `cc cc`; stubs and slots are in one part. */
  *#stubs(stubs: Section): Generator<Field> {
    for (const [symbol, stub] of this.#allotted.stubs) {
      const address = stubs.address + BigInt(stub * STUB_SIZE)
      const distance = BigInt.asUintN(32, this.#slot(symbol).address - (address + 6n))
      const value = INDIRECT_JUMP | (distance << 16n) | (0xccccn << 48n)
      yield { address, width: STUB_SIZE, value, site: undefined }
    }
  }

  #read(section: Section, record: Record): Field | undefined {
    const { type: number, address: offset } = record
    if (number === 0) return undefined
    const type = RECORD_TYPES[number]
    const ends = type === undefined ? undefined : ENDS[type.formula]
    if (type === undefined || ends === undefined) {
      this.#refuse(section, record, 'unsupported-record', ...unsupported(type))
      return undefined
    }
    if (!hasBytes(section) || offset + BigInt(type.width) > BigInt(section.size))
      throw badElf(
        `is damaged: a record writes ${type.width} bytes at ${hex(offset)} of section ${describe(section)}, which has ${hasBytes(section) ? section.size : 'none'} in the file.`,
      )
    const target = this.#end(ends[0], section, record)
    const anchor = ends[1] === undefined ? undefined : this.#end(ends[1], section, record)
    if (target === undefined) return undefined
    const kind = kindOf(section, type, ends[1])
    const field = this.#field(section, record, { width: type.width, kind }, target, anchor)
    const isCall = type.formula === 'L+A-P' && typeof target.moves === 'object'
    if (field === undefined || !isCall) return field
    return { ...field, called: wrapAddress(target.address + record.addend + 4n) }
  }

  #field(
    section: Section,
    record: Record,
    { width, kind }: { readonly width: number; readonly kind: SiteKind | undefined },
    target: End,
    anchor: End | undefined,
  ): Field | undefined {
    if (kind === undefined && target.moves !== 'nothing') {
      this.#refuse(
        section,
        record,
        'unsupported-record',
        `a field of ${width} bytes cannot hold an address that moves.`,
        'Use 4 or 8 bytes.',
      )
      return undefined
    }
    const address = section.address + record.address
    const place = { address, kind: kind ?? 'abs64', width }
    const field = finish(this.#layout.partOf(section), place, target, anchor, record.addend)
    const [min, max, limit] = limits(kind, width)
    const value = min < 0n ? BigInt.asIntN(64, field.value) : field.value
    if (value >= min && value <= max) return { ...field, value }
    this.#refuse(
      section,
      record,
      'out-of-range',
      `the value would be ${hex(value)} (${hex(target.address)}${anchor === undefined ? '' : ` - ${hex(anchor.address)}`} + ${hex(record.addend)}); ${limit}.`,
      target.moves === 'outside'
        ? 'Choose a base nearer to it, or compile with -fPIC (a slot of 64 bits) or -mcmodel=large.'
        : 'Choose another base, or compile with -fPIC.',
    )
    return undefined
  }

  #end(which: EndName, section: Section, record: Record): End | undefined {
    switch (which) {
      case 'P':
        return { address: section.address + record.address, moves: this.#layout.partOf(section) }
      case 'GOT':
        return this.#inside(this.#layout.got, 0n)
      case 'size':
        return this.#size(section, record)
      default: {
        const end = this.#symbol(record.symbol)
        if (end === undefined) this.#refuseMissing(section, record)
        if (end === undefined || which === 'S') return end
        if (which === 'G') return this.#slot(record.symbol)
        const stub = this.#allotted.stubs.get(record.symbol)
        return stub === undefined ? end : this.#inside(this.#layout.stubs, BigInt(stub * STUB_SIZE))
      }
    }
  }

  #size(section: Section, record: Record): End | undefined {
    const { symbols } = this.#object
    if (symbols?.isDefined(record.symbol) === true)
      return { address: symbols.size(record.symbol), moves: 'nothing' }
    const remedy = 'Link the object with the one that defines it (`ld -r`).'
    this.#refuse(
      section,
      record,
      'missing-symbol',
      'its size is not known, because it is not defined in the object.',
      remedy,
    )
    return undefined
  }

  #inside(section: Section, offset: bigint): End {
    return { address: wrapAddress(section.address + offset), moves: this.#layout.partOf(section) }
  }

  #slot(symbol: number): End {
    return this.#inside(this.#layout.got, BigInt(this.#allotted.slots.get(symbol)! * SLOT_SIZE))
  }

  #symbol(symbol: number): End | undefined {
    const definition = this.#definitions.of(symbol)
    switch (definition.is) {
      case 'section':
        return this.#inside(this.#layout.sections[definition.section], definition.offset)
      case 'edge': {
        const section = this.#layout.sections[definition.section]
        return this.#inside(section, definition.end ? BigInt(section.size) : 0n)
      }
      case 'common': {
        const section = this.#layout.sections[this.#layout.sections.length - 1]
        return this.#inside(
          section,
          this.#layout.common[this.#allotted.common.get(symbol)!] - section.address,
        )
      }
      case 'got':
        return this.#inside(this.#layout.got, 0n)
      case 'outside':
        return { address: definition.address, moves: 'outside' }
      case 'constant':
        return { address: definition.address, moves: 'nothing' }
      case 'missing':
        return undefined
    }
  }

  #refuseMissing(section: Section, record: Record): void {
    if (this.#missing.has(record.symbol)) return
    this.#missing.add(record.symbol)
    const definition = this.#definitions.of(record.symbol)
    if (definition.is === 'missing')
      this.#refuse(section, record, 'missing-symbol', `it ${definition.why}`, definition.remedy)
  }

  #refuse(section: Section, record: Record, code: string, why: string, remedy: string): void {
    const part = this.#layout.partOf(section)
    const address = wrapAddress(section.address + record.address)
    this.#report({
      severity: 'error',
      code,
      offset: Number(BigInt.asUintN(53, address - part.base)),
      address,
      bytes: '',
      message: `${section.name || `section ${section.index}`}+${hex(record.address)}, ${recordName(record.type)}, ${this.#definitions.describe(record.symbol)}: ${why}`,
      remedy,
    })
  }
}

type EndName = 'S' | 'L' | 'G' | 'GOT' | 'P' | 'size'

/** Target and anchor of each formula; the others are about threads, or for loaders. */
const ENDS: Readonly<{ [F in Formula]?: readonly [target: EndName, anchor?: EndName] }> = {
  'S+A': ['S'],
  'S+A-P': ['S', 'P'],
  'L+A-P': ['L', 'P'],
  slot: ['G', 'P'],
  'slot-GOT': ['G', 'GOT'],
  'GOT+A-P': ['GOT', 'P'],
  'S+A-GOT': ['S', 'GOT'],
  'PLT+A-GOT': ['L', 'GOT'],
  size: ['size'],
}

function unsupported(type: RecordType | undefined): [why: string, remedy: string] {
  const { formula } = type ?? {}
  if (type === undefined)
    return ['this type of record is not known.', 'Link the object with `ld`, and give the result.']
  if (formula === 'thread' || formula === 'S+A-TP' || /TP|TLS/.test(type.name))
    return [
      'the variable is thread-local: every thread has another one, at an address that only the thread library knows.',
      'Compile with -femulated-tls, or take the address of the variable as an argument.',
    ]
  return [
    'records of this type are for loaders, no compiler writes them.',
    'Link the object with `ld`, and give the result.',
  ]
}

/** The kind of a field; undefined where a move can change no such field. */
function kindOf(
  section: Section,
  { width, kind }: RecordType,
  anchor: EndName | undefined,
): SiteKind | undefined {
  if (anchor === undefined) return kind
  if (width === 8) return 'diff64'
  return anchor === 'P' && (width < 4 || isCode(section)) ? RELATIVE_KINDS[width] : 'diff32'
}

/** What a field can hold; of a number without a kind, whatever its bits can mean. */
function limits(
  kind: SiteKind | undefined,
  width: number,
): readonly [min: bigint, max: bigint, limit: string] {
  if (kind !== undefined) {
    const { min, max, rule, limit } = KIND_ROWS[kindCode(kind)]
    return rule === 'any' ? [0n, ADDRESS_LIMIT - 1n, limit] : [min, max, limit]
  }
  const bits = BigInt(8 * width)
  return [-(1n << (bits - 1n)), (1n << bits) - 1n, `the field has ${bits} bits`]
}

/** A field with its value, modulo 2^64, and its site. */
function finish(
  part: Part,
  { address, kind, width }: { readonly address: bigint; readonly kind: SiteKind; readonly width: number },
  target: End,
  anchor: End | undefined,
  addend: bigint,
): Field {
  const value = wrapAddress(target.address - (anchor?.address ?? 0n) + addend)
  if (target.moves === 'nothing' && (anchor === undefined || anchor.moves === 'nothing'))
    return { address, width, value, site: undefined }
  const next = kind in NEXT
  const pointed = wrapAddress(target.address + addend + (next ? BigInt(width) : 0n))
  const site = {
    offset: Number(address - part.base),
    kind,
    target: moving(part, target, pointed),
    ...(anchor === undefined || next ? {} : { anchor: moving(part, anchor, anchor.address) }),
  }
  return { address, width, value, site }
}

const NEXT: Readonly<{ [K in SiteKind]?: true }> = { pc8: true, pc16: true, pc32: true }

/** An address that moves with `end`: the one that the field points at, if that does. */
function moving(part: Part, { address, moves }: End, pointed: bigint): bigint {
  if (moves === 'nothing') return NOWHERE
  if (moves === 'outside') {
    // One past the end would count as inside.
    const end = part.base + BigInt(part.span)
    return address === end ? wrapAddress(end + 1n) : address
  }
  const last = moves.base + BigInt(Math.max(moves.span, 1)) - 1n
  return pointed < moves.base ? moves.base : pointed > last ? last : pointed
}
