/**
 * Random objects whose every field is known: what it must hold can be computed at any time from where things are, without the heap's own
 * bookkeeping.
 */

import type { CodeInput } from '../../../src/heap/admit.ts'
import type { CodeHeap } from '../../../src/heap/heap.ts'
import type { CodeHandle } from '../../../src/heap/object.ts'
import type { SiteInput } from '../../../src/table/from-sites.ts'
import { RelocationTable } from '../../../src/table/table.ts'

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
  readonly kind: 'pc32' | 'abs64' | 'diff64' | 'split'
  readonly offset: number
  readonly to: Referent
}

/** An object and what the test knows of it. */
export interface Thing {
  readonly length: number
  readonly fields: readonly Field[]
  readonly filler: Uint8Array
  readonly align: number
  handle: CodeHandle | undefined
  /** Address, while it is not in the heap. */
  base: bigint
}

export const addressOf = (heap: CodeHeap, thing: Thing): bigint =>
  thing.handle === undefined ? thing.base : heap.entry(thing.handle)

const referred = (heap: CodeHeap, to: Referent): bigint =>
  'fixed' in to ? to.fixed : 'root' in to ? to.root.address : addressOf(heap, to.thing) + BigInt(to.offset)

/** The bytes that `thing` must have when it lies at `at`. */
export function expectedBytes(heap: CodeHeap, thing: Thing, at: bigint): Uint8Array {
  const bytes = thing.filler.slice()
  const view = new DataView(bytes.buffer)
  for (const { kind, offset, to } of thing.fields) {
    // A reference to itself goes with the copy that is looked at.
    const target = 'thing' in to && to.thing === thing ? at + BigInt(to.offset) : referred(heap, to)
    if (kind === 'pc32') view.setInt32(offset, Number(target - at) - offset - 4, true)
    else if (kind === 'abs64') view.setBigUint64(offset, target, true)
    else if (kind === 'diff64') view.setBigInt64(offset, target - at, true)
    else {
      view.setUint32(offset, Number(target & 0xffff_ffffn), true)
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
    fields.push({ kind, offset: at, to })
  }
  return thing
}

/** What to add: bytes as they are at `thing.base`, with an exact table. `moved` are all other ranges that move. */
export function inputOf(
  heap: CodeHeap,
  thing: Thing,
  moved: readonly { readonly start: bigint; readonly length: bigint }[],
): CodeInput {
  const bytes = expectedBytes(heap, thing, thing.base)
  const sites = thing.fields.map(({ kind, offset, to }): SiteInput => {
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
    return kind === 'abs64' ? { kind, offset, target } : { kind, offset }
  })
  const table = RelocationTable.fromSites(sites, {
    code: bytes,
    base: thing.base,
    moved: moved.map(({ start, length }) => ({ start, length })),
  })
  return { bytes, base: thing.base, table, align: thing.align, entries: [0] }
}
