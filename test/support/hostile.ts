/**
 * Damaged inputs: ELF files, object files, tables in both forms and hints, changed at random from ones that
 * are whole, and what must hold of each: it is read, or it is refused with a sentence (RelocError), soon;
 * nothing else may be thrown.
 */
import { readFileSync } from 'node:fs'
import { analyze } from '../../src/analyze/analyze.ts'
import type { Hints } from '../../src/analyze/hints.ts'
import { RelocError } from '../../src/core/errors.ts'
import { type BlobChoice, blobFromElf, tableFromElf } from '../../src/elf/blob.ts'
import { readElf } from '../../src/elf/file.ts'
import { type PlaceOptions, placeObject } from '../../src/elf/place.ts'
import { symbolLines } from '../../src/elf/symbol-list.ts'
import { bytesOfHex } from '../../src/table/binary.ts'
import { contentHash } from '../../src/table/hash.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { objectBytes } from './placed.ts'
import { numbers, randomTable } from './tables.ts'

type Random = (below: number) => number

export const INPUT_KINDS = ['elf', 'object', 'binary table', 'JSON table', 'hints'] as const
export type InputKind = (typeof INPUT_KINDS)[number]

export interface Outcome {
  readonly kind: InputKind
  /** `read`, or the code of the error that refused it. */
  readonly result: string
  readonly milliseconds: number
}

/**
 * Makes the damaged input number `index` of `seed`, reads it, and says what came of it. Throws what a reader
 * must not throw.
 */
export function tryDamaged(seed: number, index: number): Outcome {
  const next = numbers(seed + 0x9e37_79b9 * index)
  const kind = INPUT_KINDS[index % INPUT_KINDS.length]
  const read = DAMAGE[kind](next)
  const started = performance.now()
  let result = 'read'
  try {
    read()
  } catch (error) {
    if (!(error instanceof RelocError)) throw error
    if (error.message.length < 20 || !/[.)]$/.test(error.message))
      throw new Error(`This is no sentence: ${error.message}`)
    result = error.code
  }
  return { kind, result, milliseconds: performance.now() - started }
}

const ELF_FILES = ['static-400000', 'text-400000', 'pie-400000', 'packed-400000'].map(
  (name) => new Uint8Array(readFileSync(new URL(`../../fixtures/elf/${name}.elf`, import.meta.url))),
)
const OBJECT_FILE = objectBytes()
const CHOICES: readonly BlobChoice[] = [{}, { image: true }, { symbol: 'main' }, { section: '.eh_frame' }]

const pick = <T>(next: Random, list: readonly T[]): T => list[next(list.length)]

/** Numbers that readers stumble over. */
const oddNumber = (next: Random, length: number): bigint =>
  pick(next, [
    0n,
    1n,
    BigInt(next(256)),
    BigInt(next(length + 1)),
    BigInt(length) + BigInt(next(3)) - 1n,
    0xffffn,
    0x7fff_ffffn,
    0xffff_ffffn,
    0x1_0000_0000n,
    (1n << 53n) + 1n,
    1n << 63n,
    (1n << 64n) - BigInt(1 + next(64)),
    (BigInt(next(2 ** 32)) << 32n) | BigInt(next(2 ** 32)),
  ])

/** Changes 1 to 4 places: a byte, a field of any width, a copy of another place, or the end. */
function damage(whole: Uint8Array, next: Random): Uint8Array {
  let bytes = whole.slice()
  for (let rest = 1 + next(4); rest > 0 && bytes.length > 0; rest--) {
    const at = next(bytes.length)
    const width = pick(next, [1, 2, 4, 8])
    switch (next(6)) {
      case 0:
        bytes[at] ^= 1 << next(8)
        break
      case 1:
        bytes.copyWithin(at, next(bytes.length), next(bytes.length))
        break
      case 2:
        if (next(4) === 0) bytes = bytes.slice(0, at)
        break
      default: {
        const field = new Uint8Array(new BigUint64Array([oddNumber(next, bytes.length)]).buffer)
        const start = at - (at % width)
        bytes.set(field.subarray(0, Math.min(width, bytes.length - start)), start)
      }
    }
  }
  return bytes
}

/** Where a file's own tables are: headers, section headers, symbols, records. Damage there goes deepest. */
function damageElf(whole: Uint8Array, next: Random): Uint8Array {
  const view = new DataView(whole.buffer)
  const bytes = next(4) === 0 ? damage(whole, next) : whole.slice()
  if (bytes.length < whole.length || next(5) === 0) return bytes
  const sections = Number(view.getBigUint64(40, true))
  const header = (i: number): number => sections + 64 * i
  const inSection = (): number => {
    const at = header(next(view.getUint16(60, true)))
    const [offset, size] = [
      Number(view.getBigUint64(at + 24, true)),
      Number(view.getBigUint64(at + 32, true)),
    ]
    return Math.min(offset + next(size + 1), bytes.length - 8)
  }
  for (let rest = 1 + next(3); rest > 0; rest--) {
    const at = pick(next, [
      () => next(64),
      () => 64 + next(1 + 56 * view.getUint16(56, true)),
      () => sections + next(64 * view.getUint16(60, true)),
      inSection,
      inSection,
    ])()
    const width = pick(next, [1, 2, 4, 8])
    const start = Math.min(at - (at % width), bytes.length - width)
    const field = new Uint8Array(new BigUint64Array([oddNumber(next, bytes.length)]).buffer)
    bytes.set(field.subarray(0, width), start)
  }
  return bytes
}

function readElfWhole(bytes: Uint8Array, choice: BlobChoice): void {
  const blob = blobFromElf(readElf(bytes), choice)
  if (blob.bytes.length > 4 * bytes.length + 2 ** 16)
    throw new Error(`${blob.bytes.length} bytes from ${bytes.length}`)
  for (const line of symbolLines(blob.symbols(), 0n)) if (line.length < 18) throw new Error(line)
  if (blob.sites !== undefined) tableFromElf(blob)
}

function placeWhole(bytes: Uint8Array, options: PlaceOptions): void {
  const { code, data, symbol } = placeObject(bytes, options)
  symbol('choose')
  for (const part of data === undefined ? [code] : [code, data]) {
    if (part.bytes.length > 4 * bytes.length + 2 ** 25)
      throw new Error(`${part.bytes.length} bytes from ${bytes.length}`)
    for (const line of symbolLines(part.symbols(), 0n)) if (line.length < 18) throw new Error(line)
    if (part.span > 0 && part.base + BigInt(part.span) < 2n ** 63n) part.table()
  }
}

/** Puts another value in some place of a JSON value. */
function damageJson(value: unknown, next: Random): unknown {
  const odd = (): unknown =>
    pick<unknown>(next, [
      null,
      true,
      '',
      '0x',
      '-0x1',
      '0xfffffffffffffffff',
      -1,
      0.5,
      1e300,
      2 ** 53,
      [],
      {},
      [[]],
      'pc32',
    ])
  if (typeof value !== 'object' || value === null || next(12) === 0) return odd()
  const keys = Object.keys(value)
  if (keys.length === 0) return odd()
  const key = pick(next, keys)
  const copy: Record<string, unknown> | unknown[] = Array.isArray(value) ? [...value] : { ...value }
  const fields = copy as Record<string, unknown>
  const change = next(10)
  if (change > 1) fields[key] = damageJson(fields[key], next)
  else if (change === 1) fields[key] = fields[pick(next, keys)]
  else if (Array.isArray(copy)) copy.splice(Number(key), 1)
  else delete fields[key]
  return copy
}

interface WholeTable {
  readonly code: Uint8Array
  readonly binary: Uint8Array
  readonly json: unknown
}

/** Whole tables are made once; there is damage enough for each. */
const wholeTables: WholeTable[] = []

function wholeTable(next: Random): WholeTable {
  const seed = next(100)
  if (wholeTables[seed] === undefined) {
    const { code, table } = randomTable({ seed, sites: 1 + (seed % 20), length: 60 + 2 * seed })
    wholeTables[seed] = { code, binary: table.toBinary(code), json: JSON.parse(JSON.stringify(table)) }
  }
  return wholeTables[seed]
}

const DAMAGE: Readonly<Record<InputKind, (next: Random) => () => unknown>> = {
  elf(next) {
    const bytes = damageElf(pick(next, ELF_FILES), next)
    const choice = pick(next, CHOICES)
    return () => readElfWhole(bytes, choice)
  },
  object(next) {
    const bytes = damageElf(OBJECT_FILE, next)
    const base = pick(next, [0n, 0x1000_0000n, 0x7e00_0000_0000n, (1n << 64n) - 0x1000n])
    const writable = pick(next, [undefined, base + 0x10_0000n, 0n])
    const symbols = (): bigint | undefined => pick(next, [0x2000_0000n, 0x2000_0000n, undefined, base])
    return () => placeWhole(bytes, { base, writable, symbols, stubs: pick(next, ['far', 'all']) })
  },
  'binary table'(next) {
    const { code, binary } = wholeTable(next)
    const bytes = damage(binary, next)
    // With the right checksum damage reaches what is behind it.
    if (next(8) > 0 && bytes.length > 4)
      bytes.set(bytesOfHex(contentHash(bytes.subarray(0, -4))).subarray(0, 4), bytes.length - 4)
    return () => RelocationTable.fromBinary(bytes, code).sites()
  },
  'JSON table'(next) {
    let { json } = wholeTable(next)
    for (let rest = 1 + next(3); rest > 0; rest--) json = damageJson(json, next)
    return () => RelocationTable.fromJSON(json).sites()
  },
  hints(next) {
    let json: unknown = {
      ranges: [
        { start: 0, end: 16, kind: 'code' },
        { start: 16, end: 24, kind: 'data' },
      ],
      entries: [0, 4],
    }
    for (let rest = 1 + next(3); rest > 0; rest--) json = damageJson(json, next)
    const code = Uint8Array.from({ length: 32 }, () => next(256))
    return () => analyze(code, { base: 0x40_0000n, hints: json as Hints }).sites()
  },
}
