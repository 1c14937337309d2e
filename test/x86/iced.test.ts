import { describe, expect, it, vi } from 'vitest'
import { createIcedDecoder, formatInstruction, IcedCursor } from '../../src/x86/iced.ts'
import { Flow, Instruction, Memory, Prefix } from '../../src/x86/instruction.ts'

const bytes = (text: string): Uint8Array => Uint8Array.from(text.split(' ').map((byte) => parseInt(byte, 16)))

function decode(text: string, cpu: 'intel' | 'amd' = 'intel'): Instruction {
  const decoder = createIcedDecoder(bytes(text), { cpu })
  const out = new Instruction()
  decoder.decode(0, out)
  decoder.dispose()
  return out
}

describe('the iced decoder', () => {
  it.each<[string, string, Partial<Instruction>]>([
    [
      'cmp [rip+d], imm32 of a word of 64',
      '48 81 3d 01 02 03 04 05 06 07 08',
      {
        length: 11,
        displacementOffset: 3,
        displacementSize: 4,
        immediateOffset: 7,
        immediateSize: 4,
        immediateWidth: 8,
        memory: Memory.rip,
        prefixes: Prefix.rex | Prefix.w,
        modrmOffset: 2,
        modrm: 0x3d,
      },
    ],
    [
      'mov r32, imm32',
      'b9 01 02 03 04',
      { immediateOffset: 1, immediateWidth: 4, modrmOffset: 0, opcode: 0xb9 },
    ],
    [
      'moffs64',
      '48 a1 1 2 3 4 5 6 7 8',
      { memory: Memory.moffs, displacementOffset: 2, displacementSize: 8 },
    ],
    [
      'disp32 alone, fs',
      '64 8b 04 25 1 2 3 4',
      { memory: Memory.absolute, prefixes: Prefix.fs, displacementSize: 4 },
    ],
    ['eip', '67 8b 05 1 2 3 4', { memory: Memory.eip, displacementOffset: 3, prefixes: Prefix.p67 }],
    [
      'index only',
      'ff 24 c5 1 2 3 4',
      { memory: Memory.index, flow: Flow.indirectJump, displacementOffset: 3 },
    ],
    ['xbegin', '66 c7 f8 1 2', { flow: Flow.xbegin, branchOffset: 3, branchSize: 2, immediateSize: 0 }],
    ['enter', 'c8 1 2 3', { immediateOffset: 1, immediateSize: 2, immediateWidth: 2, immediate2Offset: 3 }],
    ['3DNow!', '0f 0f c1 9e', { encoding: 4, map: 1, opcode: 0x9e, modrmOffset: 2 }],
    [
      'VEX.X and VEX.B clear are extended',
      'c4 81 72 58 04 05 1 2 3 4',
      {
        encoding: 1,
        map: 1,
        opcode: 0x58,
        memory: Memory.index,
        vvvv: 1,
        modrmOffset: 4,
        prefixes: Prefix.f3 | Prefix.rexX | Prefix.rexB,
      },
    ],
    [
      'EVEX disp8',
      '62 f1 7c 48 10 40 01',
      { encoding: 2, map: 1, opcode: 0x10, displacementOffset: 6, displacementSize: 1 },
    ],
    ['XOP imm32', '8f ea 78 10 c0 1 2 3 4', { encoding: 3, map: 10, immediateOffset: 5, immediateSize: 4 }],
    ['vzeroupper', 'c5 f8 77', { modrmOffset: 0, flow: Flow.next }],
    ['REX before a prefix is dropped', '48 66 90', { prefixes: Prefix.p66, length: 3 }],
    ['no lock on a register', 'f0 01 c0', { length: 0 }],
  ])('%s', (_, text, expected) => {
    expect(decode(text)).toMatchObject(expected)
  })

  it('knows how the makers differ on 66h branches', () => {
    expect(decode('66 e9 01 02 03 04')).toMatchObject({ length: 6, branchSize: 4, branch16: 0 })
    expect(decode('66 e9 01 02 03 04', 'amd')).toMatchObject({ length: 4, branchSize: 2, branch16: 1 })
  })
})

describe('IcedCursor', () => {
  it('gives targets at the true address, in any order, and goes on after bytes that are no instruction', () => {
    const code = bytes('e8 fb ff ff ff 06 67 8d 05 00 00 00 00 eb fe')
    const cursor = new IcedCursor(code, { base: 0x1_0000_0000n })
    const seen = [13, 0, 5, 6, 15].map((offset) => [cursor.decode(offset), cursor.length && cursor.target])
    cursor.dispose()
    expect(seen).toEqual([
      [2, 0x1_0000_000dn],
      [5, 0x1_0000_0000n],
      [0, 0],
      [7, 0xdn],
      [0, 0],
    ])
  })
})

describe('formatInstruction', () => {
  it('writes 0x numbers and resolved addresses', () => {
    expect(formatInstruction(bytes('90 48 8b 05 f0 ff ff ff'), 1, 0x401000n)).toBe('mov rax, [rel 0x400ff7]')
    expect(formatInstruction(bytes('e8 00 00 00 00'), 0, 0x401000n)).toBe('call 0x401005')
    expect(formatInstruction(bytes('06'), 0, 0n)).toBe('(bad)')
  })
})

it('says in a line why iced cannot be loaded, and what goes without it', async () => {
  vi.resetModules()
  const { loadIced, loadIcedBy } = await import('../../src/x86/iced.ts')
  loadIcedBy(() => {
    throw new ReferenceError('WebAssembly is not defined')
  })
  let caught: unknown
  try {
    loadIced()
  } catch (error) {
    caught = error
  }
  expect(caught).toMatchObject({ name: 'RelocError', code: 'unsupported' })
  expect((caught as Error).message).toMatch(/^iced-x86 .*WebAssembly is not defined.*--no-verify/)
})
