/** Code that branches into the middle of its own instructions: the sites of both readings are found. */
import { describe, expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'

const BASE = 0x40_0000n
const OUTSIDE = 0x1000_0000n

const hex = (text: string): number[] => text.match(/../g)!.map((byte) => Number.parseInt(byte, 16))

/** Functions that call out, so that the outside is known, around `bytes` at offset 0x200. */
function blobWith(bytes: readonly number[]): Uint8Array {
  const blob = new Uint8Array(0x400).fill(0xcc)
  const view = new DataView(blob.buffer)
  for (let at = 0; at < blob.length; at += 16) {
    blob.set(hex('554889e5e8000000005dc3'), at)
    view.setInt32(at + 5, Number(OUTSIDE - BASE) - at - 9, true)
  }
  blob.set(bytes, 0x200)
  return blob
}

const sitesAt = (bytes: readonly number[]): number[] =>
  analyze(blobWith(bytes), {
    base: BASE,
    hints: { ranges: [{ start: 0, end: 0x400, kind: 'code' }], entries: [0, 0x200] },
  })
    .sites()
    .map(({ offset }) => offset - 0x200)
    .filter((offset) => offset >= 0 && offset < bytes.length)

/** A 4-byte field at 0x200 + `at` whose instruction ends there and points outside. */
const outsideFrom = (at: number): number[] => {
  const field = new Uint8Array(4)
  new DataView(field.buffer).setInt32(0, Number(OUTSIDE - BASE) - 0x200 - at - 4, true)
  return [...field]
}

describe('flow into the middle of instructions', () => {
  it('a jump into itself, a condition and its opposite, an immediate that is a jump', () => {
    const bytes = [
      ...hex('ebff'), // jmp +1: inc eax, with the next byte
      ...hex('c07403'), // je to the lea
      ...hex('7501'), // jne to the lea
      ...hex('e8'), // never executed
      ...hex('488d05'), // lea rax, [outside]
      ...outsideFrom(0xb),
      ...hex('66b8eb05'), // mov ax, whose immediate jumps to the ret
      ...hex('31c0'), // xor eax, eax
      ...hex('74fa'), // je into the immediate
      ...hex('e8'), // never executed
      ...hex('c3'), // ret
    ]
    expect(sitesAt(bytes)).toEqual([0xb])
  })

  it('a lock prefix that is jumped over', () => {
    const bytes = [...hex('7401'), ...hex('f0ff05'), ...outsideFrom(5), ...hex('c3')]
    expect(sitesAt(bytes)).toEqual([5])
  })

  it('an operand that is the opcode of another instruction is reported: to write it would make that another one', () => {
    // je into vzeroupper; there clc; ja, whose field is the opcode of the jo behind vzeroupper
    const blob = Buffer.from('740f9090909090909090909090909090c5f87770ecc3', 'hex')
    const table = analyze(blob, {
      base: BASE,
      hints: { ranges: [{ start: 0, end: blob.length, kind: 'code' }] },
    })
    expect(table.sites().some(({ offset }) => offset === 19)).toBe(false)
    expect(table.problems.map((problem) => problem.code)).toContain('shared-field')
  })

  it('two readings that share an operand: the straight one moves, the other is reported', () => {
    // mov eax, imm32; the branch leads into its immediate: `call outside`, whose field covers the end of the
    // immediate and the next instruction.
    const bytes = [
      ...hex('7404'),
      ...hex('48b8'),
      ...hex('9090'),
      ...hex('e8'),
      ...outsideFrom(7),
      ...hex('90'),
      ...hex('c3'),
    ]
    const table = analyze(blobWith(bytes), {
      base: BASE,
      hints: { ranges: [{ start: 0, end: 0x400, kind: 'code' }], entries: [0, 0x200] },
    })
    expect(table.problems.map(({ code, offset }) => [code, offset - 0x200])).toContainEqual([
      'shared-field',
      6,
    ])
    expect(sitesAt(bytes)).toEqual([])
  })
})
