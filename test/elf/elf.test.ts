import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type Problem, RelocError } from '../../src/core/errors.ts'
import { type BlobChoice, blobFromElf, type ElfBlob, tableFromElf } from '../../src/elf/blob.ts'
import { DT_RELA } from '../../src/elf/dynamic.ts'
import { unwindEntries } from '../../src/elf/entries.ts'
import { type ElfFile, readElf } from '../../src/elf/file.ts'
import { PT_DYNAMIC } from '../../src/elf/header.ts'
import { SHT_CREL } from '../../src/elf/sections.ts'
import { symbolLines } from '../../src/elf/symbol-list.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { compareBlob, compareElf, compareLoaderSites } from '../support/compare-elf.ts'
import { type ReadelfFile, runReadelf } from '../support/readelf.ts'

const folder = new URL('../../fixtures/elf/', import.meta.url)
const bytesOf = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(name, folder)))
const read = (name: string): ElfFile => readElf(bytesOf(name))
const said = (name: string): ReadelfFile =>
  JSON.parse(readFileSync(new URL(name.replace('.elf', '.readelf.json'), folder), 'utf8')) as ReadelfFile
const programs = ['static', 'text', 'pie', 'packed']

/** What `choice` of `from` becomes at the base that the same choice has in `to`. */
function moved(from: ElfFile, to: ElfFile, choice: BlobChoice): { ours: Uint8Array; linker: Uint8Array } {
  const [blob, there] = [blobFromElf(from, choice), blobFromElf(to, choice)]
  const { table, problems } = tableFromElf(blob)
  expect(problems).toEqual([])
  return { ours: relocate(blob.bytes, table, { to: there.base }).bytes, linker: there.bytes }
}

const inMemory = ({ sections }: ReadelfFile): ReadelfFile['sections'] =>
  sections.filter(({ flags }) => flags.includes('A'))

describe('an ELF file', () => {
  it.each(programs)('%s: sections, symbols and records as readelf says', (name) => {
    const elf = read(`${name}-400000.elf`)
    const expected = said(`${name}-400000.elf`)
    expect(compareElf(elf, expected)).toEqual([])
    const wrong = {
      ...expected,
      sections: expected.sections.map((section) => ({ ...section, info: section.info + 1 })),
    }
    expect(compareElf(elf, wrong)).toHaveLength(20)
  })

  it.each(programs)('%s: ranges, symbols and sites of .text and of the image', (name) => {
    const elf = read(`${name}-400000.elf`)
    const expected = said(`${name}-400000.elf`)
    const text = expected.sections.filter((section) => section.name === '.text')
    expect(compareBlob(blobFromElf(elf), expected, text)).toEqual([])
    if (name === 'text') return
    const image = blobFromElf(elf, { image: true })
    expect(compareBlob(image, expected, inMemory(expected))).toEqual([])
    expect(compareLoaderSites(image, expected)).toEqual([])
  })

  const programsHere = ['/usr/bin/env', '/bin/sh'].filter((path) => existsSync(path))
  it.skipIf(runReadelf(programsHere[0] ?? '/') === undefined)(
    'of this machine reads as readelf here says (skipped where there is no readelf)',
    () => {
      for (const path of programsHere)
        expect(compareElf(readElf(new Uint8Array(readFileSync(path))), runReadelf(path)!)).toEqual([])
    },
  )
})

describe('a move by the records of the file', () => {
  const cases: readonly (readonly [string, string, BlobChoice])[] = [
    ['static, kept records', 'static', { image: true }],
    ['.text alone, kept records', 'text', {}],
    ['position-independent, loader records', 'pie', { image: true }],
    ['position-independent, packed records', 'packed', { image: true }],
  ]
  it.each(cases)('%s: what the linker writes at the new address, byte for byte', (_, name, choice) => {
    const [here, there] = [read(`${name}-400000.elf`), read(`${name}-7000000.elf`)]
    const forth = moved(here, there, choice)
    expect(forth.ours).toEqual(forth.linker)
    const back = moved(there, here, choice)
    expect(back.ours).toEqual(back.linker)
  })

  it('offsets from the GOT are those of stubs, too, for functions that another file may define as well', () => {
    const bytes = bytesOf('static-400000.elf')
    const { loadedSections, loaded } = readElf(bytes)
    const addressOf = (name: string): bigint =>
      loadedSections.find((section) => section.name === name)!.address
    const record = said('static-400000.elf').records['.rela.text'].find(({ type }) => /PLTOFF64/.test(type))!
    const address = BigInt(`0x${record.address}`)
    const stub = addressOf('.plt')
    const view = new DataView(bytes.buffer)
    view.setBigUint64(loaded.position(address, 8)!, BigInt.asUintN(64, stub - addressOf('.got.plt')), true)
    const problems: Problem[] = []
    const blob = blobFromElf(readElf(bytes), { image: true })
    const sites = [...blob.sites!((problem) => problems.push(problem))]
    expect(problems).toEqual([])
    expect(sites).toContainEqual({
      offset: Number(address - blob.base),
      kind: 'diff64',
      target: stub,
      anchor: addressOf('.got.plt'),
    })
  })

  it('needs no section table for the image of a position-independent file', () => {
    const bytes = bytesOf('pie-400000.elf')
    const full = tableFromElf(blobFromElf(readElf(bytes), { image: true })).table
    bytes.fill(0, 40, 48)
    const stripped = blobFromElf(readElf(bytes), { image: true })
    expect(tableFromElf(stripped).table.size).toBe(full.size)
    expect(stripped.ranges.map(({ kind }) => kind)).toEqual(['data', 'code', 'data'])
    expect(() => blobFromElf(readElf(bytes))).toThrow(/no section table.*--image/)
  })

  it('one function: what leaves it is a site, its own branches are none', () => {
    const blob = blobFromElf(read('static-400000.elf'), { symbol: 'main' })
    const { table } = tableFromElf(blob)
    const end = blob.base + BigInt(blob.bytes.length)
    expect(blob.entries).toContain(0)
    const relative = said('static-400000.elf').records['.rela.text'].filter(({ address, type }) => {
      const at = BigInt(`0x${address}`)
      return /PC32|PLT32/.test(type) && at >= blob.base && at < end
    })
    expect(table.size).toBe(relative.length)
    expect(table.size).toBe(6)
    for (const { target, kind } of table.sites()) {
      expect(kind).toBe('pc32')
      expect(target < blob.base || target >= end).toBe(true)
    }
  })
})

describe('a blob of an ELF file', () => {
  const text: ElfBlob = blobFromElf(read('static-400000.elf'))
  const named = (name: string): { offset: number; size: number } =>
    [...text.symbols()].find((symbol) => symbol.name === name)!

  it('starts execution at functions, called labels and unwind entries, and not in objects', () => {
    for (const name of ['main', '_start', 'operands', 'bare', 'classify'])
      expect(text.entries).toContain(named(name).offset)
    expect(text.entries).not.toContain(named('object_in_code').offset)
    const { offset, size } = named('object_in_code')
    expect(text.ranges).toContainEqual({ start: offset, end: offset + size, kind: 'data' })
    const stripped = blobFromElf(read('pie-400000.elf'), { image: true })
    const frames = [...unwindEntries(read('pie-400000.elf'))].flatMap(({ range }) => range ?? [])
    expect(frames.length).toBeGreaterThan(8)
    for (const { start } of frames) expect(stripped.entries).toContain(Number(start - stripped.base))
  })

  it('lists its symbols at a new address as nm does for the file linked there', () => {
    const image = blobFromElf(read('static-400000.elf'), { image: true })
    const there = blobFromElf(read('static-7000000.elf'), { image: true })
    expect([...symbolLines(image.symbols(), there.base)]).toEqual([
      ...symbolLines(there.symbols(), there.base),
    ])
    expect([...symbolLines(image.symbols(), 0x7000000n)]).toContain(
      `${(0x7000000n + BigInt(Number(text.base - image.base) + named('main').offset)).toString(16).padStart(16, '0')} T main`,
    )
  })
})

describe('a file or a choice that cannot be served', () => {
  const change = (at: number, ...values: number[]): Uint8Array => {
    const bytes = bytesOf('static-400000.elf')
    bytes.set(values, at)
    return bytes
  }
  const refused: readonly (readonly [string, () => Uint8Array, RegExp])[] = [
    ['an object file', () => change(16, 1), /object file \(ET_REL\).*--emit-relocs/],
    ['a core dump', () => change(16, 4), /core dump/],
    ['32-bit', () => change(4, 1), /32-bit/],
    ['big-endian', () => change(5, 2), /big-endian/],
    ['another machine', () => change(18, 183), /machine 183, not for x86-64/],
    ['no ELF at all', () => new Uint8Array(100), /does not begin with 7f 45 4c 46/],
    ['an empty file', () => new Uint8Array(0), /does not begin/],
    ['a truncated header', () => bytesOf('static-400000.elf').subarray(0, 40), /truncated.*40 bytes/],
    ['a truncated file', () => bytesOf('static-400000.elf').subarray(0, 5000), /damaged or truncated.*--raw/],
    ['a section table behind the end', () => change(40, 0xff, 0xff, 0xff), /section table offset/],
    [
      'a program table that overflows',
      () => change(32, 255, 255, 255, 255, 255, 255, 255, 255),
      /program headers/,
    ],
    [
      'a segment that passes 2^64',
      () => change(64 + 16, 255, 255, 255, 255, 255, 255, 255, 255),
      /passes 2\^64|overlap/,
    ],
    ['two segments at one address', () => change(64 + 56 + 16, 0, 0, 0x40), /overlap in memory/],
    [
      "the loader's records in a form of their own",
      () => {
        const bytes = bytesOf('pie-400000.elf')
        const view = new DataView(bytes.buffer)
        const { offset } = readElf(bytes).segments.find(({ type }) => type === PT_DYNAMIC)!
        let at = offset
        while (view.getBigUint64(at, true) !== DT_RELA) at += 16
        view.setBigUint64(at, 0x6000_0011n, true)
        return bytes
      },
      /another form than.*DT_ANDROID_RELA/,
    ],
    [
      "the linker's records in a form of their own",
      () => {
        const bytes = bytesOf('static-400000.elf')
        const { header, kept } = readElf(bytes)
        const at = header.sectionOffset + 64 * [...kept.values()][0].index + 4
        new DataView(bytes.buffer).setUint32(at, SHT_CREL, true)
        return bytes
      },
      /another form than.*SHT_CREL/,
    ],
    ['names in a section that holds none', () => change(62, 3), /section names/],
  ]
  it.each(refused)('%s', (_, bytes, message) => {
    let error: unknown
    try {
      blobFromElf(readElf(bytes()), { image: true })
    } catch (thrown) {
      error = thrown
    }
    expect(error).toBeInstanceOf(RelocError)
    expect((error as RelocError).code).toBe('bad-input')
    expect((error as RelocError).message).toMatch(message)
  })

  const choices: readonly (readonly [BlobChoice, RegExp])[] = [
    [{ section: '.nothing' }, /no section \.nothing; it loads .*\.text/],
    [{ section: '.bss' }, /no bytes in the file/],
    [{ section: '.comment' }, /not loaded/],
    [{ symbol: 'nobody' }, /no symbol nobody/],
    [{ symbol: 'buffer' }, /no code or data in the file/],
    [{ symbol: 'main', section: '.text' }, /one of section, symbol and image/],
  ]
  it.each(choices)('%o', (choice, message) => {
    expect(() => blobFromElf(read('static-400000.elf'), choice)).toThrow(message)
  })

  it('an image that is mostly a gap', () => {
    expect(() => blobFromElf(read('text-400000.elf'), { image: true })).toThrow(
      /most of them a gap.*--section/,
    )
  })
})
