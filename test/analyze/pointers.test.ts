/** Words of data in range: where compilers put pointers, and where only packed records do. */
import { describe, expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'

const BASE = 0x40_0000n
const FUNCTION = [0x55, 0x48, 0x89, 0xe5, 0x31, 0xc0, 0x5d, 0xc3]

/** 1 KiB of functions, every 16 bytes, and `size` bytes of data behind them, filled by `write`. */
function sitesOf(size: number, write: (view: DataView) => void): number[] {
  const bytes = new Uint8Array(0x400 + size)
  for (let at = 0; at < 0x400; at += 16)
    bytes.set([...FUNCTION, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc], at)
  write(new DataView(bytes.buffer, 0x400))
  const ranges = [
    { start: 0, end: 0x400, kind: 'code' as const },
    { start: 0x400, end: bytes.length, kind: 'data' as const },
  ]
  return analyze(bytes, { base: BASE, hints: { ranges } })
    .sites()
    .map(({ offset }) => offset - 0x400)
}

const pointer = (view: DataView, at: number, offset: number): void =>
  view.setBigUint64(at, BASE + BigInt(offset), true)

describe('pointers in data', () => {
  it('a packed record of two is found', () => {
    expect(
      sitesOf(256, (view) => {
        view.setUint8(0x80, 7)
        pointer(view, 0x81, 0x10)
        pointer(view, 0x8b, 0x410)
      }),
    ).toEqual([0x81, 0x8b])
  })

  it('the same two in 64 KiB of other data are chance', () => {
    expect(
      sitesOf(1 << 16, (view) => {
        for (let at = 0; at < 1 << 16; at += 4) view.setUint32(at, Math.imul(at + 1, 0x9e37_79b1), true)
        pointer(view, 0x81, 0x10)
        pointer(view, 0x8b, 0x410)
      }),
    ).toEqual([])
  })

  it('a run of 4-byte pointers', () => {
    expect(
      sitesOf(256, (view) => {
        for (const [i, offset] of [0x10, 0x150, 0x408, 0x2a0].entries())
          view.setUint32(0x40 + 4 * i, Number(BASE) + offset, true)
      }),
    ).toEqual([0x40, 0x44, 0x48, 0x4c])
  })
})

describe('packed records', () => {
  const CODE = 0x3c00
  const base = 0x4c_4000n

  /** Offsets of the sites in data that holds two packed pointers, and `text` at 0x101. */
  function sitesBeside(text: string): number[] {
    const bytes = new Uint8Array(CODE + 0x400)
    for (let at = 0; at < CODE; at += 16)
      bytes.set([...FUNCTION, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc], at)
    const data = new DataView(bytes.buffer, CODE)
    data.setBigUint64(0x81, base + 0x10n, true)
    data.setBigUint64(0x8b, base + BigInt(CODE + 0x10), true)
    bytes.set(new TextEncoder().encode(text), CODE + 0x101)
    const ranges = [
      { start: 0, end: CODE, kind: 'code' as const },
      { start: CODE, end: bytes.length, kind: 'data' as const },
    ]
    return analyze(bytes, { base, hints: { ranges } })
      .sites()
      .map(({ offset }) => offset - CODE)
  }

  it('the end of a text beside them is none', () => {
    expect(sitesBeside('ThePartsXHL')).toEqual([0x81, 0x8b])
  })

  it('what stands behind a counted text may be one', () => {
    expect(sitesBeside('\x07ThePartXHL')).toEqual([0x81, 0x8b, 0x109])
  })
})

describe('words that point anywhere in the data, and one into code', () => {
  const WORDS = 0x2000
  const ONE = 0x400 + 8 * (WORDS + 8)

  /** Whether the one at the end is a site. */
  function isFound(base: bigint): boolean {
    const bytes = new Uint8Array(ONE + 64)
    for (let at = 0; at < 0x400; at += 16)
      bytes.set([...FUNCTION, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc], at)
    const view = new DataView(bytes.buffer)
    for (let i = 0; i < WORDS; i++)
      view.setBigUint64(0x400 + 8 * i, base + BigInt(0x400 + ((i * 40_503) % (8 * WORDS))), true)
    view.setBigUint64(ONE, base + 0x105n, true)
    const ranges = [
      { start: 0, end: 0x400, kind: 'code' as const },
      { start: 0x400, end: bytes.length, kind: 'data' as const },
    ]
    return analyze(bytes, { base, hints: { ranges } })
      .sites()
      .some(({ offset }) => offset === ONE)
  }

  it('are numbers where numbers are, and addresses where none are', () => {
    expect(isFound(0x10_000n)).toBe(false)
    expect(isFound(0x7_0000_0000n)).toBe(true)
  })
})

describe('what is no code', () => {
  it('is warned of, unless it was said to be data', () => {
    const noise = Uint8Array.from({ length: 1000 }, (_, i) => (Math.imul(i + 1, 0x9e37_79b1) >>> 21) | 0x60)
    const codes = (hints?: { ranges: { start: number; end: number; kind: 'data' }[] }): string[] =>
      analyze(noise, { base: BASE, hints }).problems.map(({ code }) => code)
    expect(codes()).toContain('no-code')
    expect(codes({ ranges: [{ start: 0, end: 1000, kind: 'data' }] })).not.toContain('no-code')
  })

  it('an unknown maker is refused', () => {
    expect(() => analyze(new Uint8Array(4), { base: BASE, cpu: 'via' as 'amd' })).toThrow(/cpu is "via"/)
  })
})
