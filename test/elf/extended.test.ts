/** Section numbers that do not fit in 16 bits are in other places; files may use these for numbers that would fit. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { blobFromElf, tableFromElf } from '../../src/elf/blob.ts'
import { type ElfFile, readElf } from '../../src/elf/file.ts'
import { placeObject } from '../../src/elf/place.ts'
import { symbolLines } from '../../src/elf/symbol-list.ts'
import { OUTSIDE_SYMBOLS, objectBytes, PLACE } from '../support/placed.ts'

const SHT_SYMTAB = 2
const SHT_SYMTAB_SHNDX = 18
const XINDEX = 0xffff

/** The same file with every section number in its extended place. */
function extended(file: Uint8Array): Uint8Array {
  const old = new DataView(file.buffer, file.byteOffset, file.length)
  const [headers, count] = [Number(old.getBigUint64(40, true)), old.getUint16(60, true)]
  const symtab = Array.from({ length: count }, (_, i) => headers + 64 * i).find(
    (at) => old.getUint32(at + 4, true) === SHT_SYMTAB,
  )!
  const [symbols, size] = [
    Number(old.getBigUint64(symtab + 24, true)),
    Number(old.getBigUint64(symtab + 32, true)),
  ]
  const numbers = Math.ceil(file.length / 8) * 8
  const table = numbers + Math.ceil(size / 6 / 8) * 8
  const bytes = new Uint8Array(table + 64 * (count + 1))
  bytes.set(file)
  bytes.set(file.subarray(headers, headers + 64 * count), table)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < size / 24; i++) {
    const at = symbols + 24 * i + 6
    const index = view.getUint16(at, true)
    if (index === 0 || index >= 0xff00) continue
    view.setUint16(at, XINDEX, true)
    view.setUint32(numbers + 4 * i, index, true)
  }
  const added = table + 64 * count
  view.setUint32(added + 4, SHT_SYMTAB_SHNDX, true)
  view.setBigUint64(added + 24, BigInt(numbers), true)
  view.setBigUint64(added + 32, BigInt(size / 6), true)
  view.setUint32(added + 40, (symtab - headers) / 64, true)
  view.setBigUint64(table + 32, BigInt(count + 1), true)
  view.setUint32(table + 40, view.getUint16(62, true), true)
  view.setBigUint64(40, BigInt(table), true)
  view.setUint16(60, 0, true)
  view.setUint16(62, XINDEX, true)
  return bytes
}

const whole = (): Uint8Array =>
  new Uint8Array(readFileSync(new URL('../../fixtures/elf/static-400000.elf', import.meta.url)))
const image = (elf: ElfFile): unknown => {
  const blob = blobFromElf(elf, { image: true })
  return [
    blob.bytes.subarray(64),
    blob.entries,
    [...symbolLines(blob.symbols(), 0n)],
    tableFromElf(blob).table.sites(),
  ]
}

describe('extended section numbers', () => {
  it('say of a linked file what its 16-bit ones said', () => {
    const elf = readElf(extended(whole()))
    expect(elf.sections).toHaveLength(readElf(whole()).sections.length + 1)
    expect(image(elf)).toEqual(image(readElf(whole())))
  })

  it('say of an object file what its 16-bit ones said', () => {
    const options = { ...PLACE, symbols: OUTSIDE_SYMBOLS }
    const [one, other] = [placeObject(objectBytes(), options), placeObject(extended(objectBytes()), options)]
    expect(other.code.bytes).toEqual(one.code.bytes)
    expect(other.code.table().sites()).toEqual(one.code.table().sites())
    expect([...other.data!.symbols()]).toEqual([...one.data!.symbols()])
  })

  it.each([
    ['more sections than the file has bytes', 32, [255, 255, 255, 255], /section headers/],
    ['no sections', 32, [0, 0, 0, 0], /has no sections/],
    ['a name table that is none of them', 40, [255, 255, 255, 255], /table of section names/],
  ])('%s', (_, offset, values, message) => {
    const bytes = extended(whole())
    const first = Number(new DataView(bytes.buffer).getBigUint64(40, true))
    bytes.set(values, first + offset)
    expect(() => readElf(bytes)).toThrow(
      expect.objectContaining({ code: 'bad-input', message: expect.stringMatching(message) }),
    )
  })
})
