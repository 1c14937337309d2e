import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { CELL_COUNT, randomNumbers, writeEncoding } from '../../scripts/fuzz/encodings.ts'
import { textOf } from '../../scripts/support/elf-text.ts'
import { viewOf } from '../../src/core/bytes.ts'
import type { AddressRange } from '../../src/core/range.ts'
import { JOINING, joinsWith } from '../../src/x86/fast.ts'
import { type Cpu, Encoding, Flow, Instruction, Memory, Prefix } from '../../src/x86/instruction.ts'
import { findNotable, type Notable, NotableFinder, type NotableOptions } from '../../src/x86/notable.ts'
import { Ends, Joins, Outside, type Rows } from '../../src/x86/notable-rows.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'
import { StartBits } from '../../src/x86/start-bits.ts'
import { sweep, sweepForLooks } from '../../src/x86/sweep.ts'
import { relativeTarget } from '../../src/x86/target.ts'

type Row = string

/** The definition, by decoding everything: what each instruction is noted for. */
function expected(
  code: Uint8Array,
  starts: Uint32Array,
  options: NotableOptions,
): Record<keyof Notable, Row[]> {
  const decoder = createTableDecoder(code, options)
  const view = viewOf(code)
  const out = new Instruction()
  const found: Record<keyof Notable, Row[]> = {
    operands: [],
    ends: [],
    jumps: [],
    outside: [],
    joins: [],
    labels: [],
    own: [],
  }
  for (const start of starts) {
    decoder.decode(start, out)
    if (out.flow === Flow.indirectJump) found.jumps.push(String(start))
    const isOdd = noteRelative(view, out, options.span, found)
    if (isOdd || holdsValue(view, out, options.window)) {
      found.operands.push(String(start))
      if (found.outside.at(-1)?.startsWith(`${start} `) === true)
        found.outside.push(found.outside.pop()!.replace(/ field .*/, ' left'))
    }
    noteJoins(view, out, found)
  }
  return found
}

/** Ends and outside of one instruction; whether it is one of the odd ones. */
function noteRelative(
  view: DataView,
  out: Instruction,
  span: number,
  found: Record<keyof Notable, Row[]>,
): boolean {
  const { offset, length, flow, memory, prefixes, branchSize } = out
  const isRip = memory === Memory.rip
  const isLea = isRip && out.encoding === Encoding.legacy && out.map === 0 && out.opcode === 0x8d
  const distance = out.branch16 === 0 ? relativeTarget(view, out) : undefined
  const isInside = distance !== undefined && distance >= 0 && distance < view.byteLength
  if (flow !== Flow.next || memory >= Memory.rip)
    found.ends.push(`${offset} ${flow} ${isRip} ${isLea} ${isInside ? distance : -1}`)
  if (isLea) {
    found.labels.push(String(offset))
    if (distance! <= offset && distance! >= offset - 64) found.own.push(String(offset))
  }
  if (distance !== undefined && (distance < 0 || distance >= span)) {
    const field = branchSize === 0 ? out.displacementOffset : out.branchOffset
    const size = branchSize || 4
    found.outside.push(
      `${offset} ${distance} ${size} field ${offset + field} ${length - field - size} ${isLea}`,
    )
  }
  return (
    memory === Memory.eip ||
    (isRip && (prefixes & (Prefix.fs | Prefix.gs)) !== 0) ||
    (branchSize !== 0 && (prefixes & Prefix.p66) !== 0)
  )
}

function holdsValue(view: DataView, out: Instruction, window: AddressRange): boolean {
  const inside = (at: number, size: number, signed: boolean): boolean => {
    const value =
      size === 8
        ? view.getBigUint64(at, true)
        : BigInt(signed ? view.getInt32(at, true) : view.getUint32(at, true))
    const address = BigInt.asUintN(64, value)
    return address >= window.start && address <= window.end
  }
  const { offset, displacementSize: size, immediateSize } = out
  const narrow = (out.prefixes & Prefix.p67) !== 0
  return (
    (out.memory < Memory.rip && size >= 4 && inside(offset + out.displacementOffset, size, !narrow)) ||
    (immediateSize >= 4 &&
      inside(offset + out.immediateOffset, immediateSize, out.immediateWidth > immediateSize))
  )
}

function noteJoins(view: DataView, out: Instruction, found: Record<keyof Notable, Row[]>): void {
  const { offset, opcode } = out
  const byte = (at: number): number => (at < view.byteLength ? view.getUint8(at) : 0)
  const isGeneral = out.encoding === Encoding.legacy && out.map === 0
  let at = offset
  while (isGeneral && byte(at) !== opcode) at++
  const isWide = (out.prefixes & Prefix.w) !== 0
  const joins = isGeneral && JOINING.includes(opcode) && joinsWith(opcode, byte(at + 1), isWide)
  const displaces = out.memory === Memory.base && out.displacementSize === 4
  if (joins || displaces)
    found.joins.push(`${offset} ${joins ? at : offset + out.modrmOffset - 1} ${joins} ${displaces}`)
  if (!joins || opcode !== 0xe8 || view.getInt32(at + 1, true) !== 0) return
  found.labels.push(String(offset))
  const [next, pop] = [at + 5, byte(at + 5) >> 4 === 4 ? at + 6 : at + 5]
  if (byte(pop) >> 3 === 0x0b) found.joins.push(`${next} ${pop} true false`)
}

/** Rows in the same words. */
function wordsOf({
  operands,
  ends,
  jumps,
  outside,
  joins,
  labels,
  own,
}: Notable): Record<keyof Notable, Row[]> {
  const rowsOf = (rows: Rows, word: (row: number) => string): Row[] =>
    Array.from(rows.starts, (start, row) => `${start}${word(row)}`)
  return {
    operands: rowsOf(operands, () => ''),
    jumps: rowsOf(jumps, () => ''),
    labels: rowsOf(labels, () => ''),
    own: rowsOf(own, () => ''),
    ends: rowsOf(ends, (row) => {
      const kind = ends.kinds[row]
      return ` ${kind & Ends.flow} ${(kind & Ends.rip) !== 0} ${(kind & Ends.lea) !== 0} ${ends.targets[row]}`
    }),
    outside: rowsOf(outside, (row) => {
      const [field, shape] = [outside.fields[row], outside.shapes[row]]
      const tail = (shape >> Outside.tailShift) & Outside.tailMask
      const more = field === 0 ? 'left' : `field ${field} ${tail} ${(shape & Outside.lea) !== 0}`
      return ` ${outside.distances[row]} ${shape & Outside.size} ${more}`
    }),
    joins: rowsOf(joins, (row) => {
      const shape = joins.shapes[row]
      const opcode = joins.starts[row] + (shape & Joins.opcode)
      return ` ${opcode} ${(shape & Joins.joins) !== 0} ${(shape & Joins.displaces) !== 0}`
    }),
  }
}

/** Fewer than of the others. */
const LEAST: Partial<Record<keyof Notable, number>> = { jumps: 5, labels: -1, own: -1 }

/**
 * What is found among what the sweep leaves in, by the tables and by a decoder, beside what should be found among all.
 */
function compare(
  code: Uint8Array,
  options: { readonly cpu?: Cpu; readonly window: AddressRange },
  least: number,
): void {
  const all = { ...options, span: code.length + 1000 }
  const bits = new StartBits(code.length)
  const finder = new NotableFinder(code, code.length, all)
  sweepForLooks(code, bits, finder, { cpu: options.cpu })
  const { starts } = sweep(code, { cpu: options.cpu })
  expect(bits.all()).toEqual(Array.from(starts))
  const right = expected(code, starts, all)
  const found = wordsOf(finder.finish())
  const asked = wordsOf(findNotable(code, starts, { ...all, decoder: createTableDecoder(code, options) }))
  for (const name of ['operands', 'ends', 'jumps', 'outside', 'joins', 'labels', 'own'] as const) {
    expect(found[name]).toEqual(right[name])
    expect(asked[name]).toEqual(right[name])
    expect(found[name].length).toBeGreaterThan(LEAST[name] ?? least)
  }
}

// First of all: in a fresh process the tables know nothing.
describe('findNotable in a little code', () => {
  it('while the tables are filled in, what it finds with them', () => {
    const next = randomNumbers(4)
    const code = new Uint8Array(2_000 * 16)
    for (let at = 0; at < code.length; at += 16) writeEncoding(next() % CELL_COUNT, false, next, code, at)
    for (let again = 0; again < 2; again++) compare(code, { window: { start: 0n, end: 0x4000_0000n } }, 100)
  })
})

describe('findNotable', () => {
  const next = randomNumbers(3)
  const code = new Uint8Array(60_000 * 16)
  for (let at = 0; at < code.length; at += 16) writeEncoding(next() % CELL_COUNT, false, next, code, at)
  // Small constants, so that windows catch some.
  for (let at = 0; at < code.length; at++) if ((next() & 3) === 0) code[at] = 0
  it.each([
    ['a low window', { window: { start: 0x100n, end: 0x10_0000n } }],
    ['a window of high addresses', { window: { start: (1n << 64n) - (1n << 28n), end: (1n << 64n) - 1n } }],
    ['a window between', { window: { start: 0x7000_0000n, end: 0xff_0000_0000n } }],
    ['a window of no 32-bit constant', { window: { start: 1n << 32n, end: 1n << 60n } }],
    ['as AMD reads it', { cpu: 'amd', window: { start: 0n, end: 0x4000_0000n } }],
  ] satisfies readonly (readonly [string, { cpu?: Cpu; window: AddressRange }])[])('%s', (_, options) => {
    compare(code, options, 100)
  })

  it.skipIf(process.platform !== 'linux')('in the text of node', () => {
    const text = textOf(readFileSync(process.execPath)).subarray(3_000_000, 4_000_000)
    compare(text, { window: { start: 0xb7_2000n, end: 0x600_0000n } }, 1000)
  })

  it('leaves out displacements beyond the reach of a label', () => {
    const options = { window: { start: 0n, end: 0x4000_0000n }, span: code.length, labelReach: 200 }
    const finder = new NotableFinder(code, code.length, options)
    sweepForLooks(code, new StartBits(code.length), finder)
    const found = wordsOf(finder.finish())
    const all = expected(code, sweep(code).starts, options)
    const labels = all.labels.map(Number)
    const isNear = (start: number): boolean => labels.some((label) => label <= start && start - label <= 200)
    const right = all.joins.filter(
      (row) => / true (true|false)$/.test(row) || isNear(Number.parseInt(row, 10)),
    )
    expect(found.joins).toEqual(right)
    expect(right.length).toBeLessThan(all.joins.length)
    expect(right.some((row) => / false true$/.test(row))).toBe(true)
  })
})
