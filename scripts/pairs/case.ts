/** Writes a case: from.bin, to.bin, case.json and, for packs, pack.jsonl (one line per function). */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { Site, Truth } from './truth.ts'

/** What a case says about itself beside the truth. */
export interface CaseFacts {
  readonly name: string
  readonly kind: 'text-only' | 'image' | 'data-in-text' | 'one-function-out'
  /** The library: what a leave-one-origin-out run groups by. */
  readonly origin: string
  readonly language: string
  readonly license: string
  readonly compiler: string
  readonly codeModel: string
  readonly layout: readonly string[]
  readonly ldFlags: readonly string[]
  readonly stubbedSymbols: number
  readonly fixedBase: bigint
  readonly notes: string
}

export interface CaseSummary {
  readonly name: string
  readonly bytes: number
  readonly sites: number
  readonly changed: number
}

interface Outside {
  readonly offset: number
  readonly type: string
  readonly sym: string
  readonly addend: number
  readonly value: string
}

function hex(value: bigint): string {
  return value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`
}

function counts(sites: readonly Site[]): Record<string, number> {
  const table: Record<string, number> = {}
  for (const site of sites) table[site.type] = (table[site.type] ?? 0) + 1
  return table
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/**
 * Sites where "the value points into [from, from + memLength)" gives the wrong answer. A PC-relative field
 * counts from the next instruction, which starts 0 to 4 bytes after the field (a trailing immediate), so the
 * rule is wrong only if it is wrong for all of them.
 */
function pointsOutside(truth: Truth, from: bigint): Outside[] {
  const inside = (address: bigint): boolean => address >= from && address < from + BigInt(truth.memLength)
  return truth.sites.flatMap((site) => {
    const value = valueAt(truth.fromBytes, site)
    if (value === undefined) return []
    const relative = /^(PC32|PLT32|(REX_)?GOTPC)/.test(site.type)
    const place = from + BigInt(site.offset + site.width)
    const targets = relative ? [0n, 1n, 2n, 4n].map((trailing) => place + value + trailing) : [value]
    const rule = (target: bigint): boolean => inside(target) !== relative
    if (targets.some((target) => rule(target) === site.changes)) return []
    const { offset, type, sym = '', addend = 0 } = site
    return [{ offset, type, sym, addend, value: hex(BigInt.asUintN(64, targets[0])) }]
  })
}

function valueAt(bytes: Buffer, site: Site): bigint | undefined {
  switch (site.type) {
    case '32':
      return BigInt(bytes.readUInt32LE(site.offset))
    case '32S':
      return BigInt.asUintN(64, BigInt(bytes.readInt32LE(site.offset)))
    case '64':
    case 'LINKER_GOT':
      return bytes.readBigUInt64LE(site.offset)
    case 'PC32':
    case 'PLT32':
    case 'GOTPCREL':
    case 'GOTPCRELX':
    case 'REX_GOTPCRELX':
      return BigInt(bytes.readInt32LE(site.offset))
    default:
      return undefined
  }
}

/** Aligned data words that look like pointers into the blob but are no site. */
function decoys(truth: Truth, from: bigint, width: 4 | 8): number {
  const taken = new Uint8Array(truth.fromBytes.length + 8)
  for (const site of truth.sites) taken.fill(1, site.offset, site.offset + site.width)
  let count = 0
  for (const range of truth.ranges) {
    if (range.kind !== 'data') continue
    const skew = Number((BigInt(width) - ((from + BigInt(range.start)) % BigInt(width))) % BigInt(width))
    for (let at = range.start + skew; at + width <= range.end; at += width) {
      const value =
        width === 8 ? truth.fromBytes.readBigUInt64LE(at) : BigInt(truth.fromBytes.readUInt32LE(at))
      if (value < from || value >= from + BigInt(truth.memLength)) continue
      if (taken.subarray(at, at + width).every((byte) => byte === 0)) count++
    }
  }
  return count
}

function head(facts: CaseFacts): object {
  const { name, kind, origin, language, license, compiler, codeModel } = facts
  return { name, set: 'own', kind, origin, language, license, compiler, codeModel }
}

export function writeCase(
  out: string,
  facts: CaseFacts,
  from: bigint,
  to: bigint,
  truth: Truth,
): CaseSummary {
  const directory = join(out, facts.name)
  mkdirSync(directory, { recursive: true })
  const changed = truth.sites.filter((site) => site.changes)
  const outside = pointsOutside(truth, from)
  const description = {
    ...head(facts),
    layout: facts.layout,
    ldFlags: facts.ldFlags,
    stubbedSymbols: facts.stubbedSymbols,
    fixedBase: hex(facts.fixedBase),
    notes: facts.notes,
    from: hex(from),
    to: hex(to),
    delta: hex(to - from),
    length: truth.fromBytes.length,
    memLength: truth.memLength,
    ...(truth.ranges.length > 400 ? { rangesFile: 'ranges.json' } : { ranges: truth.ranges }),
    relocCounts: counts(truth.sites),
    changedCounts: counts(changed),
    changedSites: changed.length,
    changedBytes: truth.fromBytes.reduce((sum, byte, n) => sum + Number(byte !== truth.toBytes[n]), 0),
    outsideChangedWords: truth.outsideChangedWords,
    pointsOutside: outside.filter((o) => truth.sites.some((s) => s.offset === o.offset && s.changes)),
    pointsOutsideUnchanged: outside.filter((o) =>
      truth.sites.some((s) => s.offset === o.offset && !s.changes),
    ),
    pointsOutsideCount: outside.length,
    functionsFile: 'functions.json',
    ...(truth.objectsInCode.length ? { objectsInCode: truth.objectsInCode } : {}),
    relocsFile: 'relocs.json.gz',
    sha256: { from: sha256(truth.fromBytes), to: sha256(truth.toBytes) },
    dataDecoys8: decoys(truth, from, 8),
    dataDecoys4: decoys(truth, from, 4),
  }
  writeFileSync(join(directory, 'from.bin'), truth.fromBytes)
  writeFileSync(join(directory, 'to.bin'), truth.toBytes)
  writeFileSync(join(directory, 'functions.json'), JSON.stringify(truth.functions))
  writeFileSync(join(directory, 'relocs.json.gz'), gzipSync(JSON.stringify(truth.sites)))
  if (truth.ranges.length > 400) writeFileSync(join(directory, 'ranges.json'), JSON.stringify(truth.ranges))
  writeFileSync(join(directory, 'case.json'), JSON.stringify(description))
  return {
    name: facts.name,
    bytes: truth.fromBytes.length,
    sites: truth.sites.length,
    changed: changed.length,
  }
}

/** One function of a pack with its own pair of addresses. */
export interface PackUnit {
  readonly object: string
  readonly section: string
  readonly truth: Truth & { readonly from: bigint; readonly to: bigint }
}

export function writePack(out: string, facts: CaseFacts, units: readonly PackUnit[]): CaseSummary {
  const directory = join(out, facts.name)
  mkdirSync(directory, { recursive: true })
  let binOffset = 0
  const lines = units.map(({ object, section, truth }) => {
    const { length } = truth.fromBytes
    const line = {
      name: truth.functions[0]?.name ?? section,
      object,
      section,
      binOffset,
      length,
      from: hex(truth.from),
      to: hex(truth.to),
      changedSites: truth.sites.filter((site) => site.changes).length,
      functions: truth.functions,
      relocs: truth.sites,
    }
    binOffset += length
    return JSON.stringify(line)
  })
  const fromBytes = Buffer.concat(units.map((unit) => unit.truth.fromBytes))
  const toBytes = Buffer.concat(units.map((unit) => unit.truth.toBytes))
  const sites = units.flatMap((unit) => unit.truth.sites)
  const changed = sites.filter((site) => site.changes)
  const description = {
    ...head(facts),
    pack: 'pack.jsonl',
    ldFlags: facts.ldFlags,
    count: units.length,
    length: fromBytes.length,
    relocCounts: counts(sites),
    changedCounts: counts(changed),
    changedSites: changed.length,
    fixedBase: hex(facts.fixedBase),
    dropped: 0,
    stubbedSymbols: facts.stubbedSymbols,
    notes: facts.notes,
    sha256: { from: sha256(fromBytes), to: sha256(toBytes) },
  }
  writeFileSync(join(directory, 'from.bin'), fromBytes)
  writeFileSync(join(directory, 'to.bin'), toBytes)
  writeFileSync(join(directory, 'pack.jsonl'), lines.join('\n') + '\n')
  writeFileSync(join(directory, 'case.json'), JSON.stringify(description))
  return { name: facts.name, bytes: fromBytes.length, sites: sites.length, changed: changed.length }
}
