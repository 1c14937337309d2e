import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { randomNumbers } from '../../scripts/fuzz/encodings.ts'
import { textOf } from '../../scripts/support/elf-text.ts'
import { sweep } from '../../src/x86/sweep.ts'

const text = process.platform === 'linux' ? textOf(readFileSync(process.execPath)) : new Uint8Array(0)

describe('sweep', () => {
  it.skipIf(text.length === 0)('finds in the text of node what iced finds, at any start and end', () => {
    // At odd offsets of a larger buffer, once too small for the two streams, once for many blocks.
    for (const [start, length] of [
      [1_000_003, 1_500_001],
      [77, 20_011],
    ]) {
      const code = text.subarray(start, start + length)
      const expected = sweep(code, { decoder: 'iced', start: 5, end: length - 3 })
      const actual = sweep(code, { start: 5, end: length - 3 })
      expect(actual.count).toBe(expected.count)
      expect(actual.starts).toEqual(expected.starts)
      expect(actual.sites).toEqual(expected.sites)
      expect(actual.sites.length).toBeGreaterThan(length / 50)
    }
  })

  it('finds in random bytes, for both makers, what iced finds', () => {
    const next = randomNumbers(5)
    const code = Uint8Array.from({ length: 300_000 }, () => next() >>> 24)
    for (const cpu of ['intel', 'amd'] as const) {
      const rejected = { iced: [] as number[], tables: [] as number[] }
      const expected = sweep(code, { decoder: 'iced', cpu, rejected: rejected.iced })
      const actual = sweep(code, { cpu, rejected: rejected.tables })
      expect(actual.starts).toEqual(expected.starts)
      expect(actual.sites).toEqual(expected.sites)
      expect(rejected.tables).toEqual(rejected.iced)
      expect(rejected.iced.length).toBeGreaterThan(1000)
    }
  })

  it('counts from the start, whatever the base', () => {
    const code = Uint8Array.of(0xe8, 0, 0, 0, 0, 0xc3)
    for (const decoder of ['iced', 'tables'] as const)
      for (const base of [0, 0x40_0000, 0x40_0000n])
        expect(sweep(code, { decoder, base }).starts).toEqual(Uint32Array.of(0, 5))
  })

  it('is right where a guessed boundary never falls into step', () => {
    // mov eax, 0xb8b8b8b8 at every fifth byte; a guess at a multiple of 2 keeps its own step for ever.
    const { starts, sites } = sweep(new Uint8Array(500_000).fill(0xb8))
    expect(starts.length).toBe(100_000)
    expect(starts.every((start, i) => start === i * 5)).toBe(true)
    expect(sites.length).toBe(0)
  })

  it('takes every kind of relative field, and nothing else', () => {
    const instructions = [
      ['eb 00', 1],
      ['67 e3 00', 2],
      ['0f 84 00 00 00 00', 2],
      ['e8 00 00 00 00', 1],
      ['c7 f8 00 00 00 00', 2],
      ['66 c7 f8 00 00', 3],
      ['48 81 3d 00 00 00 00 00 00 00 00', 3],
      ['67 8b 05 00 00 00 00', 3],
      ['c5 fc 28 05 00 00 00 00', 4],
      ['62 f1 7c 48 28 05 00 00 00 00', 6],
      ['0f 0f 05 00 00 00 00 9e', 3],
      ['8b 04 25 00 00 00 00', 0],
      ['48 b8 00 00 00 00 00 00 00 00', 0],
      ['ff e0', 0],
    ] as const
    const code: number[] = []
    const sites: number[] = []
    for (const [bytes, field] of instructions) {
      if (field > 0) sites.push(code.length + field)
      code.push(...bytes.split(' ').map((byte) => parseInt(byte, 16)))
    }
    for (const decoder of ['iced', 'tables'] as const) {
      const found = sweep(Uint8Array.from(code), { decoder })
      expect(found.count).toBe(instructions.length)
      expect([...found.sites]).toEqual(sites)
    }
  })

  it('stops when told to, and refuses a range outside the blob', () => {
    const code = new Uint8Array(1 << 20)
    expect(() => sweep(code, { onProgress: (done) => done < 300_000 })).toThrow(
      expect.objectContaining({ code: 'stopped' }),
    )
    expect(() => sweep(code, { start: 9, end: 8 })).toThrow(expect.objectContaining({ code: 'bad-argument' }))
    expect(sweep(new Uint8Array(0)).count).toBe(0)
  })
})
