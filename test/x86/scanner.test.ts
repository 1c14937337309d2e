import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { fuzzDecoder } from '../../scripts/fuzz-decoder.ts'
import { generateTables } from '../../scripts/generate-tables.ts'
import { createIcedDecoder } from '../../src/x86/iced.ts'
import { Instruction } from '../../src/x86/instruction.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'

describe('the generated tables', () => {
  it('are what iced gives now', () => {
    for (const [name, generated] of generateTables()) {
      const text = readFileSync(new URL(`../../src/x86/generated/${name}`, import.meta.url), 'utf8')
      expect([name, generated === text]).toEqual([name, true])
      expect(text.length).toBeLessThan(65536)
    }
  }, 30_000)
})

describe('the table decoder', () => {
  it.each([
    ['intel', 1],
    ['amd', 2],
  ] as const)('says what iced says of 100,000 encodings: %s', (cpu, seed) => {
    const report = fuzzDecoder(100_000, seed, cpu)
    expect(report.differences).toEqual([])
    expect(report.valid).toBeGreaterThan(50_000)
  })

  it.each([
    // vpgatherdd zmm19 by zmm19, by zmm3; zmm3 by zmm3, by zmm19.
    ['62e27d42901cdd4cce1088', 0],
    ['62e27d4a901cdd4cce1088', 11],
    ['62f27d4a901cdd4cce1088', 0],
    ['62f27d42901cdd4cce1088', 11],
  ])('a gather into its own index is none, among all 32 registers: %s', (text, length) => {
    const code = Uint8Array.from(text.match(/../g)!, (byte) => parseInt(byte, 16))
    const iced = createIcedDecoder(code)
    expect(iced.decode(0, new Instruction())).toBe(length)
    iced.dispose()
    expect(createTableDecoder(code).decode(0, new Instruction())).toBe(length)
  })

  it('never uses a byte past the end, and says so of every cut', () => {
    const whole = Uint8Array.from(
      '4881bc24112233445566778890c4e2798c0d00000000488b0500000000f3480f1efac8010203'.match(/../g)!,
      (byte) => parseInt(byte, 16),
    )
    const expected = new Instruction()
    const actual = new Instruction()
    let cut = 0
    for (let end = 0; end <= whole.length; end++) {
      const code = whole.subarray(0, end)
      const tables = createTableDecoder(code)
      const iced = createIcedDecoder(code)
      for (let offset = 0; offset <= end; offset++) {
        iced.decode(offset, expected)
        tables.decode(offset, actual)
        if (expected.length === 0) {
          cut++
          expect([end, offset, actual.length]).toEqual([end, offset, 0])
        } else expect(actual).toEqual(expected)
      }
      iced.dispose()
    }
    expect(cut).toBeGreaterThan(whole.length)
  })

  it('refuses more than 15 bytes', () => {
    const code = new Uint8Array(64).fill(0x66)
    code[14] = 0x90
    const out = new Instruction()
    expect(createTableDecoder(code).decode(0, out)).toBe(15)
    code[14] = 0x66
    code[15] = 0x90
    expect(createTableDecoder(code).decode(0, out)).toBe(0)
    expect(createTableDecoder(code).decode(1, out)).toBe(15)
  })
})
