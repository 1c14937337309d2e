/**
 * Builds fixtures/NAME/ from fixtures/src: `npx tsx scripts/build-fixtures.ts [NAME...]`. Needs gcc,
 * clang-14, as, ld and objdump, and nobody else does: what it writes is committed. Same tools, same bytes. It
 * stops where the linker's records and the difference of its outputs disagree.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CALLS, FUNCTION_NEEDS, GS_AT } from './fixtures/calls.ts'
import { type Elf, type Section, SHF_WRITE, SHT_NOBITS, STT_FUNC, STT_OBJECT } from './fixtures/elf.ts'
import { describeTools, FIXTURES_FOLDER, type Link, linkFixture } from './fixtures/link.ts'
import { partValue, toPiece } from './fixtures/parts.ts'
import { FIXTURES, type FixtureSpec } from './fixtures/spec.ts'
import type { TrueSite } from './fixtures/truth.ts'

const hex = (value: bigint): string => `0x${value.toString(16)}`

/** The bytes of sections as they lie in memory, up to the last one that has bytes. */
function flatten(start: bigint, sections: readonly Section[]): Uint8Array {
  const loaded = sections.filter(({ type }) => type !== SHT_NOBITS)
  const last = loaded[loaded.length - 1]
  const bytes = new Uint8Array(Number(last.address - start) + last.size)
  for (const section of loaded) bytes.set(section.bytes, Number(section.address - start))
  return bytes
}

/** The GOT is writable to the linker only. */
const isWritable = ({ flags, name }: Section): boolean => (flags & SHF_WRITE) !== 0 && name !== '.got'

const outsideSections = ({ truth }: Link): Section[] =>
  truth.sections().filter((section) => !truth.movedSections().includes(section))

/** Every change that the records announce, made on the first link's bytes. */
function predict(from: Link, to: Link, sites: readonly TrueSite[], moved: boolean): Uint8Array[] {
  const sections = moved ? from.truth.movedSections() : outsideSections(from)
  const delta = to.base - from.base
  return sections.map((section) => {
    const bytes = section.bytes.slice()
    const write = (address: bigint, width: number, bits: bigint): void => {
      const offset = Number(address - section.address)
      if (offset < 0 || offset >= bytes.length) return
      for (let i = 0; i < width; i++) bytes[offset + i] = Number((bits >> BigInt(8 * i)) & 255n)
    }
    for (const { address, width, target, direction, parts } of sites) {
      if (direction === 0) continue
      const change = BigInt(direction) * delta
      if (parts === undefined) write(address, width, from.truth.field(address, width) + change)
      for (const part of parts ?? []) write(part.address, part.width, partValue(part, target + change))
    }
    return bytes
  })
}

/** Throws unless the records explain the difference of two links to the byte, in what moves and in what stays. */
function prove(name: string, from: Link, to: Link): void {
  const sites = from.truth.sites()
  for (const moved of [true, false]) {
    const actual = moved ? to.truth.movedSections() : outsideSections(to)
    const predicted = predict(from, to, sites, moved)
    for (const [i, bytes] of predicted.entries())
      if (Buffer.compare(bytes, actual[i].bytes) !== 0) {
        const at = bytes.findIndex((byte, k) => byte !== actual[i].bytes[k])
        throw new Error(
          `${name}: ${actual[i].name}+0x${at.toString(16)}: the records do not explain the bytes`,
        )
      }
  }
  const strip = (link: Link): string =>
    link.truth
      .sites()
      .map(({ address, kind }) => `${link.truth.isMoved(address) ? address - link.base : address} ${kind}`)
      .sort()
      .join()
  if (strip(from) !== strip(to)) throw new Error(`${name}: the two links have different sites`)
}

/** JSON with one array element a line, so that a change of a fixture is a readable difference. */
function toJson(record: Readonly<Record<string, unknown>>): string {
  const lines = Object.entries(record).map(([key, value]) => {
    const elements =
      Array.isArray(value) && value.length > 0 && typeof value[0] === 'object' ? value : undefined
    const text =
      elements === undefined
        ? JSON.stringify(value)
        : `[\n${elements.map((element) => `    ${JSON.stringify(element)}`).join(',\n')}\n  ]`
    return `  ${JSON.stringify(key)}: ${text}`
  })
  return `{\n${lines.join(',\n')}\n}\n`
}

function describeFixture(spec: FixtureSpec, links: readonly Link[], length: number): Record<string, unknown> {
  const [{ truth, base }] = links
  const offset = (address: bigint): number => Number(address - base)
  const moved = truth.movedSections()
  const named = truth.elf.symbols.filter(({ name, value }) => name !== '' && truth.isMoved(value))
  const byOffset = <T extends { value: bigint; name: string }>(list: T[]): T[] =>
    list.sort((a, b) => offset(a.value) - offset(b.value) || (a.name < b.name ? -1 : 1))
  const functions = byOffset(named.filter(({ type }) => type === STT_FUNC))
  const code = moved.filter(({ name }) => name.includes('.text'))
  const inCode = byOffset(named.filter(({ type }) => type === STT_OBJECT)).filter(({ value }) =>
    code.some(({ address, size }) => value >= address && value < address + BigInt(size)),
  )
  const sites = truth.sites()
  let fileOffset = 0
  return {
    format: 'x64-reloc fixture 1',
    name: spec.name,
    notes: spec.notes,
    sources: spec.sources.map((name) => `src/${name}.${spec.compile === undefined ? 's' : 'c'}`),
    tools: describeTools(spec),
    layout: spec.layout,
    runnable: spec.runnable ?? true,
    needs: spec.needs ?? [],
    ...(spec.keepElf === true ? { elf: 'from.elf' } : {}),
    length,
    span: Number(truth.end - truth.start),
    links: links.map((link, i) => ({ file: LINK_FILES[i], base: hex(link.base) })),
    ranges: moved
      .filter(({ type }) => type !== SHT_NOBITS)
      .map((section) => ({
        start: offset(section.address),
        end: offset(section.address) + section.size,
        kind: code.includes(section) ? 'code' : 'data',
        section: section.name,
        ...(isWritable(section) ? { writable: true } : {}),
      })),
    functions: functions.map(({ name, value, size }) => ({
      name,
      offset: offset(value),
      size,
      ...(FUNCTION_NEEDS[name] === undefined ? {} : { needs: FUNCTION_NEEDS[name] }),
      ...(GS_AT[name] === undefined
        ? {}
        : { gs: hex(truth.elf.symbols.find((symbol) => symbol.name === GS_AT[name])?.value ?? 0n) }),
      calls: (CALLS[name] ?? []).map((args) => args.map(hex)),
    })),
    objectsInCode: inCode.map(({ name, value, size }) => ({ name, offset: offset(value), size })),
    entries: functions.map(({ value }) => offset(value)),
    sites: sites
      .filter(({ address }) => truth.isMoved(address))
      .map((site) => ({
        offset: offset(site.address),
        kind: site.kind,
        target: hex(site.target),
        ...(site.anchor === undefined ? {} : { anchor: hex(site.anchor) }),
        ...(site.end === undefined ? {} : { end: offset(site.end) }),
        ...(site.addend === undefined ? {} : { addend: String(site.addend) }),
        ...(site.parts === undefined
          ? {}
          : { pieces: site.parts.map((part) => toPiece(part, offset(part.address), part.width)) }),
        changes: site.direction !== 0,
      })),
    outside: outsideSections(links[0]).map((section) => {
      const place = { section: section.name, address: hex(section.address), length: section.size }
      const access = section.name.includes('.text') ? 'rx' : isWritable(section) ? 'rw' : 'r'
      if (section.type === SHT_NOBITS) return { ...place, access }
      fileOffset += section.size
      return { ...place, access, fileOffset: fileOffset - section.size }
    }),
    ...importsOf(truth.elf.symbols),
    outsideSites: sites
      .filter(({ address, direction }) => !truth.isMoved(address) && direction !== 0)
      .map(({ address, width }) => ({ address: hex(address), width })),
  }
}

/** Words outside that whoever runs the fixture fills with functions of the C library. */
function importsOf(symbols: Elf['symbols']): Record<string, unknown> {
  const imports = symbols
    .filter(({ name }) => name.startsWith('import_'))
    .map(({ name, value }) => ({ name: name.slice('import_'.length), address: hex(value) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
  return imports.length === 0 ? {} : { imports }
}

const LINK_FILES = ['from.bin', 'to.bin', 'to2.bin']

function build(spec: FixtureSpec): number {
  const work = mkdtempSync(join(tmpdir(), 'fixture-'))
  try {
    const links = linkFixture(spec, work)
    for (const link of links.slice(1)) prove(spec.name, links[0], link)
    const folder = join(FIXTURES_FOLDER, spec.name)
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder)
    const files = new Map<string, Uint8Array | string>()
    for (const [i, link] of links.entries())
      files.set(LINK_FILES[i], flatten(link.base, link.truth.movedSections()))
    files.set('outside.bin', Buffer.concat(outsideSections(links[0]).map(({ bytes }) => bytes)))
    if (spec.keepElf === true) files.set('from.elf', links[0].file)
    const length = files.get('from.bin')?.length ?? 0
    files.set('fixture.json', toJson(describeFixture(spec, links, length)))
    for (const [name, bytes] of files) if (bytes.length > 0) writeFileSync(join(folder, name), bytes)
    const size = [...files.values()].reduce((sum, { length }) => sum + length, 0)
    const sites = links[0].truth.sites()
    const kinds = new Map<string, number>()
    for (const { address, kind, direction } of sites)
      if (links[0].truth.isMoved(address) && direction !== 0) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
    const counts = [...kinds].map(([kind, count]) => `${kind} ${count}`).join(', ')
    console.log(`${spec.name}: ${length} bytes, ${size} in files, changes: ${counts || 'none'}`)
    return size
  } finally {
    rmSync(work, { recursive: true })
  }
}

const wanted = process.argv.slice(2)
const chosen = FIXTURES.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
const total = chosen.reduce((sum, spec) => sum + build(spec), 0)
console.log(`${chosen.length} fixtures, ${total} bytes`)
