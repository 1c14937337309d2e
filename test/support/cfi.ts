/**
 * Call frame information as an oracle: for each function that .eh_frame describes, where the caller's frame
 * is at an address, as the compiler says. Reads ELF64 files of known good origin; formats: DWARF 5, 6.4 and
 * LSB 5.0, 10.6.
 */

/** Where the canonical frame address (the caller's rsp) is. */
export interface FrameRow {
  /** DWARF numbers: 6 is rbp, 7 is rsp; -1: an expression. */
  readonly register: number
  readonly offset: number
  /** Where the caller's rbp is saved, in bytes from the canonical frame address; undefined: it is in rbp. */
  readonly savedRbp: number | undefined
}

export interface FrameFunction {
  readonly start: bigint
  readonly code: Uint8Array
  /** In force at an offset. */
  row(offset: number): FrameRow | undefined
}

const RBP = 6

class Reader {
  readonly view: DataView
  at: number

  constructor(view: DataView, at: number) {
    this.view = view
    this.at = at
  }
  byte(): number {
    return this.view.getUint8(this.at++)
  }
  word(): number {
    this.at += 4
    return this.view.getUint32(this.at - 4, true)
  }
  leb(signed = false): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte()
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 128) return signed && (byte & 0x40) !== 0 ? value - 2 ** (shift + 7) : value
    }
  }
}

interface Common {
  readonly codeFactor: number
  readonly dataFactor: number
  readonly encoding: number
  readonly program: readonly [from: number, to: number]
}

/** The functions of an ELF file whose call frame information is relative to its place, as compilers write it. */
export function* frameFunctions(file: Uint8Array): Generator<FrameFunction> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const sections = sectionsOf(view)
  const frames = sections.find(({ name }) => name === '.eh_frame')
  if (frames === undefined) return
  const commons = new Map<number, Common>()
  for (let at = frames.offset; at < frames.offset + frames.size; ) {
    const reader = new Reader(view, at)
    const length = reader.word()
    const end = reader.at + length
    if (length === 0) break
    const id = reader.at
    const back = reader.word()
    if (back === 0) commons.set(at, readCommon(reader, end))
    else {
      const common = commons.get(id - back)!
      // pcrel | sdata4, or pcrel | sdata8
      const wide = (common.encoding & 15) === 12
      const place = frames.address + BigInt(reader.at - frames.offset)
      const start =
        place + (wide ? view.getBigInt64(reader.at, true) : BigInt(view.getInt32(reader.at, true)))
      reader.at += wide ? 8 : 4
      const size = Number(wide ? view.getBigInt64(reader.at, true) : BigInt(view.getUint32(reader.at, true)))
      reader.at += wide ? 8 : 4
      reader.at += reader.leb()
      const home = sections.find(
        ({ address, size, flags }) => (flags & 4) !== 0 && start >= address && start < address + BigInt(size),
      )
      if (home !== undefined && size > 0) {
        const from = home.offset + Number(start - home.address)
        const program = [reader.at, end] as const
        yield {
          start,
          code: file.subarray(from, from + size),
          row: (offset) => rowAt(view, common, program, offset),
        }
      }
    }
    at = end
  }
}

function sectionsOf(view: DataView) {
  const table = Number(view.getBigUint64(0x28, true))
  const count = view.getUint16(0x3c, true)
  const rows = Array.from({ length: count }, (_, i) => table + 64 * i).map((at) => ({
    name: view.getUint32(at, true),
    flags: Number(view.getBigUint64(at + 8, true)),
    address: view.getBigUint64(at + 16, true),
    offset: Number(view.getBigUint64(at + 24, true)),
    size: Number(view.getBigUint64(at + 32, true)),
  }))
  const names = rows[view.getUint16(0x3e, true)].offset
  return rows.map((row) => {
    let name = ''
    for (let at = names + row.name; view.getUint8(at) !== 0; at++)
      name += String.fromCharCode(view.getUint8(at))
    return { ...row, name }
  })
}

function readCommon(reader: Reader, end: number): Common {
  reader.byte()
  let augmentation = ''
  for (let byte = reader.byte(); byte !== 0; byte = reader.byte()) augmentation += String.fromCharCode(byte)
  const codeFactor = reader.leb()
  const dataFactor = reader.leb(true)
  reader.leb()
  const length = reader.leb()
  const data = reader.at
  let encoding = 0
  for (const letter of augmentation.slice(1))
    if (letter === 'R') encoding = reader.byte()
    else if (letter === 'L') reader.byte()
    else if (letter === 'P') reader.at += (reader.byte() & 15) === 12 ? 8 : 4
  return { codeFactor, dataFactor, encoding, program: [data + length, end] }
}

/**
 * What the programs of an entry and its common part say at an offset; undefined where they use what this does not know.
 */
function rowAt(
  view: DataView,
  common: Common,
  program: readonly [number, number],
  offset: number,
): FrameRow | undefined {
  let row: FrameRow = { register: 7, offset: 8, savedRbp: undefined }
  let initial = row
  const stack: FrameRow[] = []
  let location = 0
  for (const [from, to] of [common.program, program]) {
    const reader = new Reader(view, from)
    while (reader.at < to) {
      const code = reader.byte()
      const [high, low] = [code >> 6, code & 0x3f]
      if (high === 1 || (code >= 2 && code <= 4)) {
        const by =
          high === 1
            ? low
            : code === 2
              ? reader.byte()
              : code === 3
                ? reader.byte() | (reader.byte() << 8)
                : reader.word()
        location += by * common.codeFactor
        if (location > offset) return row
      } else if (high === 2 || code === 5) {
        const register = high === 2 ? low : reader.leb()
        const saved = reader.leb() * common.dataFactor
        if (register === RBP) row = { ...row, savedRbp: saved }
      } else if (high === 3) {
        if (low === RBP) row = { ...row, savedRbp: initial.savedRbp }
      } else if (code === 0x0a) stack.push(row)
      else if (code === 0x0b) row = stack.pop()!
      else if (code === 0x0c) row = { ...row, register: reader.leb(), offset: reader.leb() }
      else if (code === 0x0d) row = { ...row, register: reader.leb() }
      else if (code === 0x0e) row = { ...row, offset: reader.leb() }
      else if (code === 0x0f) {
        row = { ...row, register: -1 }
        const length = reader.leb()
        reader.at += length
      } else if (code === 0x10 || code === 0x16) {
        reader.leb()
        const length = reader.leb()
        reader.at += length
      } else if (code === 0x2e) reader.leb()
      else if (code !== 0) return undefined
    }
    initial = row
  }
  return row
}
