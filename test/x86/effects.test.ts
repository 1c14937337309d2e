import { describe, expect, it } from 'vitest'
import { fuzzEffects } from '../../scripts/fuzz-decoder.ts'
import { baseRegister, fillEffects, indexRegister, RegisterEffects } from '../../src/x86/effects.ts'
import { Instruction } from '../../src/x86/instruction.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'

const RAX = 1
const RCX = 2
const RDX = 4
const RSP = 0x10
const RSI = 0x40
const RDI = 0x80

function decode(text: string): Instruction {
  const out = new Instruction()
  const code = Uint8Array.from(text.split(' '), (byte) => parseInt(byte, 16))
  expect(createTableDecoder(code).decode(0, out)).toBe(code.length)
  return out
}

describe('fillEffects', () => {
  it('says what iced says of 40,000 encodings of all cells', () => {
    const report = fuzzEffects(250_000, 9)
    expect(report.differences).toEqual([])
    expect(report.count).toBeGreaterThan(40_000)
  })

  it.each([
    ['mov rdi, rax', '48 89 c7', RAX, RDI, false, false],
    ['mov ah, cl writes a part of rax', '88 cc', RCX, RAX, false, false],
    ['mov spl, cl', '40 88 cc', RCX, RSP, false, false],
    ['nop', '90', 0, 0, false, false],
    ['xchg r8d, eax', '41 90', 0x100 | RAX, 0x100 | RAX, false, false],
    ['nop [rax+rcx]', '0f 1f 04 08', 0, 0, false, false],
    ['lea rdx, [rax+rcx]', '48 8d 14 08', RAX | RCX, RDX, false, false],
    ['rep movsb', 'f3 a4', RCX | RSI | RDI, RCX | RSI | RDI, true, false],
    ['push rdx', '52', RSP | RDX, RSP, false, false],
    ['div rcx', '48 f7 f1', RAX | RCX | RDX, RAX | RDX, false, true],
    ['shl rax, cl', '48 d3 e0', RAX | RCX, RAX, false, true],
    ['andn eax, ecx, edx', 'c4 e2 70 f2 c2', RCX | RDX, RAX, false, true],
    ['adc [rdi+rsi*8], rax', '48 11 04 f7', RAX | RDI | RSI, 0, true, true],
  ] as const)('%s', (_, text, reads, writes, readsFlags, writesFlags) => {
    const effects = new RegisterEffects()
    fillEffects(decode(text), effects)
    expect(effects).toEqual({ reads, writes, readsFlags, writesFlags })
  })

  it.each([
    ['[rip+d]', '8b 05 00 00 00 00', -1, -1],
    ['[r13+r12*2+0]', '43 8b 44 65 00', 13, 12],
    ['[r12]', '41 8b 04 24', 12, -1],
    ['[rcx*8+d]', '8b 04 cd 00 00 00 00', -1, 1],
    ['al, cl', '88 c8', -1, -1],
  ] as const)('base and index of %s', (_, text, base, index) => {
    const instruction = decode(text)
    expect([baseRegister(instruction), indexRegister(instruction)]).toEqual([base, index])
  })
})
