/**
 * The fixtures as tests use them: bytes before and after, and the linker's truth. run-fixture.ts runs them.
 * The files are described in fixtures/README.md.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { SiteKind } from '../../src/table/kinds.ts'
import type { SplitPiece } from '../../src/table/site.ts'

export interface FixtureLink {
  readonly base: bigint
  readonly bytes: Uint8Array
}

export interface FixtureRange {
  readonly start: number
  readonly end: number
  readonly kind: 'code' | 'data'
  readonly section: string
  readonly writable: boolean
}

export interface FixtureFunction {
  readonly name: string
  readonly offset: number
  readonly size: number
  /** CPU features that calling it needs, the fixture's included. */
  readonly needs: readonly string[]
  /** Where gs must be while it runs. */
  readonly gs?: bigint
  /** Integer arguments of each call; empty: not called by itself. */
  readonly calls: readonly (readonly bigint[])[]
}

/** A field whose value a move can change. `target` and `anchor` are addresses of the first link. */
export interface FixtureSite {
  readonly offset: number
  readonly kind: SiteKind
  readonly target: bigint
  readonly anchor?: bigint
  /** The next instruction's offset, where bytes follow the displacement. */
  readonly end?: number
  /** What the field holds beside the target, and the program takes off again. */
  readonly addend?: bigint
  /** Of `split`: its fields. */
  readonly pieces?: readonly SplitPiece[]
  /** False where the target does not move with the blob: then the field must stay as it is. */
  readonly changes: boolean
}

/** A part of the outside: where it is and, where it has any, its bytes at the first link. */
export interface FixtureOutside {
  readonly section: string
  readonly address: bigint
  readonly length: number
  readonly access: 'r' | 'rw' | 'rx'
  readonly bytes: Uint8Array
}

export interface Fixture {
  readonly name: string
  readonly notes: string
  readonly layout: 'text' | 'image' | 'mixed' | 'closed'
  /** False where no process can have the addresses. */
  readonly runnable: boolean
  readonly needs: readonly string[]
  /** Path of the ELF file of the first link, where it is kept. */
  readonly elf?: string
  /** Bytes of the blob; `span` (what moves) is longer where bss follows. */
  readonly length: number
  readonly span: number
  /** The linker's output at each base: at least two. */
  readonly links: readonly FixtureLink[]
  readonly ranges: readonly FixtureRange[]
  readonly functions: readonly FixtureFunction[]
  /** Data inside code ranges, as far as the source says so. */
  readonly objectsInCode: readonly { readonly name: string; readonly offset: number; readonly size: number }[]
  /** Offsets of all functions. */
  readonly entries: readonly number[]
  readonly sites: readonly FixtureSite[]
  readonly outside: readonly FixtureOutside[]
  /** Words outside that hold the addresses of functions of the C library. */
  readonly imports: readonly { readonly name: string; readonly address: bigint }[]
  /** Words outside that point into the blob and gain the move's delta. */
  readonly outsideSites: readonly { readonly address: bigint; readonly width: number }[]
}

export const FIXTURES_FOLDER: string = fileURLToPath(new URL('../../fixtures/', import.meta.url))

/** The record as JSON has it: addresses are hex text. */
type Raw<T> = { readonly [K in keyof T]: T[K] extends bigint | undefined ? string : T[K] }

interface RawFixture {
  readonly format: string
  readonly name: string
  readonly notes: string
  readonly layout: Fixture['layout']
  readonly runnable: boolean
  readonly needs: readonly string[]
  readonly elf?: string
  readonly length: number
  readonly span: number
  readonly links: readonly { readonly file: string; readonly base: string }[]
  readonly ranges: readonly (Omit<FixtureRange, 'writable'> & { readonly writable?: boolean })[]
  readonly functions: readonly {
    readonly name: string
    readonly offset: number
    readonly size: number
    readonly needs?: readonly string[]
    readonly gs?: string
    readonly calls: readonly (readonly string[])[]
  }[]
  readonly objectsInCode: Fixture['objectsInCode']
  readonly entries: readonly number[]
  readonly sites: readonly Raw<FixtureSite>[]
  readonly outside: readonly (Omit<Raw<FixtureOutside>, 'bytes'> & { readonly fileOffset?: number })[]
  readonly imports?: readonly { readonly name: string; readonly address: string }[]
  readonly outsideSites: readonly { readonly address: string; readonly width: number }[]
}

/** All fixtures, by name. */
export function loadFixtures(): Fixture[] {
  return readdirSync(FIXTURES_FOLDER)
    .filter((name) => existsSync(join(FIXTURES_FOLDER, name, 'fixture.json')))
    .sort()
    .map(loadFixture)
}

export function loadFixture(name: string): Fixture {
  const file = (part: string): string => join(FIXTURES_FOLDER, name, part)
  const load = (part: string): Uint8Array => new Uint8Array(readFileSync(file(part)))
  const raw = JSON.parse(readFileSync(file('fixture.json'), 'utf8')) as RawFixture
  if (raw.format !== 'x64-reloc fixture 1') throw new Error(`${name}: format ${raw.format}`)
  const outsideFile = raw.outside.some(({ fileOffset }) => fileOffset !== undefined)
    ? load('outside.bin')
    : new Uint8Array(0)
  const { elf, ...plain } = raw
  return {
    ...plain,
    ...(elf === undefined ? {} : { elf: file(elf) }),
    links: raw.links.map((link) => ({ base: BigInt(link.base), bytes: load(link.file) })),
    ranges: raw.ranges.map((range) => ({ ...range, writable: range.writable ?? false })),
    functions: raw.functions.map(({ needs = [], gs, calls, ...rest }) => ({
      ...rest,
      needs: [...raw.needs, ...needs],
      ...(gs === undefined ? {} : { gs: BigInt(gs) }),
      calls: calls.map((args) => args.map(BigInt)),
    })),
    sites: raw.sites.map(({ target, anchor, end, addend, ...rest }) => ({
      ...rest,
      ...(addend === undefined ? {} : { addend: BigInt(addend) }),
      target: BigInt(target),
      ...(anchor === undefined ? {} : { anchor: BigInt(anchor) }),
      ...(end === undefined ? {} : { end }),
    })),
    outside: raw.outside.map(({ address, fileOffset, ...rest }) => ({
      ...rest,
      address: BigInt(address),
      bytes:
        fileOffset === undefined
          ? new Uint8Array(0)
          : outsideFile.subarray(fileOffset, fileOffset + rest.length),
    })),
    imports: (raw.imports ?? []).map(({ name, address }) => ({ name, address: BigInt(address) })),
    outsideSites: raw.outsideSites.map(({ address, width }) => ({ address: BigInt(address), width })),
  }
}
