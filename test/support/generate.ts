/**
 * Generated code whose addresses are known: random instructions and data words from templates, at bases
 * anywhere in 64 bits, with targets inside, outside, at the ends and in other ranges that move. The truth is
 * what the templates say, by a few lines of arithmetic of their own.
 */
import fc from 'fast-check'
import type { RangeHint } from '../../src/analyze/hints.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import type { SiteKind } from '../../src/table/kinds.ts'
import { CODE_TEMPLATES, DATA_TEMPLATES, DIFFERENCE_TEMPLATES, type Template } from './templates.ts'

const LIMIT = 1n << 64n
export const wrap = (value: bigint): bigint => BigInt.asUintN(64, value)
export const signed = (value: bigint): bigint => BigInt.asIntN(64, value)

/** A range that moves: the blob (index 0) or another. */
export interface GeneratedRange {
  readonly start: bigint
  readonly length: bigint
}

/** One address field. */
export interface Field {
  readonly offset: number
  readonly kind: SiteKind
  readonly width: number
  /** Offset of the instruction that holds it, and of the next; of a data word: its own. */
  readonly start: number
  readonly next: number
  readonly isData: boolean
  /** Where the field points. */
  readonly target: bigint
  /** Index of the range that the target moves with, -1: none. */
  readonly place: number
  /** diff kinds: what the value is measured from. */
  readonly anchor?: bigint
  readonly anchorPlace?: number
}

export interface Program {
  readonly code: Uint8Array
  readonly base: bigint
  readonly span: number
  /** The blob's own range first. */
  readonly ranges: readonly GeneratedRange[]
  readonly hints: readonly RangeHint[]
  /** Offsets of the instructions. */
  readonly starts: readonly number[]
  readonly fields: readonly Field[]
  /** A number was meant that lies in a range which may move: nobody could tell it from an address. */
  readonly ambiguous: boolean
}

/** Where a field is to point: at one of the interesting places of a range, at a number. */
interface Aim {
  readonly where: 'start' | 'end' | 'before' | 'behind' | 'inside' | 'number'
  readonly range: number
  readonly by: number
}

const aim: fc.Arbitrary<Aim> = fc.record({
  where: fc.constantFrom('start', 'end', 'before', 'behind', 'inside', 'inside', 'number', 'number'),
  range: fc.nat(2),
  by: fc.nat(0x7fff_ffff),
})

/** Interesting places in the address space, anywhere in 64 bits. */
export const address: fc.Arbitrary<bigint> = fc
  .tuple(
    fc.constantFrom(
      0x1000n,
      0x40_0000n,
      0x7ff0_0000n,
      0x8000_0000n,
      0xffff_0000n,
      0x1_0000_0000n,
      0x7fff_f000_0000n,
      0x7fff_ffff_f000n,
      0xffff_8000_0000_0000n,
      0x7fff_ffff_ffff_0000n,
      0xffff_ffff_8000_0000n,
      0xffff_ffff_ffff_0000n,
      0x1234_5678_9abc_0000n,
    ),
    fc.nat(0xffff),
  )
  .map(([place, by]) => place + BigInt(by))

interface Seed {
  readonly base: bigint
  readonly segments: readonly (readonly (readonly [template: Template, aims: readonly Aim[]])[])[]
  readonly more: number
  readonly others: readonly { readonly adjoin: boolean; readonly by: bigint; readonly length: number }[]
}

const item = (templates: readonly Template[]): fc.Arbitrary<readonly [Template, readonly Aim[]]> =>
  fc.tuple(fc.constantFrom(...templates), fc.array(aim, { minLength: 4, maxLength: 4 }))

const seed = (differences: boolean): fc.Arbitrary<Seed> => {
  const code = fc.array(item(CODE_TEMPLATES), { minLength: 1, maxLength: 24 })
  const data = fc.array(item(differences ? [...DATA_TEMPLATES, ...DIFFERENCE_TEMPLATES] : DATA_TEMPLATES), {
    maxLength: 5,
  })
  return fc.record({
    base: address,
    segments: fc.tuple(code, data, code, data),
    more: fc.constantFrom(0, 0, 1, 64),
    others: fc.array(
      fc.record({
        adjoin: fc.boolean(),
        by: fc.oneof(fc.bigInt(-0x4000_0000n, 0x4000_0000n), fc.bigInt(-(1n << 62n), 1n << 62n)),
        length: fc.integer({ min: 1, max: 0x200 }),
      }),
      { maxLength: 2 },
    ),
  })
}

/** A program. `differences`: with words that hold the distance of two addresses, which only `fromSites` can know. */
export const program = (options: { readonly differences?: boolean } = {}): fc.Arbitrary<Program> =>
  seed(options.differences ?? false)
    .map(assemble)
    .filter((made) => made !== undefined)

/** Index of the range that `target` moves with, -1: none. */
function placeOf(ranges: readonly GeneratedRange[], target: bigint, endInside: boolean): number {
  const inside = ranges.findIndex(({ start, length }) => target >= start && target < start + length)
  if (inside >= 0 || !endInside) return inside
  return ranges.findIndex(({ start, length }) => target === start + length)
}

function assemble({ base: wished, segments, more, others }: Seed): Program | undefined {
  const items: { template: Template; aims: readonly Aim[]; start: number }[] = []
  const hints: RangeHint[] = []
  const pads: number[] = []
  let base = wished
  let length = 0
  segments.forEach((segment, i) => {
    const isData = i % 2 === 1
    // Pointers in data are aligned.
    while (isData && segment.length > 0 && (base + BigInt(length)) % 8n !== 0n) pads.push(length++)
    const start = length
    for (const [template, aims] of segment) {
      items.push({ template, aims, start: length })
      length += template.length
    }
    if (length > start) hints.push({ start, end: length, kind: isData ? 'data' : 'code' })
  })
  const span = length + more
  if (base + BigInt(span) > LIMIT) base = wished - 0x1_0000n
  const ranges = [{ start: base, length: BigInt(span) }]
  for (const { adjoin, by, length: size } of others) {
    const start = adjoin ? (by < 0n ? base - BigInt(size) : base + BigInt(span)) : wrap(base + by)
    const fits = start >= 0n && start + BigInt(size) <= LIMIT
    const isFree = ranges.every(
      (other) => start >= other.start + other.length || start + BigInt(size) <= other.start,
    )
    if (fits && isFree) ranges.push({ start, length: BigInt(size) })
  }
  const code = new Uint8Array(length)
  const view = new DataView(code.buffer)
  for (const pad of pads) code[pad] = 0x90
  const fields: Field[] = []
  // One of the words that are no addresses is all ones.
  let ambiguous = placeOf(ranges, LIMIT - 1n, true) >= 0
  for (const { template, aims, start } of items) {
    code.set(template.bytes, start)
    template.fields.forEach((field, i) => {
      const place = { base, ranges, template, start, view, field }
      const made = aimField(place, aims[2 * i], aims[2 * i + 1])
      fields.push(made.field)
      ambiguous ||= made.ambiguous
    })
  }
  const starts = items.filter(({ template }) => !template.isData).map(({ start }) => start)
  return { code, base, span, ranges, hints, starts, fields, ambiguous }
}

/** The address that an aim means. */
function aimed(ranges: readonly GeneratedRange[], { where, range, by }: Aim): bigint {
  const { start, length } = ranges[range % ranges.length]
  switch (where) {
    case 'start':
      return start
    case 'end':
      return wrap(start + length)
    case 'before':
      return wrap(start - 1n - BigInt(by >> 8))
    case 'behind':
      return wrap(start + length + 1n + BigInt(by >> 8))
    case 'inside':
      return start + (BigInt(by) % length)
    default:
      return BigInt(by)
  }
}

interface FieldPlace {
  readonly base: bigint
  readonly ranges: readonly GeneratedRange[]
  readonly template: Template
  readonly start: number
  readonly view: DataView
  readonly field: Template['fields'][number]
}

/** Writes the field's value, and says where it points then: at what was aimed at, if the field can. */
function aimField(
  { base, ranges, template, start, view, field: { at, kind, width } }: FieldPlace,
  first: Aim,
  second: Aim,
): { field: Field; ambiguous: boolean } {
  const offset = start + at
  const next = start + template.length
  const bits = 8 * width
  const write = (value: bigint): void => {
    for (let i = 0; i < width; i++) view.setUint8(offset + i, Number((value >> BigInt(8 * i)) & 0xffn))
  }
  const common = { offset, kind, width, start, next, isData: template.isData }
  const wanted = aimed(ranges, first)
  if (kind.startsWith('diff')) {
    const anchor = aimed(ranges, second)
    // Whatever the field holds beyond target - anchor is its addend.
    write(wanted - anchor)
    const anchorPlace = placeOf(ranges, anchor, false)
    const place = placeOf(ranges, wanted, true)
    return { field: { ...common, target: wanted, place, anchor, anchorPlace }, ambiguous: false }
  }
  if (kind.startsWith('pc') || kind === 'eip32') {
    const origin = base + BigInt(next)
    const isEip = kind === 'eip32'
    let value = signed(wanted - origin)
    if (isEip || value !== BigInt.asIntN(bits, value)) value = BigInt.asIntN(bits, value)
    write(value)
    const target = isEip ? BigInt.asUintN(32, origin + value) : wrap(origin + value)
    const place = template.isOffset ? -1 : placeOf(ranges, target, template.isLea)
    return { field: { ...common, target, place }, ambiguous: false }
  }
  const value =
    kind === 'abs64' ? wanted : kind === 'abs32' ? BigInt.asUintN(32, wanted) : BigInt.asIntN(32, wanted)
  write(value)
  const target = wrap(value)
  const place = placeOf(ranges, target, true)
  const meant = first.where !== 'number' && target === wanted
  return { field: { ...common, target, place }, ambiguous: place >= 0 && !meant }
}

/** What the anchor of a field moves with. */
export const anchorOf = (field: Field): number =>
  field.anchor !== undefined ? field.anchorPlace! : isRelative(field) ? 0 : -1

export const isRelative = (field: Field): boolean => field.kind.startsWith('pc') || field.kind === 'eip32'

/** The fields that moves of the ranges can change, and those whose target is bounded. */
export const trueFields = (made: Program): Field[] =>
  made.fields.filter((field) => field.place !== anchorOf(field) || field.kind === 'eip32')

/** An address that moves with nothing. */
function outsideOf(made: Program, kind: SiteKind): bigint {
  for (let candidate = 0x100n; ; candidate += 0x1_0001n)
    if (placeOf(made.ranges, candidate, true) < 0 && (kind !== 'eip32' || candidate < 1n << 32n))
      return candidate
}

/** The truth as input for `fromSites`: by the targets that the fields show, but for what their bytes cannot tell. */
export const trueSites = (made: Program): SiteInput[] =>
  trueFields(made).map((field): SiteInput => {
    const { offset, kind, next, target, anchor } = field
    if (anchor !== undefined) return { offset, kind, target, anchor }
    if (!isRelative(field)) return { offset, kind }
    const shown = placeOf(made.ranges, target, false) === field.place
    if (shown) return { offset, kind, end: next }
    // The end of a range by `lea` (an address inside says the same), or an offset into a segment.
    const range = made.ranges[field.place]
    return { offset, kind, end: next, target: range === undefined ? outsideOf(made, kind) : range.start }
  })

/** The hints' code ranges as runs. */
export const trueRuns = (made: Program): { start: number; end: number }[] =>
  made.hints.filter(({ kind }) => kind === 'code').map(({ start, end }) => ({ start, end }))

/** New places of the ranges, disjoint; undefined where the deltas give none. */
export function moveRanges(
  ranges: readonly GeneratedRange[],
  deltas: readonly bigint[],
): { from: bigint; to: bigint; length: bigint }[] | undefined {
  const moves = ranges.map(({ start, length }, i) => ({ from: start, to: wrap(start + deltas[i]), length }))
  const fit = moves.every(({ to, length }) => to + length <= LIMIT)
  const apart = moves.every((a, i) =>
    moves.every((b, k) => i === k || a.to >= b.to + b.length || a.to + a.length <= b.to),
  )
  return fit && apart ? moves : undefined
}

/** Deltas for up to three ranges: none, small, within a field's reach, from place to place, anything. */
export const deltas: fc.Arbitrary<bigint[]> = fc.array(
  fc.oneof(
    fc.constantFrom(0n, 0n, 1n, -1n, 0x10n, -0x10n, 0x1000n, 0x10_0000n, -0x1000n),
    fc.bigInt(-0x4000_0000n, 0x4000_0000n),
    fc.bigInt(-(1n << 33n), 1n << 33n),
    fc.bigInt(-(1n << 63n), (1n << 63n) - 1n),
  ),
  { minLength: 3, maxLength: 3 },
)

/** Whether every field can hold its value after the ranges went by `by`. */
export const canMove = (made: Program, by: readonly bigint[]): boolean =>
  trueFields(made).every((field) => {
    const shift = (place: number): bigint => (place < 0 ? 0n : by[place])
    if (field.kind === 'eip32') return wrap(field.target + shift(field.place)) < 1n << 32n
    if (field.width === 8) return true
    const bits = 8 * field.width
    const raw = fieldBits(made.code, field)
    const isUnsigned = field.kind === 'abs32' || field.kind === 'diff32u'
    const old = isUnsigned ? raw : BigInt.asIntN(bits, raw)
    const now = old + signed(shift(field.place) - shift(anchorOf(field)))
    return now === (isUnsigned ? BigInt.asUintN(bits, now) : BigInt.asIntN(bits, now))
  })

/** The field's bits in `code`, unsigned. */
export function fieldBits(code: Uint8Array, { offset, width }: Pick<Field, 'offset' | 'width'>): bigint {
  let bits = 0n
  for (let i = width - 1; i >= 0; i--) bits = (bits << 8n) | BigInt(code[offset + i])
  return bits
}

/** Asserts that `property` holds of what `arbitrary` makes: it throws where it does not. */
export const check = <T>(arbitrary: fc.Arbitrary<T>, property: (value: T) => void, numRuns = 300): void =>
  fc.assert(
    fc.property(arbitrary, (value) => property(value)),
    { numRuns },
  )
