/**
 * Several ranges that move: what an address at an end moves with, then and after they have moved; ranges
 * larger than numbers are exact.
 */
import { describe, expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'
import type { Move } from '../../src/core/range.ts'
import { move } from '../../src/move.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { verify } from '../../src/verify/verify.ts'

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const hex = (code: Uint8Array): string =>
  Buffer.from(code)
    .toString('hex')
    .replace(/(..)(?!$)/g, '$1 ')
const BASE = 0x400000n
const hints = (length: number) => ({
  ranges: [{ start: 0, end: length, kind: 'code' as const }],
  entries: [0],
})

describe('the end of a range', () => {
  // lea to the end; load from the end; jmp to the end; imm64 of the end: 29 bytes, so it is 0x40001d.
  const code = bytes('48 8d 05 16 00 00 00 48 8b 05 0f 00 00 00 48 b8 1d 00 40 00 00 00 00 00 e9 00 00 00 00')
  const end = BASE + 29n

  it('an end pointer moves along, a load and a branch stay', () => {
    const { bytes: moved } = move(code, { from: BASE, to: BASE + 0x100n, hints: hints(29) })
    expect(hex(moved)).toBe(
      '48 8d 05 16 00 00 00 48 8b 05 0f ff ff ff 48 b8 1d 01 40 00 00 00 00 00 e9 00 ff ff ff',
    )
  })

  it('where another range begins there, all of them mean that one', () => {
    const also = [{ from: end, to: 0x500000n, length: 8 }]
    const { bytes: moved } = move(code, { from: BASE, to: BASE, also, hints: hints(29) })
    // 0x500000 - 0x40001d = 0xfffe3 further.
    expect(hex(moved)).toBe(
      '48 8d 05 f9 ff 0f 00 48 8b 05 f2 ff 0f 00 48 b8 00 00 50 00 00 00 00 00 e9 e3 ff 0f 00',
    )
  })

  it('what it was when the table was made it stays, whatever comes to lie there', () => {
    const other = { start: 0x600000n, length: 0x40n }
    const made = analyze(code, { base: BASE, hints: hints(29), moved: [other] })
    const nextTo = [{ from: other.start, to: end, length: other.length }]
    const { bytes: first, table } = relocate(code, made, { also: nextTo })
    expect(first).toEqual(code)
    expect(verify(code, first, { claim: made, moves: nextTo }).problems).toEqual([])
    // The other range lies at the blob's end now; when that one moves on, nothing of the blob goes with it.
    const on: Move[] = [{ from: end, to: 0x700000n, length: other.length }]
    const { bytes: second } = relocate(first, table, { also: on })
    expect(second).toEqual(code)
    expect(verify(first, second, { claim: table, moves: on }).problems).toEqual([])
    // And when the blob moves away, its end pointers go with it.
    const away = relocate(first, table, { to: BASE - 0x100n })
    expect(hex(away.bytes)).toBe(
      '48 8d 05 16 00 00 00 48 8b 05 0f 01 00 00 48 b8 1d ff 3f 00 00 00 00 00 e9 00 01 00 00',
    )
    const moves = [{ from: BASE, to: BASE - 0x100n, length: 29 }]
    expect(verify(first, away.bytes, { claim: table, moves }).problems).toEqual([])
  })

  it('at 2^64 there is no end pointer: the next address is 0', () => {
    const last = 2n ** 64n - 10n
    const zero = bytes('48 b8 00 00 00 00 00 00 00 00')
    expect(analyze(zero, { base: last, hints: hints(10) }).size).toBe(0)
  })
})

describe('large ranges', () => {
  const imm64 = (...values: readonly bigint[]): Uint8Array => {
    const code = new Uint8Array(10 * values.length)
    values.forEach((value, i) => {
      code.set([0x48, 0xb8], 10 * i)
      new DataView(code.buffer).setBigUint64(10 * i + 2, value, true)
    })
    return code
  }
  const found = (
    values: readonly bigint[],
    options: { span?: number; moved?: { start: bigint; length: bigint }[] },
  ) =>
    analyze(imm64(...values), { base: BASE, hints: hints(10 * values.length), ...options })
      .sites()
      .map(({ target }) => target)

  it('of more bytes than a number counts', () => {
    const start = 2n ** 60n + 1n
    const length = 2n ** 61n + 3n
    const values = [start - 1n, start, start + length - 1n, start + length, start + length + 1n]
    expect(found(values, { moved: [{ start, length }] })).toEqual(values.slice(1, 4))
  })

  it('of more than 4 GB behind the bytes', () => {
    const span = 2 ** 33 + 1
    const values = [BASE - 1n, BASE, BASE + 2n ** 32n, BASE + BigInt(span), BASE + BigInt(span) + 1n]
    expect(found(values, { span })).toEqual(values.slice(1, 4))
  })
})
