import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { CELL_COUNT, randomNumbers, writeEncoding } from '../../scripts/fuzz/encodings.ts'
import { textOf } from '../../scripts/support/elf-text.ts'
import { viewOf } from '../../src/core/bytes.ts'
import type { AddressRange } from '../../src/core/range.ts'
import { isWorthFastTables, JOINING, joinsWith } from '../../src/x86/fast.ts'
import { type Cpu, Encoding, Flow, Instruction, Memory, Prefix } from '../../src/x86/instruction.ts'
import { findNotable, type Notable, type NotableOptions, type Watch } from '../../src/x86/notable.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'
import { sweep } from '../../src/x86/sweep.ts'

/** Wants every second one that it is asked of, and writes down which those are. */
class Recorder implements Watch {
  readonly asked: string[] = []
  joins(start: number, opcode: number): boolean {
    this.asked.push(`joins ${start} ${opcode}`)
    return (start & 16) !== 0
  }
  displaces(start: number, opcode: number): boolean {
    this.asked.push(`displaces ${start} ${opcode}`)
    return (start & 32) !== 0
  }
}

const joins = ({ opcode, prefixes }: Instruction, next: number): boolean =>
  JOINING.includes(opcode) && joinsWith(opcode, next, (prefixes & Prefix.w) !== 0)

/** The definition, by decoding everything. */
function expected(
  code: Uint8Array,
  starts: Uint32Array,
  options: NotableOptions,
): Record<keyof Notable, number[]> {
  const decoder = createTableDecoder(code, options)
  const view = viewOf(code)
  const out = new Instruction()
  const { window, watch } = options
  const inside = (at: number, size: number, signed: boolean): boolean => {
    const value =
      size === 8
        ? view.getBigUint64(at, true)
        : BigInt(signed ? view.getInt32(at, true) : view.getUint32(at, true))
    const address = BigInt.asUintN(64, value)
    return address >= window.start && address <= window.end
  }
  const found: Record<keyof Notable, number[]> = { constants: [], ends: [], watched: [] }
  for (const start of starts) {
    decoder.decode(start, out)
    const relative = out.memory === Memory.rip || out.memory === Memory.eip
    if (out.flow !== Flow.next || relative) found.ends.push(start)
    const narrow = (out.prefixes & Prefix.p67) !== 0
    const { displacementSize: size, immediateSize } = out
    if (
      (!relative && size >= 4 && inside(start + out.displacementOffset, size, !narrow)) ||
      (immediateSize >= 4 &&
        inside(start + out.immediateOffset, immediateSize, out.immediateWidth > immediateSize))
    )
      found.constants.push(start)
    let opcode = start
    const isLegacy = out.encoding === Encoding.legacy && out.map === 0
    while (isLegacy && code[opcode] !== out.opcode) opcode++
    const displaces = out.memory === Memory.base && size === 4
    if (
      (isLegacy && joins(out, code[opcode + 1] ?? 0) && watch.joins(start, opcode)) ||
      (displaces && watch.displaces(start, start + out.modrmOffset - 1))
    )
      found.watched.push(start)
  }
  return found
}

/** What is found, and asked on the way, beside what should be. */
function compare(
  code: Uint8Array,
  starts: Uint32Array,
  options: { readonly cpu?: Cpu; readonly window: AddressRange },
  least: number,
): void {
  const [watch, model] = [new Recorder(), new Recorder()]
  const found = findNotable(code, starts, { ...options, watch })
  const right = expected(code, starts, { ...options, watch: model })
  for (const name of ['constants', 'ends', 'watched'] as const) {
    expect(Array.from(found[name])).toEqual(right[name])
    expect(found[name].length).toBeGreaterThan(least)
  }
  expect(watch.asked).toEqual(model.asked)
}

// First of all: in a fresh process, a little code is left to the decoder.
describe('findNotable in a little code', () => {
  it('before the tables are built, what it finds with them', () => {
    const next = randomNumbers(4)
    const code = new Uint8Array(2_000 * 16)
    for (let at = 0; at < code.length; at += 16) writeEncoding(next() % CELL_COUNT, false, next, code, at)
    const { starts } = sweep(code)
    expect(isWorthFastTables('intel', code.length)).toBe(false)
    compare(code, starts, { window: { start: 0n, end: 0x4000_0000n } }, 100)
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
    ['a low window', { window: { start: 0x100n, end: 0x10_0000n } }],
    ['a window of high addresses', { window: { start: (1n << 64n) - (1n << 28n), end: (1n << 64n) - 1n } }],
    ['a window between', { window: { start: 0x7000_0000n, end: 0xff_0000_0000n } }],
    ['a window of no 32-bit constant', { window: { start: 1n << 32n, end: (1n << 64n) - (1n << 31n) - 1n } }],
    ['as AMD reads it', { cpu: 'amd', window: { start: 0n, end: 0x4000_0000n } }],
  ] satisfies readonly (readonly [string, { cpu?: Cpu; window: AddressRange }])[])('%s', (_, options) => {
    compare(code, all, options, 100)
  })

  it.skipIf(process.platform !== 'linux')('in the text of node', () => {
    const text = textOf(readFileSync(process.execPath)).subarray(3_000_000, 4_000_000)
    compare(text, sweep(text).starts, { window: { start: 0xb7_2000n, end: 0x600_0000n } }, 1000)
  })
})
