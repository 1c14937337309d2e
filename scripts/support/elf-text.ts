/** The .text section of a 64-bit little-endian ELF file. */
export function textOf(file: Uint8Array): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const sections = Number(view.getBigUint64(0x28, true))
  const size = view.getUint16(0x3a, true)
  const header = (index: number): number => sections + index * size
  const field = (at: number): number => Number(view.getBigUint64(at, true))
  const names = field(header(view.getUint16(0x3e, true)) + 0x18)
  for (let i = 0; i < view.getUint16(0x3c, true); i++) {
    const name = names + view.getUint32(header(i), true)
    if (String.fromCharCode(...file.subarray(name, name + 6)) === '.text\0') {
      const start = field(header(i) + 0x18)
      return file.slice(start, start + field(header(i) + 0x20))
    }
  }
  throw new Error('There is no .text section in this file.')
}
