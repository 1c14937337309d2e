/**
 * Given code that runs into encodings which no known processor accepts: the code goes on behind them, their
 * operand is told.
 */
import { describe, expect, it } from 'vitest'
import { analyze, withAnalysis } from '../../src/analyze/analyze.ts'
import { move } from '../../src/move.ts'
import { parse } from '../support/hard-case.ts'

const base = 0x40_0000n

describe.each([
  ['lock before what cannot be locked', 'f0488b05f0ffff0f', 4],
  ['vector length that the instruction does not have', 'c5fd6e05f0ffff0f', 4],
  ['reserved vvvv', 'c5e16f05f0ffff0f', 4],
  ['the same register twice in a gather', 'c4e271900c8df0ffff0f', 6],
])('%s', (_, hex, field) => {
  // call out; xor eax, eax; the encoding; call out; ret
  const rejected = parse(hex)
  const code = Buffer.concat([parse('e8fbff0f00 31c0'), rejected, parse('e800000010 c3')])
  const hints = { ranges: [{ start: 0, end: code.length, kind: 'code' as const }] }

  it('ends where its layout says, and what follows moves', () => {
    withAnalysis(code, { base, hints }, ({ map }) => {
      expect(map.rejected).toEqual([{ start: 7, end: 7 + rejected.length }])
      expect(map.bits.all()).toEqual([0, 5, 7 + rejected.length, 12 + rejected.length])
    })
  })

  it('keeps its operand, which is told', () => {
    const { bytes, problems } = move(code, { from: base, to: 0x48_0000n, hints })
    expect(bytes.subarray(7, 7 + rejected.length)).toEqual(rejected)
    const told = problems.filter((problem) => problem.code === 'rejected-encoding')
    expect(told).toMatchObject([{ severity: 'warning', offset: 7 }])
    expect(told[0].message).toContain(`0x${(7 + field).toString(16)} (4 bytes)`)
    const sites = analyze(code, { base, hints }).sites()
    expect(sites.map(({ offset }) => offset)).toEqual([1, 8 + rejected.length])
  })
})

it('an encoding without a known layout stops nothing either', () => {
  // REX2, of which iced knows nothing.
  const code = parse('e8fbff0f00 31c0 d5 e8fbff0f00 c3')
  const hints = { ranges: [{ start: 0, end: code.length, kind: 'code' as const }] }
  const table = analyze(code, { base, hints })
  expect(table.sites().map(({ offset }) => offset)).toEqual([1, 9])
})
