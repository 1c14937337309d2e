/** The quick look at slices lets through whatever constants make in registers. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'
import { SliceScreen } from '../../src/analyze/slice-screen.ts'
import { followSlice } from '../../src/analyze/slice-walk.ts'
import { viewOf } from '../../src/core/bytes.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'

/** Instructions; a jump passes over so many of those behind it. */
type Item = { readonly bytes: readonly number[] } | { readonly opcode: number; readonly over: number }

const WIDE = 0x48
/** rax, rcx, rbx, rsp, r8: what a call keeps and what it does not. */
const register = fc.constantFrom(0, 0, 1, 1, 3, 4, 8)
const low = (rex: number, reg: number, rm: number): number => rex | ((reg >> 3) << 2) | (rm >> 3)
const direct = (reg: number, rm: number): number => 0xc0 | ((reg & 7) << 3) | (rm & 7)
const prefix = fc.constantFrom([], [], [], [0x66])
const immediate = fc.constantFrom(
  [1, 0, 0, 0],
  [1, 0, 0, 0],
  [1, 0, 0, 0],
  [0, 0, 0, 0x70],
  [0xff, 0xff, 0xff, 0xff],
  [0x40, 0, 0, 0],
)
/** add to cmp; what joins more often. */
const operation = fc.constantFrom(0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 7)

const load = fc.oneof(
  fc.tuple(register, immediate).map(([rm, value]) => [...(rm < 8 ? [] : [0x41]), 0xb8 | (rm & 7), ...value]),
  fc.tuple(register, immediate).map(([rm, value]) => [low(WIDE, 0, rm), 0xb8 | (rm & 7), ...value, ...value]),
  fc.tuple(register, immediate).map(([rm, value]) => [low(WIDE, 0, rm), 0xc7, direct(0, rm), ...value]),
)
const between = fc
  .tuple(
    prefix,
    fc.constantFrom(0x40, WIDE, WIDE),
    fc.oneof(
      operation.map((op) => op * 8 + 1),
      operation.map((op) => op * 8 + 3),
      fc.constantFrom(0x31, 0x33, 0x89, 0x8b, 0x85, 0x87),
    ),
    register,
    register,
  )
  .map(([before, rex, opcode, reg, rm]) => [...before, low(rex, reg, rm), opcode, direct(reg, rm)])
const constant = fc
  .tuple(fc.constantFrom(0x40, WIDE, WIDE), operation, register, immediate)
  .chain(([rex, op, rm, value]) =>
    fc.constantFrom(
      [low(rex, 0, rm), 0x81, direct(op, rm), ...value],
      [low(rex, 0, rm), 0x83, direct(op, rm), 8],
      [low(rex, 0, rm), 0xc1, direct(op, rm), 4],
      [rex, op * 8 + 5, ...value],
    ),
  )
const memory = fc
  .tuple(fc.constantFrom(0x8d, 0x8d, 0x8b, 0x89), fc.nat(2), register, register, register, fc.nat(3))
  .map(([opcode, mod, reg, base, index, scale]) => [
    low(WIDE, reg, base) | ((index >> 3) << 1),
    opcode,
    (mod << 6) | ((reg & 7) << 3) | 4,
    ((scale === 3 ? 0 : scale) << 6) | ((index & 7) << 3) | (base & 7),
    ...[[], [0x10], [0, 0, 0, 0x50]][mod],
  ])
/** What leaves one constant: shl, and an operation with a zero. */
const single = fc.oneof(
  register.map((rm) => [low(WIDE, 0, rm), 0xc1, direct(4, rm), 32]),
  fc
    .tuple(register, register)
    .map(([reg, rm]) => [
      ...[low(0x40, reg, reg), 0x31, direct(reg, reg)],
      ...[low(WIDE, reg, rm), 0x09, direct(reg, rm)],
    ]),
)
const other = fc.constantFrom([0xe8, 0, 1, 0, 0], [0xff, 0xd0], [0x50], [0x58], [0xc3], [0xff, 0xe0], [0x90])

const item: fc.Arbitrary<Item> = fc.oneof(
  { weight: 8, arbitrary: load.map((bytes): Item => ({ bytes })) },
  { weight: 5, arbitrary: between.map((bytes): Item => ({ bytes })) },
  { weight: 3, arbitrary: constant.map((bytes): Item => ({ bytes })) },
  { weight: 3, arbitrary: memory.map((bytes): Item => ({ bytes })) },
  { weight: 1, arbitrary: other.map((bytes): Item => ({ bytes })) },
  { weight: 2, arbitrary: single.map((bytes): Item => ({ bytes })) },
  { weight: 3, arbitrary: fc.record({ opcode: fc.constantFrom(0x74, 0x74, 0xeb), over: fc.nat(4) }) },
)

/** The code, and where a register is given a constant. */
function assemble(items: readonly Item[]): { code: Uint8Array; watched: Uint32Array } {
  const starts = [0]
  for (const each of items) starts.push(starts[starts.length - 1] + ('bytes' in each ? each.bytes.length : 2))
  const code = items.flatMap((each, i) => {
    if ('bytes' in each) return each.bytes
    return [each.opcode, starts[Math.min(items.length, i + 1 + each.over)] - starts[i + 1]]
  })
  const isLoad = (at: number): boolean => {
    const opcode = (code[at] & 0xf0) === 0x40 ? code[at + 1] : code[at]
    return (opcode & 0xf8) === 0xb8 || opcode === 0xc7
  }
  return { code: Uint8Array.from(code), watched: Uint32Array.from(starts.slice(0, -1).filter(isLoad)) }
}

describe('SliceScreen', () => {
  it('lets through every slice in which constants make what lies in the range, and not many others', () => {
    let [joined, passed, dropped] = [0, 0, 0]
    fc.assert(
      fc.property(load, load, fc.array(item, { minLength: 4, maxLength: 16, size: 'max' }), (a, b, items) => {
        const { code, watched } = assemble([{ bytes: a }, { bytes: b }, ...items])
        const context = {
          view: viewOf(code),
          decoder: createTableDecoder(code),
          places: { isCode: () => true },
          watched,
        }
        const mayJoin = (value: bigint): boolean =>
          new SliceScreen({ ...context, covered: [{ start: value, end: value + 1n }] }).mayJoin(
            0,
            code.length,
          )
        const units = followSlice(context, 0, code.length)
        for (const { value } of units) expect([value, mayJoin(value)]).toEqual([value, true])
        if (units.length > 0) joined++
        else if (mayJoin(0n)) passed++
        else dropped++
      }),
      { seed: 41, numRuns: 10_000 },
    )
    expect(joined).toBeGreaterThan(1500)
    expect(dropped).toBeGreaterThan(3 * passed)
  })
})

describe('constants of 16 bits', () => {
  it('are no part of a difference, and none is read beyond the end', () => {
    expect(analyze(Uint8Array.of(0x66, 0xb8, 0x34, 0x12), { base: 0x40_0000n }).size).toBe(0)
  })
})
