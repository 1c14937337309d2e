/**
 * Random objects whose every field is known: what it must hold can be computed at any time from where things
 * are, without the heap's own bookkeeping.
 */

import type { CodeInput } from '../../../src/heap/admit.ts'
import type { CodeHeap } from '../../../src/heap/heap.ts'
import type { CodeHandle } from '../../../src/heap/object.ts'
import type { SiteInput } from '../../../src/table/from-sites.ts'
import { RelocationTable } from '../../../src/table/table.ts'
import { CODE_TEMPLATES, DATA_TEMPLATES, type Template } from '../../support/templates.ts'

/** Deterministic: mulberry32. */
export function random(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

/** What a field refers to: a member of the world, or an address that nobody moves. */
export type Referent =
  | { readonly thing: Thing; readonly offset: number }
  | { readonly fixed: bigint }
  | { readonly root: RootCell }

/** A managed address, as the test's own collector knows it. */
export interface RootCell {
  address: bigint
}

interface Field {
  readonly kind: 'pc32' | 'eip32' | 'abs32' | 'abs32s' | 'abs64' | 'diff64' | 'split'
  readonly offset: number
  /** `pc32`, `eip32`: offset of the next instruction. */
  readonly next: number
  readonly to: Referent
}

/** An object and what the test knows of it. */
export interface Thing {
  readonly length: number
  readonly fields: readonly Field[]
  readonly filler: Uint8Array
  readonly align: number
  /** Bytes of instructions, where it is code that can be analysed: data follows. */
  readonly code?: number
  handle: CodeHandle | undefined
  /** Address, while it is not in the heap. */
  base: bigint
}

export const addressOf = (heap: CodeHeap, thing: Thing): bigint =>
  thing.handle === undefined ? thing.base : heap.entry(thing.handle)

const referred = (heap: CodeHeap, to: Referent): bigint =>
  'fixed' in to ? to.fixed : 'root' in to ? to.root.address : addressOf(heap, to.thing) + BigInt(to.offset)

const low32 = (value: bigint): number => Number(BigInt.asUintN(32, value))

/** The bytes that `thing` must have when it lies at `at`. */
export function expectedBytes(heap: CodeHeap, thing: Thing, at: bigint): Uint8Array {
  const bytes = thing.filler.slice()
  const view = new DataView(bytes.buffer)
  for (const { kind, offset, next, to } of thing.fields) {
    // A reference to itself goes with the copy that is looked at.
    const target = 'thing' in to && to.thing === thing ? at + BigInt(to.offset) : referred(heap, to)
    if (kind === 'pc32' || kind === 'eip32') view.setUint32(offset, low32(target - at - BigInt(next)), true)
    else if (kind === 'abs32' || kind === 'abs32s') view.setUint32(offset, low32(target), true)
    else if (kind === 'abs64') view.setBigUint64(offset, target, true)
    else if (kind === 'diff64') view.setBigInt64(offset, target - at, true)
    else {
      view.setUint32(offset, low32(target), true)
      view.setUint32(offset + 8, Number(target >> 32n), true)
    }
  }
  return bytes
}

export interface MakeOptions {
  readonly next: (below: number) => number
  readonly others: readonly Thing[]
  readonly roots: readonly RootCell[]
  /** Within reach of every place. */
  readonly fixed: bigint
  readonly base: bigint
  readonly longest?: number
}

/** A random object. `others` may be in the heap or be added with it. */
export function makeThing({ next, others, roots, fixed, base, longest = 300 }: MakeOptions): Thing {
  const length = 24 + next(longest)
  const filler = Uint8Array.from({ length }, () => next(256))
  const fields: Field[] = []
  const thing: Thing = { length, fields, filler, align: [1, 16, 32, 64][next(4)], handle: undefined, base }
  for (let at = next(20); at + 16 <= length; at += 16 + next(24)) {
    const pick = next(6)
    const some = others.length > 0 ? others[next(others.length)] : thing
    const to: Referent =
      pick === 0
        ? { fixed: fixed + BigInt(next(1000)) }
        : pick === 1
          ? { thing, offset: next(length + 1) }
          : pick === 2 && roots.length > 0
            ? { root: roots[next(roots.length)] }
            : { thing: some, offset: next(some.length) }
    const kinds =
      'root' in to ? (['abs64', 'split'] as const) : (['pc32', 'abs64', 'diff64', 'split'] as const)
    const kind = kinds[next(kinds.length)]
    // A relative field to a place of its own never changes: it is no site, and belongs to the filler.
    if ('thing' in to && to.thing === thing && (kind === 'pc32' || kind === 'diff64')) continue
    fields.push({ kind, offset: at, next: at + 4, to })
  }
  return thing
}

/** Random instructions of every encoding that has a field, with data behind; `low`: all addresses are below 2^31. */
export function makeInstructions(options: MakeOptions & { readonly low: boolean }): Thing {
  const { next, base, low } = options
  const bytes: number[] = []
  const fields: Field[] = []
  const pick = (from: readonly Template[]): Template => from[next(from.length)]
  // What a short branch goes on to is never the end, which is outside.
  const last = CODE_TEMPLATES.find(({ bytes: [first], length }) => first === 0x90 && length === 1)!
  const templates = [...Array.from({ length: 3 + next(20) }, () => pick(CODE_TEMPLATES)), last]
  const code = templates.reduce((sum, { length }) => sum + length, 0)
  // Pointers in data are aligned.
  const pad = (8 - (code % 8)) % 8
  const data = Array.from({ length: next(4) }, () => pick(DATA_TEMPLATES))
  const length = code + pad + data.reduce((sum, template) => sum + template.length, 0)
  const thing: { -readonly [K in keyof Thing]: Thing[K] } = {
    length,
    fields,
    filler: NOTHING,
    align: 16,
    code,
    handle: undefined,
    base,
  }
  // A branch into an instruction's middle would make that code as well.
  const starts = templates.map((_, i) => templates.slice(0, i).reduce((sum, each) => sum + each.length, 0))
  const own = (): Referent => ({ thing, offset: starts[next(starts.length)] })
  for (const template of [...templates, ...data]) {
    if (template.isData && bytes.length === code) bytes.push(...new Array<number>(pad).fill(0x90))
    const start = bytes.length
    const end = start + template.length
    bytes.push(...template.bytes)
    for (const { at, kind } of template.fields) {
      // Short branches go on behind themselves, and so never change.
      if (kind === 'pc8' || kind === 'pc16') continue
      const isFixed = template.isOffset || (!low && kind !== 'pc32' && kind !== 'abs64')
      const to = aim(options, own, isFixed, kind)
      fields.push({ kind: kind as Field['kind'], offset: start + at, next: end, to })
    }
  }
  while (bytes.length < length) bytes.push(0x90)
  thing.filler = Uint8Array.from(bytes)
  return thing
}

const NOTHING = new Uint8Array(0)

/** Where a field of an instruction is to point. */
function aim(
  { next, others, roots, fixed }: MakeOptions,
  own: () => Referent,
  isFixed: boolean,
  kind: string,
): Referent {
  const pick = next(6)
  if (isFixed || pick === 0) return { fixed: fixed + BigInt(next(1000)) }
  if (pick === 1 && kind === 'abs64' && roots.length > 0) return { root: roots[next(roots.length)] }
  if (pick === 2 || others.length === 0) return own()
  const thing = others[next(others.length)]
  return { thing, offset: next(thing.length) }
}

/** Whether a field of `thing` is a site: those that moves can change, and those whose target is bounded. */
const isSite = (thing: Thing, { kind, to }: Field): boolean =>
  kind === 'eip32' || kind !== 'pc32' || !('thing' in to) || to.thing !== thing

/**
 * What to add: bytes as they are at `thing.base`, with an exact table, or to be `analysed`. `moved` are all
 * other ranges that move.
 */
export function inputOf(
  heap: CodeHeap,
  thing: Thing,
  moved: readonly { readonly start: bigint; readonly length: bigint }[],
  analysed = false,
): CodeInput {
  const bytes = expectedBytes(heap, thing, thing.base)
  const { base, align, code = 0 } = thing
  if (analysed) {
    const ranges = [
      { start: 0, end: code, kind: 'code' as const },
      { start: code, end: bytes.length, kind: 'data' as const },
    ]
    return {
      bytes,
      base,
      align,
      entries: [0],
      hints: { ranges: ranges.filter(({ start, end }) => start < end) },
    }
  }
  const fields = thing.fields.filter((field) => isSite(thing, field))
  const sites = fields.map(({ kind, offset, next, to }): SiteInput => {
    if (kind === 'split')
      return {
        kind,
        pieces: [
          { offset, width: 4, shift: 0, operation: 'or' },
          { offset: offset + 8, width: 4, shift: 32, operation: 'or' },
        ],
      }
    const target = referred(heap, to)
    if (kind === 'diff64') return { kind, offset, anchor: thing.base, target }
    if (kind === 'pc32' || kind === 'eip32') return { kind, offset, target, end: next }
    return { kind, offset, target }
  })
  const table = RelocationTable.fromSites(sites, {
    code: bytes,
    base,
    moved: moved.map(({ start, length }) => ({ start, length })),
  })
  return { bytes, base, table, align, entries: [0] }
}
