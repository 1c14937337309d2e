import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { CELL_COUNT, randomNumbers, writeEncoding } from '../../scripts/fuzz/encodings.ts'
import { textOf } from '../../scripts/support/elf-text.ts'
import { viewOf } from '../../src/core/bytes.ts'
import { isWorthFastTables } from '../../src/x86/fast.ts'
import { Flow, Instruction, Memory, Prefix } from '../../src/x86/instruction.ts'
import { findNotable, type NotableOptions } from '../../src/x86/notable.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'
import { sweep } from '../../src/x86/sweep.ts'

/** The definition, by decoding everything. */
function expected(code: Uint8Array, starts: Uint32Array, options: NotableOptions): Uint32Array {
  const decoder = createTableDecoder(code, options)
  const view = viewOf(code)
  const out = new Instruction()
  const { window } = options
  const inside = (at: number, size: number, signed: boolean): boolean => {
    if (window === undefined) return false
    const value =
      size === 8
        ? view.getBigUint64(at, true)
        : BigInt(signed ? view.getInt32(at, true) : view.getUint32(at, true))
    const address = BigInt.asUintN(64, value)
    return address >= window.start && address <= window.end
  }
  return starts.filter((start) => {
    if (decoder.decode(start, out) === 0) return false
    if ((((options.flows ?? 0) >> out.flow) & 1) !== 0) return true
    const relative = out.memory === Memory.rip || out.memory === Memory.eip
    if (relative && options.ipRelative === true) return true
    const narrow = (out.prefixes & Prefix.p67) !== 0
    if (
      !relative &&
      out.displacementSize >= 4 &&
      inside(start + out.displacementOffset, out.displacementSize, !narrow)
    )
      return true
    return (
      out.immediateSize >= 4 &&
      inside(start + out.immediateOffset, out.immediateSize, out.immediateWidth > out.immediateSize)
    )
  })
}

const BRANCHES = (1 << Flow.conditional) | (1 << Flow.jump) | (1 << Flow.call) | (1 << Flow.xbegin)

// First of all: in a fresh process, a little code is left to the decoder.
describe('findNotable in a little code', () => {
  it('before the tables are built, what it finds with them', () => {
    const next = randomNumbers(4)
    const code = new Uint8Array(2_000 * 16)
    for (let at = 0; at < code.length; at += 16) writeEncoding(next() % CELL_COUNT, false, next, code, at)
    const { starts } = sweep(code)
    const options = { flows: BRANCHES, ipRelative: true, window: { start: 0n, end: 0x4000_0000n } }
    expect(isWorthFastTables('intel', code.length)).toBe(false)
    const actual = findNotable(code, starts, options)
    expect(actual).toEqual(expected(code, starts, options))
    expect(actual.length).toBeGreaterThan(100)
  })
})

describe('findNotable', () => {
  const next = randomNumbers(3)
  const code = new Uint8Array(60_000 * 16)
  for (let at = 0; at < code.length; at += 16) writeEncoding(next() % CELL_COUNT, false, next, code, at)
  // Small constants, so that windows catch some.
  for (let at = 0; at < code.length; at++) if ((next() & 3) === 0) code[at] = 0
  let all: Uint32Array
  beforeAll(() => {
    all = sweep(code).starts
  })

  it.each([
    ['branches', { flows: BRANCHES }],
    ['everything relative', { flows: BRANCHES, ipRelative: true }],
    ['a low window', { window: { start: 0x100n, end: 0x10_0000n } }],
    ['a window of high addresses', { window: { start: (1n << 64n) - (1n << 28n), end: (1n << 64n) - 1n } }],
    ['a window between', { window: { start: 0x7000_0000n, end: 0xff_0000_0000n } }],
    [
      'all at once, as AMD reads it',
      { cpu: 'amd', flows: 0xffe, ipRelative: true, window: { start: 0n, end: 0x4000_0000n } },
    ],
    ['nothing', {}],
  ] satisfies readonly (readonly [string, NotableOptions])[])('%s', (name, options) => {
    const actual = findNotable(code, all, options)
    expect(actual).toEqual(expected(code, all, options))
    if (name !== 'nothing') expect(actual.length).toBeGreaterThan(500)
  })

  it.skipIf(process.platform !== 'linux')('in the text of node', () => {
    const text = textOf(readFileSync(process.execPath)).subarray(3_000_000, 4_000_000)
    const { starts } = sweep(text)
    const options = { flows: BRANCHES, ipRelative: true, window: { start: 0xb7_2000n, end: 0x600_0000n } }
    const actual = findNotable(text, starts, options)
    expect(actual).toEqual(expected(text, starts, options))
    expect(actual.length).toBeGreaterThan(20_000)
  })
})
