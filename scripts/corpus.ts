/**
 * Reads a corpus of linker pairs: the same objects linked at two addresses, with every relocation that the
 * linker applied.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import type { RangeHint } from '../src/analyze/hints.ts'

/** One relocation record of the linker. */
export interface Reloc {
  readonly offset: number
  readonly type: string
  readonly width: 1 | 2 | 4 | 8
  readonly changes: boolean
  /** +1: the value moves with the blob; -1: against it. */
  readonly adj?: number
  readonly sym?: string
}

/** One blob of a case, at both addresses. */
export interface Pair {
  readonly name: string
  readonly before: Uint8Array
  readonly after: Uint8Array
  readonly from: bigint
  readonly to: bigint
  readonly span: number
  readonly ranges: readonly RangeHint[]
  readonly entries: readonly number[]
  readonly relocs: readonly Reloc[]
}

export interface Case {
  readonly name: string
  /** What it was built from, without version: for leaving whole origins out. */
  readonly origin: string
  readonly pairs: readonly Pair[]
}

type Json = Record<string, unknown>

function readJson(dir: string, info: Json, key: string): unknown[] {
  if (Array.isArray(info[key])) return info[key]
  const name = info[`${key}File`]
  if (typeof name !== 'string') return []
  const bytes = readFileSync(join(dir, name))
  return JSON.parse((name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString()) as unknown[]
}

/** Names of one source that packagers spell differently. */
const SAME: Readonly<Record<string, string>> = { zlib1g: 'zlib', bz: 'bzip' }

/** What a case was built from, without version and packaging: cases of one origin are left out together. */
function originOf(text: string): string {
  const word = text
    .toLowerCase()
    .replace(/^lib/, '')
    .split(/[\s(,]/)[0]
  const name = word.replace(/(-dev|[\d.]+)+$/, '')
  return SAME[name] ?? name
}

export function loadCase(dir: string): Case {
  const info = JSON.parse(readFileSync(join(dir, 'case.json'), 'utf8')) as Json
  const before = new Uint8Array(readFileSync(join(dir, 'from.bin')))
  const after = new Uint8Array(readFileSync(join(dir, 'to.bin')))
  const name = String(info.name)
  const origin = originOf(String(info.origin ?? name))
  const entriesOf = (functions: unknown): number[] =>
    (functions as { offset: number }[]).map((one) => one.offset)
  if (typeof info.pack !== 'string') {
    const pair = {
      name,
      before,
      after,
      from: BigInt(String(info.from)),
      to: BigInt(String(info.to)),
      span: Number(info.memLength ?? info.length),
      ranges: readJson(dir, info, 'ranges').map((range) => range as RangeHint),
      entries: entriesOf(readJson(dir, info, 'functions')),
      relocs: readJson(dir, info, 'relocs') as Reloc[],
    }
    return { name, origin, pairs: [pair] }
  }
  const lines = readFileSync(join(dir, info.pack), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Json)
  const pairs = lines.map((line) => {
    const start = Number(line.binOffset)
    const length = Number(line.length)
    return {
      name: `${name}/${String(line.name)}`,
      before: before.slice(start, start + length),
      after: after.slice(start, start + length),
      from: BigInt(String(line.from)),
      to: BigInt(String(line.to)),
      span: length,
      ranges: [{ start: 0, end: length, kind: 'code' as const }],
      entries: entriesOf(line.functions),
      relocs: line.relocs as Reloc[],
    }
  })
  return { name, origin, pairs }
}

/** The cases under `dir`, by name. */
export function listCases(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => existsSync(join(dir, name, 'case.json')) && statSync(join(dir, name)).isDirectory())
    .sort()
}
