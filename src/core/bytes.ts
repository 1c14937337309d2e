/** Little-endian fields of any alignment in a byte array, and hex text. */
import { given, RelocError } from './errors.ts'

const tagOf = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  Symbol.toStringTag,
)?.get as (this: unknown) => string | undefined

/**
 * Whether `value` is a typed array of that name, wherever it was made: test runners and `vm` have other
 * globals than the Buffers that they hand on. (A proxy of one is none.)
 */
export const isTypedArray = (value: unknown, name: 'Uint8Array' | 'Uint32Array'): boolean =>
  tagOf.call(value) === name

/**
 * Whether the buffer of an array was transferred, or shrunk below it. Then it has a length of 0, and throws
 * when it is read.
 */
function isLost(bytes: Uint8Array): boolean {
  try {
    return bytes.length === 0 && bytes.includes(0)
  } catch {
    return true
  }
}

/** `value` as bytes; throws `bad-argument` unless it is a Uint8Array (a Buffer is one) that still has them. */
export function toBytes(value: unknown, what: string): Uint8Array {
  if (isTypedArray(value, 'Uint8Array')) {
    const bytes = value as Uint8Array
    if (!isLost(bytes)) return bytes
    throw new RelocError(
      'bad-argument',
      `${what} has lost its bytes: its buffer was transferred, or made shorter. Copy them before.`,
    )
  }
  throw new RelocError('bad-argument', `${what} is ${given(value)}: a Uint8Array (or Buffer) is needed.`)
}

/** A view of exactly these bytes. */
export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** A copy of `bytes[start, end)`. (`slice` of a Buffer is none, but a view.) */
export function copyBytes(bytes: Uint8Array, start = 0, end: number = bytes.length): Uint8Array {
  const copy = new Uint8Array(end - start)
  // An instruction's bytes are copied faster one by one than by way of a view.
  if (copy.length > 32) copy.set(bytes.subarray(start, end))
  else for (let i = 0; i < copy.length; i++) copy[i] = bytes[start + i]
  return copy
}

/** The field's bits, unsigned; `width` is 1, 2, 4 or 8 bytes. */
export function readField(view: DataView, offset: number, width: number): bigint {
  switch (width) {
    case 1:
      return BigInt(view.getUint8(offset))
    case 2:
      return BigInt(view.getUint16(offset, true))
    case 4:
      return BigInt(view.getUint32(offset, true))
    default:
      return view.getBigUint64(offset, true)
  }
}

/** The field as a signed number; `width` is 1, 2 or 4 bytes. */
export function readSigned(view: DataView, offset: number, width: number): number {
  if (width === 4) return view.getInt32(offset, true)
  return width === 1 ? view.getInt8(offset) : view.getInt16(offset, true)
}

/** Writes the low `width` bytes of `value`. */
export function writeField(view: DataView, offset: number, width: number, value: bigint): void {
  switch (width) {
    case 1:
      view.setUint8(offset, Number(BigInt.asUintN(8, value)))
      break
    case 2:
      view.setUint16(offset, Number(BigInt.asUintN(16, value)), true)
      break
    case 4:
      view.setUint32(offset, Number(BigInt.asUintN(32, value)), true)
      break
    default:
      view.setBigUint64(offset, BigInt.asUintN(64, value), true)
  }
}

/** Lower-case hex of `bytes[start, end)`, cut at the array's end. */
export function hexBytes(bytes: Uint8Array, start = 0, end: number = bytes.length): string {
  let text = ''
  for (let i = start; i < Math.min(end, bytes.length); i++) text += bytes[i].toString(16).padStart(2, '0')
  return text
}
