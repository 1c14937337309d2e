/** Verification of moves with veneers: by what these do, whoever made them. */
import { describe, expect, it } from 'vitest'
import { randomNumbers } from '../../scripts/fuzz/encodings.ts'
import { CELLS, TemplateMaker } from '../../scripts/fuzz/reach-cases.ts'
import { hexBytes } from '../../src/core/bytes.ts'
import { move } from '../../src/move.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { type Verdict, verify } from '../../src/verify/verify.ts'

const HOME = 0x1000_0000n
const FAR = 0x7000_0000_0000n
const LOW = { start: 0x2000_0000n, length: 0x1000n }
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))

/** All bytes of `code` but the last are one instruction with a RIP-relative operand. */
function farMove(code: Uint8Array, at: number, end: number) {
  const runs = [{ start: 0, end: code.length }]
  const table = RelocationTable.fromSites([{ offset: at, kind: 'pc32', end }], { code, base: HOME, runs })
  const moved = relocate(code, table, { to: FAR, veneers: true })
  const moves = [{ from: HOME, to: FAR, length: code.length }]
  const check = (after: Uint8Array, area: Uint8Array): Verdict =>
    verify(code, after, { moves, claim: table, veneers: { at: moved.veneers?.at ?? 0n, bytes: area } })
  return { moved, area: moved.veneers?.bytes ?? new Uint8Array(0), check }
}

describe('verify', () => {
  it('follows what stands in for 1,000 instructions of every class, with and without AVX-512 or TSX here', () => {
    const next = randomNumbers(3)
    const maker = new TemplateMaker(next)
    for (let done = 0; done < 1000; ) {
      const absolute = next() % 8 === 0
      const template =
        next() % 20 === 0 ? maker.branch() : maker.make(next() % CELLS, absolute ? 'absolute' : 'rip')
      // 66h before an indirect branch is refused.
      if (template === undefined || template.branch !== undefined) continue
      done++
      const { bytes: instruction, at, kind } = template
      const code = Uint8Array.from([...instruction, 0x90])
      new DataView(code.buffer).setInt32(at, absolute ? 0x2000_0100 : 0x10_0000, true)
      const runs = [{ start: 0, end: code.length }]
      const site = { offset: at, kind, end: kind === 'pc32' ? instruction.length : undefined }
      const table = RelocationTable.fromSites([site], { code, base: HOME, runs, moved: [LOW] })
      const also = [{ from: LOW.start, to: 0x6000_0000_0000n, length: LOW.length }]
      const { verdict } = move(code, { from: HOME, to: FAR, also, table, veneers: true })
      expect(verdict, hexBytes(instruction)).toMatchObject({ ok: true, proved: { veneers: 1 } })
    }
  }, 30_000)

  it.each([
    ['add [rip+x], ecx', '01 0d 00 00 10 00', 2, '3.6 3.7 6.1 6.2 22.6 22.7'],
    ['pop [rip+x]', '8f 05 00 00 10 00', 2, '3.6 3.7 7.1 7.2 20.6 20.7 25.1 33.6 33.7'],
    ['mulx rax, rcx, [rip+x]', 'c4 e2 f3 f6 05 00 00 10 00', 5, '3.6 3.7 6.1 6.2 17.6 25.6 25.7'],
    ['add rsp, [rip+x]', '48 03 25 00 00 10 00', 3, '3.6 3.7 10.1 10.2 23.6 23.7 28.1 34.6 34.7'],
    [
      'vpaddd zmm0{k1}, zmm2, [rip+x]{1to16}',
      '62 f1 6d 59 fe 05 00 00 10 00',
      6,
      '3.6 3.7 6.1 6.2 17.6 26.6 26.7',
    ],
  ])('refuses any other bit in the veneer of %s, but those that mean nothing', (_, text, at, useless) => {
    const code = bytes(`${text} 90`)
    const { moved, area, check } = farMove(code, at, code.length - 1)
    expect(check(moved.bytes, area).ok).toBe(true)
    const passing: string[] = []
    for (let i = 0; i < 8 * area.length; i++) {
      const other = area.slice()
      other[i >> 3] ^= 1 << (i & 7)
      if (check(moved.bytes, other).ok) passing.push(`${i >> 3}.${i & 7}`)
    }
    // byte.bit: scales without an index, REX bits without a register.
    expect(passing.join(' ')).toBe(useless)
    for (let i = 0; i < 8 * (code.length - 1); i++) {
      const other = moved.bytes.slice()
      other[i >> 3] ^= 1 << (i & 7)
      // 67h before the jump is there for its length alone.
      if (check(other, area).ok) expect(moved.bytes[i >> 3]).toBe(0x67)
    }
  })

  it.each([
    ['call', 'e8'],
    ['jmp', 'e9'],
    ['jg', '0f 8f'],
    ['je, with a hint', '3e 0f 84'],
    ['xbegin', 'c7 f8'],
  ])('refuses any other bit in the stub of %s, and in the way to it', (_, opcode) => {
    const at = bytes(opcode).length
    const code = bytes(`${opcode} 00 00 10 00 90`)
    const { moved, area, check } = farMove(code, at, at + 4)
    expect(check(moved.bytes, area).ok).toBe(true)
    for (let i = 0; i < 8 * area.length; i++) {
      const other = area.slice()
      other[i >> 3] ^= 1 << (i & 7)
      // Int3 aligns the literal.
      expect(check(moved.bytes, other).ok).toBe(area[i >> 3] === 0xcc)
    }
    for (let i = 8 * at; i < 8 * (at + 4); i++) {
      const other = moved.bytes.slice()
      other[i >> 3] ^= 1 << (i & 7)
      expect(check(other, area).ok).toBe(false)
    }
  })

  it.each<[string, string, boolean]>([
    ['xor ecx, ecx', '31 c9 90 90', true],
    ['jz to the same, mov ecx, ebx', '74 00 8b cb', true],
    ['jz over what writes it', '74 02 8b cb', false],
    ['mov eax, ecx', '8b c1 90 90', false],
    ['mov cl, 1', 'b1 01 90 90', false],
    ['cmovz ecx, eax', '0f 44 c8 90', false],
    ['a return', 'c3 90 90 90', false],
  ])('a register that is lost is one that is dead: before %s', (_, behind, isDead) => {
    // add [rip+x], ebx, whose veneer loses rcx as it is dead there
    const dead = farMove(bytes('01 1d 00 00 10 00 31 c9 90 90 c3'), 2, 6)
    expect(dead.check(dead.moved.bytes, dead.area).ok).toBe(true)
    const other = farMove(bytes(`01 1d 00 00 10 00 ${behind} c3`), 2, 6)
    const after = other.moved.bytes.slice()
    after.set(dead.moved.bytes.subarray(0, 6))
    expect(other.check(after, dead.area).ok).toBe(isDead)
  })

  it('moves code with veneers on, and home, and says what is proved', () => {
    const code = bytes('48 8b 05 00 00 20 00  e8 00 00 30 00  48 8d 3d 00 00 40 00  eb eb')
    const there = move(code, { from: HOME, to: FAR, veneers: true, hints: { entries: [0] } })
    expect(there.verdict?.proved.veneers).toBe(3)
    const on = move(there.bytes, { from: FAR, to: 0x100_0000_0000n, table: there.table, veneers: true })
    expect(on.verdict?.proved.veneers).toBe(3)
    const home = move(on.bytes, { from: 0x100_0000_0000n, to: HOME, table: on.table })
    expect(home.verdict?.proved.veneers).toBe(0)
    expect(hexBytes(home.bytes)).toBe(hexBytes(code))
  })
})
