/**
 * Numbers of as many bytes as they need: LEB128, 7 bits a byte, the lowest first; signed ones folded (0, -1,
 * 1, -2 ...).
 */
import { RelocError } from '../core/errors.ts'

export const damagedTable = (what: string): RelocError =>
  new RelocError(
    'bad-input',
    `The table is damaged: ${what}. Write it again with --write-table or table.toBinary(code).`,
  )

const fold = (value: bigint): bigint => BigInt.asUintN(64, (value << 1n) ^ (value >> 63n))
const unfold = (bits: bigint): bigint => (bits >> 1n) ^ -(bits & 1n)

export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(256)
  #length = 0

  byte(value: number): void {
    if (this.#length === this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length)
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    this.#bytes[this.#length++] = value
  }
  raw(bytes: Uint8Array): void {
    for (const value of bytes) this.byte(value)
  }
  /** A whole number, exact in a double. */
  number(value: number): void {
    let rest = value
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.byte((rest % 128) + 128)
    this.byte(rest)
  }
  /** An unsigned 64-bit number. */
  wide(value: bigint): void {
    let rest = value
    for (; rest >= 128n; rest >>= 7n) this.byte(Number(rest & 127n) + 128)
    this.byte(Number(rest))
  }
  /** A signed 64-bit number. */
  signed(value: bigint): void {
    this.wide(fold(value))
  }
  /** A view of what was written. */
  bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length)
  }
}

/** Reads what `ByteWriter` wrote; throws `bad-input` at the end of the bytes and for numbers that are too large. */
export class ByteReader {
  readonly #bytes: Uint8Array
  #at: number

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes
    this.#at = at
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }
  byte(): number {
    if (this.#at >= this.#bytes.length) throw damagedTable('it ends too early')
    return this.#bytes[this.#at++]
  }
  raw(length: number): Uint8Array {
    if (this.left < length) throw damagedTable('it ends too early')
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }
  /** A whole number from 0 to `limit`; `what` names it in the message. */
  number(limit: number, what: string): number {
    let value = 0
    for (let factor = 1; factor < 2 ** 56; factor *= 128) {
      const byte = this.byte()
      value += (byte & 127) * factor
      if (byte < 128) {
        if (value <= limit) return value
        break
      }
    }
    throw damagedTable(`${what} is larger than ${limit}`)
  }
  wide(what: string): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.byte()
      value |= BigInt(byte & 127) << shift
      if (byte >= 128) continue
      if (value >> 64n === 0n) return value
      break
    }
    throw damagedTable(`${what} has more than 64 bits`)
  }
  signed(what: string): bigint {
    return unfold(this.wide(what))
  }
}
