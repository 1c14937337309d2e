/**
 * Large files made to cost memory or time: node --import tsx hostile-large.ts MIB [SHAPE]... Prints for each
 * a line of JSON: how much memory reading it took beyond the most that the program had before (bytes), the
 * milliseconds, and what came of it.
 */
import { RelocError } from '../../src/core/errors.ts'
import { type BlobChoice, blobFromElf, tableFromElf } from '../../src/elf/blob.ts'
import { isObjectFile, readElf } from '../../src/elf/file.ts'
import { placeObject } from '../../src/elf/place.ts'
import { symbolLines } from '../../src/elf/symbol-list.ts'

const SIZE = Number(process.argv[2]) << 20
const BASE = 0x40_0000n
const HEADERS = 64 + 2 * 56

/** A file of one loaded segment that is all of it, and sections as given; `fill` writes their contents. */
class Builder {
  readonly bytes = new Uint8Array(SIZE)
  readonly view = new DataView(this.bytes.buffer)
  #sections = 0
  readonly #table = SIZE - 64 * 16

  constructor() {
    this.bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
    this.view.setUint16(16, 2, true)
    this.view.setUint16(18, 62, true)
    this.view.setUint32(20, 1, true)
    this.view.setBigUint64(32, 64n, true)
    this.view.setBigUint64(40, BigInt(this.#table), true)
    this.view.setUint16(54, 56, true)
    this.view.setUint16(56, 1, true)
    this.view.setUint16(58, 64, true)
    this.program(0, 1, 0, BASE, SIZE, SIZE)
    this.section(0, 0, 0, 0)
    this.bytes.set(new TextEncoder().encode('\0.text\0.rela.text\0.eh_frame\0'), this.#table - 64)
    this.section(3, 0, this.#table - 64, 64)
    this.view.setUint16(62, 1, true)
  }

  program(i: number, type: number, offset: number, address: bigint, size: number, memory: number): void {
    const at = 64 + 56 * i
    this.view.setUint32(at, type, true)
    this.view.setUint32(at + 4, 5, true)
    this.view.setBigUint64(at + 8, BigInt(offset), true)
    this.view.setBigUint64(at + 16, address, true)
    this.view.setBigUint64(at + 32, BigInt(size), true)
    this.view.setBigUint64(at + 40, BigInt(memory), true)
  }

  /** Adds a section; its index is returned. Loaded ones (flags & 2) are at their place in the segment. */
  section(
    type: number,
    flags: number,
    offset: number,
    size: number,
    more: { name?: number; link?: number; info?: number } = {},
  ): number {
    const at = this.#table + 64 * this.#sections
    this.view.setUint32(at, more.name ?? 0, true)
    this.view.setUint32(at + 4, type, true)
    this.view.setBigUint64(at + 8, BigInt(flags), true)
    this.view.setBigUint64(at + 16, (flags & 2) === 0 ? 0n : BASE + BigInt(offset), true)
    this.view.setBigUint64(at + 24, BigInt(offset), true)
    this.view.setBigUint64(at + 32, BigInt(size), true)
    this.view.setUint32(at + 40, more.link ?? 0, true)
    this.view.setUint32(at + 44, more.info ?? 0, true)
    this.view.setBigUint64(at + 56, 24n, true)
    this.view.setUint16(60, ++this.#sections, true)
    return this.#sections - 1
  }

  symbol(at: number, name: number, info: number, section: number, value: bigint, size: bigint): void {
    this.view.setUint32(at, name, true)
    this.view.setUint8(at + 4, info)
    this.view.setUint16(at + 6, section, true)
    this.view.setBigUint64(at + 8, value, true)
    this.view.setBigUint64(at + 16, size, true)
  }
}

const TEXT = 0x1000
const NAME = { text: 1, rela: 7, frames: 18 }

/** Code of `size` bytes, and symbols in the rest of the file, `count` at most. */
function withSymbols(size: number, info: number, names: (i: number) => number): Uint8Array {
  const file = new Builder()
  const text = file.section(1, 6, TEXT, size, { name: NAME.text })
  const [start, end] = [TEXT + size, SIZE - 0x1000]
  const middle = names(1) === names(2) ? end - 0x100 : start + ((end - start) >> 1)
  file.bytes.fill(0x61, middle, end - 1)
  const strings = file.section(3, 0, middle, end - middle)
  const count = Math.floor((middle - start) / 24)
  file.section(2, 0, start, 24 * count, { link: strings })
  for (let i = 0; i < count; i++)
    file.symbol(start + 24 * i, names(i), info, text, BASE + BigInt(TEXT + (i % size)), 1n)
  return file.bytes
}

const SHAPES: Readonly<Record<string, () => Uint8Array>> = {
  /** Every symbol is a function. */
  functions: () => withSymbols(1 << 20, 2, () => 250),
  /** Every symbol is an object in the code. */
  objects: () => withSymbols(1 << 20, 1, () => 250),
  /** Every symbol's name is another tail of one long string. */
  names: () => withSymbols(1 << 20, 2, (i) => i),
  /** As many section headers as a file can have, each named. */
  sections() {
    const file = new Builder()
    const [at, count] = [0x1000, 0xfeff]
    file.bytes.copyWithin(at + 64, SIZE - 64 * 15, SIZE - 64 * 14)
    file.view.setBigUint64(40, BigInt(at), true)
    file.view.setUint16(60, count, true)
    for (let i = 2; i < count; i++) {
      file.view.setUint32(at + 64 * i, 1 + (i % 5), true)
      file.view.setUint32(at + 64 * i + 4, 8, true)
      file.view.setUint32(at + 64 * i + 8, 2, true)
      file.view.setBigUint64(at + 64 * i + 16, BASE + BigInt(i), true)
      file.view.setBigUint64(at + 64 * i + 32, 1n, true)
    }
    return file.bytes
  },
  /** Half code, half records about it. */
  records() {
    const file = new Builder()
    const count = Math.floor((SIZE - 0x4000) / 32)
    const text = file.section(1, 6, TEXT, 8 * count, { name: NAME.text })
    const start = TEXT + 8 * count
    const symbols = file.section(2, 0, SIZE - 0x1000, 48, { link: 1 })
    file.symbol(SIZE - 0x1000 + 24, 0, 3, text, BASE + BigInt(TEXT), 0n)
    file.section(4, 0, start, 24 * count, { name: NAME.rela, link: symbols, info: text })
    for (let i = 0; i < count; i++) {
      file.view.setBigUint64(TEXT + 8 * i, BASE + BigInt(TEXT), true)
      file.view.setBigUint64(start + 24 * i, BASE + BigInt(TEXT + 8 * i), true)
      file.view.setBigUint64(start + 24 * i + 8, (1n << 32n) | 1n, true)
    }
    return file.bytes
  },
  /** Unwind entries of the smallest size, each with a CIE of its own. */
  frames() {
    const file = new Builder()
    file.section(1, 6, TEXT, 0x1000, { name: NAME.text })
    const [start, end] = [0x2000, SIZE - 0x1000]
    file.section(1, 2, start, end - start, { name: NAME.frames })
    for (let at = start; at + 48 <= end; at += 48) {
      file.bytes.set([20, 0, 0, 0, 0, 0, 0, 0, 1, 0x7a, 0x52, 0, 1, 1, 1, 1, 0x1b], at)
      file.bytes.set([20, 0, 0, 0, 28, 0, 0, 0], at + 24)
      file.view.setInt32(at + 32, 0x1800 - at - 32, true)
      file.view.setInt32(at + 36, 1, true)
    }
    return file.bytes
  },
  /** As many program headers as a file can have, most of them loaded. */
  segments() {
    const file = new Builder()
    const count = 0xfffe
    file.view.setUint16(56, count, true)
    for (let i = 0; i < count; i++) file.program(i, 1, 0x40_0000, BASE + BigInt(16 * i), 8, 8)
    return file.bytes
  },
  /** Two segments, far apart. */
  gap() {
    const file = new Builder()
    file.view.setUint16(56, 2, true)
    file.program(1, 1, HEADERS, BASE + (1n << 40n), 8, 8)
    return file.bytes
  },
}

/** The same as an object file. */
function asObject(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer)
  view.setUint16(16, 1, true)
  view.setUint16(56, 0, true)
  return bytes
}

const OBJECT_SHAPES: Readonly<Record<string, () => Uint8Array>> = {
  /** Half code, half records about it. */
  objectRecords() {
    const bytes = asObject(SHAPES.records())
    const view = new DataView(bytes.buffer)
    const count = Math.floor((SIZE - 0x4000) / 32)
    for (let i = 0; i < count; i++) view.setBigUint64(TEXT + 8 * count + 24 * i, BigInt(8 * i), true)
    return bytes
  },
  /** A third symbols that nobody defines, a third records that want a slot and a stub for each. */
  objectSlots() {
    const file = new Builder()
    const count = Math.floor((SIZE - 0x4000) / 56)
    const text = file.section(1, 6, TEXT, 8 * count, { name: NAME.text })
    const [symbols, records] = [TEXT + 8 * count, TEXT + 32 * count]
    const table = file.section(2, 0, symbols, 24 * count, { link: 1 })
    file.section(4, 0, records, 24 * count, { name: NAME.rela, link: table, info: text })
    for (let i = 1; i < count; i++) {
      file.symbol(symbols + 24 * i, 0, 0x10, 0, 0n, 0n)
      file.view.setBigUint64(records + 24 * i, BigInt(8 * i), true)
      file.view.setBigUint64(records + 24 * i + 8, (BigInt(i) << 32n) | 4n, true)
    }
    return asObject(file.bytes)
  },
  /** As many sections as 16 bits can count. */
  objectSections: () => asObject(SHAPES.sections()),
  /** Every symbol's name is another tail of one long string. */
  objectNames: () => asObject(SHAPES.names()),
}

function readWhole(bytes: Uint8Array, choice: BlobChoice): number {
  let left = 0
  if (isObjectFile(bytes)) {
    const { code } = placeObject(bytes, { base: BASE, symbols: () => 1n << 40n })
    for (const line of symbolLines(code.symbols(), 0n)) left += line.length
    return left + code.table().size
  }
  const blob = blobFromElf(readElf(bytes), choice)
  for (const line of symbolLines(blob.symbols(), 0n)) left += line.length
  return left + (blob.sites === undefined ? 0 : tableFromElf(blob).table.size)
}

const ALL = { ...SHAPES, ...OBJECT_SHAPES }
for (const name of process.argv.length > 3 ? process.argv.slice(3) : Object.keys(ALL)) {
  const bytes = ALL[name]()
  const before = process.resourceUsage().maxRSS * 1024
  const started = performance.now()
  let result = 'read'
  let left = 0
  for (const choice of [{}, { image: true }]) {
    try {
      left += readWhole(bytes, choice)
    } catch (error) {
      if (!(error instanceof RelocError)) throw error
      result = error.message.slice(0, 60)
    }
  }
  const memory = process.resourceUsage().maxRSS * 1024 - before
  const milliseconds = Math.round(performance.now() - started)
  console.log(JSON.stringify({ name, memory, milliseconds, result, left }))
}
