/** Runs fixtures natively at any base, each alone in the address space, and compares what two runs came to. */
import { readField, viewOf, writeField } from '../../src/core/bytes.ts'
import { type Access, PAGE_SIZE } from '../../src/heap/native/memory.ts'
import type { VeneerBytes } from '../../src/relocate/veneers.ts'
import type { Fixture, FixtureFunction } from './fixtures.ts'
import { describeResult, type NativeResult } from './native/batch.ts'
import { type NativeCall, NativeHarness } from './native/harness.ts'

/** One call as it went. */
export interface FixtureCall {
  readonly name: string
  readonly args: readonly bigint[]
  readonly result: NativeResult
  readonly rax: bigint
}

export interface FixtureRun {
  readonly base: bigint
  readonly span: number
  readonly calls: readonly FixtureCall[]
  /** Functions that were not called, with the CPU features that are missing. */
  readonly skipped: readonly { readonly name: string; readonly missing: readonly string[] }[]
}

/** What is loaded at an address for a run. */
export interface Piece {
  readonly address: bigint
  readonly length: number
  readonly access: Access
  readonly bytes: Uint8Array
}

let shared: Promise<NativeHarness> | undefined
/** Two fixtures at once would want the same addresses. */
let turn: Promise<unknown> = Promise.resolve()

/** The harness that runs fixtures, started on first use; its child does not keep the process alive. */
export function fixtureHarness(): Promise<NativeHarness> {
  shared ??= NativeHarness.start()
  return shared
}

/** Ends that harness. */
export async function closeFixtureHarness(): Promise<void> {
  const harness = await shared
  shared = undefined
  harness?.close()
}

/**
 * Runs every call of a fixture with `bytes` at `base` (and its veneers), alone in the address space but for
 * the outside, which points to where the blob is. All writable memory is as loaded before each call, and in
 * `result.memory` after it.
 */
export function runFixture(
  bytes: Uint8Array,
  base: bigint,
  fixture: Fixture,
  veneers?: VeneerBytes,
): Promise<FixtureRun> {
  const next = turn.then(() => runAlone(bytes, base, fixture, veneers))
  turn = next.catch(() => undefined)
  return next
}

async function runAlone(
  bytes: Uint8Array,
  base: bigint,
  fixture: Fixture,
  veneers: VeneerBytes | undefined,
): Promise<FixtureRun> {
  const harness = await fixtureHarness()
  try {
    const pieces = await mapPieces(harness, bytes, base, fixture, veneers)
    const writable = pieces.filter(({ access }) => access === 'rw')
    const writes = writable.map((piece) => ({ address: piece.address, bytes: piece.bytes }))
    const missing = (fn: FixtureFunction): string[] =>
      fn.needs.filter((feature) => !harness.features.includes(feature))
    const runs = fixture.functions.filter((fn) => fn.calls.length > 0)
    const calls = runs
      .filter((fn) => missing(fn).length === 0)
      .flatMap((fn) => fn.calls.map((args) => ({ fn, args })))
    const results = await harness.callFunctions(
      calls.map(({ fn, args }): NativeCall => {
        const state = harness.newState()
        if (fn.gs !== undefined) state.gsBase = fn.gs
        return { address: base + BigInt(fn.offset), args, state, writes, reads: writable }
      }),
    )
    return {
      base,
      span: fixture.span,
      calls: calls.map(({ fn, args }, i) => ({
        name: fn.name,
        args,
        result: results[i],
        rax: results[i].state.get('rax'),
      })),
      skipped: runs
        .filter((fn) => missing(fn).length > 0)
        .map((fn) => ({ name: fn.name, missing: missing(fn) })),
    }
  } finally {
    await harness.unmapAll()
  }
}

/**
 * Maps a fixture and what it reads and calls outside: again in the child that replaces one in whose way that
 * was, for its functions lie elsewhere.
 */
async function mapPieces(
  harness: NativeHarness,
  bytes: Uint8Array,
  base: bigint,
  fixture: Fixture,
  veneers: VeneerBytes | undefined,
): Promise<Piece[]> {
  for (;;) {
    const { pid } = harness
    const functions = await harness.resolve(fixture.imports.map(({ name }) => name))
    const pieces = [...blobPieces(bytes, base, fixture), ...outsidePieces(base, fixture, functions)]
    if (veneers !== undefined)
      pieces.push({ address: veneers.at, length: veneers.bytes.length, access: 'rx', bytes: veneers.bytes })
    for (const page of mapPages(pieces)) await harness.map(page.address, page.length, page.access, page.bytes)
    if (harness.pid === pid) return pieces
    await harness.unmapAll()
  }
}

/**
 * What differs between two runs of one fixture at different bases, in words. An aligned word of memory, of 8 or
 * 4 bytes, that points to the same offset of the blob in both is equal.
 */
export function compareRuns(a: FixtureRun, b: FixtureRun): string[] {
  const differences: string[] = []
  if (a.calls.length !== b.calls.length) return [`${a.calls.length} calls, ${b.calls.length} calls`]
  for (const [i, one] of a.calls.entries()) {
    const other = b.calls[i]
    const call = `${one.name}(${one.args.map(String).join(', ')})`
    if (one.result.end !== 'exit' || other.result.end !== 'exit' || one.rax !== other.rax)
      differences.push(`${call}: ${describeResult(one.result)} / ${describeResult(other.result)}`)
    for (const [k, memory] of one.result.memory.entries())
      if (!sameMemory(memory, other.result.memory[k], a, b)) differences.push(`${call}: memory ${k} differs`)
  }
  return differences
}

/** A blob's place in a run. */
type Placed = Pick<FixtureRun, 'base' | 'span'>

/** Whether two memories are equal but for words that point to the same offset of the blob. */
export function sameMemory(x: Uint8Array, y: Uint8Array, a: Placed, b: Placed): boolean {
  if (Buffer.compare(x, y) === 0) return true
  const samePlace = (offset: number, width: number): boolean => {
    if (offset + width > x.length) return false
    const from = readField(viewOf(x), offset, width)
    return (
      from >= a.base &&
      from <= a.base + BigInt(a.span) &&
      readField(viewOf(y), offset, width) - from === b.base - a.base
    )
  }
  for (let at = 0; at < x.length; at += 4) {
    const word = at - (at % 8)
    const equal = Buffer.compare(x.subarray(at, at + 4), y.subarray(at, at + 4)) === 0
    if (!equal && !samePlace(word, 8) && !samePlace(at, 4)) return false
  }
  return true
}

/** The blob's ranges, the padding between them with the one before, and its bss. */
function blobPieces(bytes: Uint8Array, base: bigint, fixture: Fixture): Piece[] {
  const pieces = fixture.ranges.map((range, i): Piece => {
    const end = fixture.ranges[i + 1]?.start ?? range.end
    return {
      address: base + BigInt(range.start),
      length: end - range.start,
      access: range.writable ? 'rw' : 'rx',
      bytes: bytes.slice(range.start, end),
    }
  })
  const bss = fixture.span - fixture.length
  if (bss > 0)
    pieces.push({
      address: base + BigInt(fixture.length),
      length: bss,
      access: 'rw',
      bytes: new Uint8Array(bss),
    })
  return pieces
}

/** The outside, its pointers into the blob set for `base`, and its imports to `functions`. */
export function outsidePieces(base: bigint, fixture: Fixture, functions: readonly bigint[]): Piece[] {
  const delta = base - fixture.links[0].base
  return fixture.outside.map(({ address, length, access, bytes: given }) => {
    const bytes = new Uint8Array(length)
    bytes.set(given)
    for (const site of fixture.outsideSites) {
      const offset = Number(site.address - address)
      if (offset < 0 || offset >= length) continue
      const view = viewOf(bytes)
      writeField(view, offset, site.width, readField(view, offset, site.width) + delta)
    }
    for (const [i, { address: slot }] of fixture.imports.entries())
      if (slot >= address && slot < address + BigInt(length))
        writeField(viewOf(bytes), Number(slot - address), 8, functions[i])
    return { address, length, access, bytes }
  })
}

/** Whole pages for the pieces: neighbours share one, and then its access must serve both. */
function mapPages(pieces: readonly Piece[]): Piece[] {
  const size = BigInt(PAGE_SIZE)
  const pages = new Map<bigint, { access: Access; bytes: Uint8Array }>()
  for (const piece of pieces)
    for (
      let at = piece.address - (piece.address % size);
      at < piece.address + BigInt(piece.length);
      at += size
    ) {
      const page = pages.get(at) ?? { access: piece.access, bytes: new Uint8Array(PAGE_SIZE) }
      page.access = joinAccess(page.access, piece.access)
      const from = Math.max(0, Number(at - piece.address))
      const part = piece.bytes.subarray(from, Number(at + size - piece.address))
      page.bytes.set(part, Number(piece.address + BigInt(from) - at))
      pages.set(at, page)
    }
  const sorted = [...pages].sort(([a], [b]) => (a < b ? -1 : 1))
  const runs: Piece[] = []
  for (const [address, { access, bytes }] of sorted) {
    const last = runs[runs.length - 1]
    if (last !== undefined && last.access === access && last.address + BigInt(last.length) === address)
      runs[runs.length - 1] = {
        ...last,
        length: last.length + PAGE_SIZE,
        bytes: Buffer.concat([last.bytes, bytes]),
      }
    else runs.push({ address, length: PAGE_SIZE, access, bytes })
  }
  return runs
}

function joinAccess(a: Access, b: Access): Access {
  if (a === b) return a
  if (a !== 'rx' && b !== 'rx') return 'rw'
  if (a === 'rw' || b === 'rw') throw new Error('a page would be writable and executable')
  return 'rx'
}
