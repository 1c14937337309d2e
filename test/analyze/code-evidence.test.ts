/** What is known to be code: given, reached from a certain start, or a guess. */
import { describe, expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'
import type { Hints } from '../../src/analyze/hints.ts'

const base = 0x40_0000n

/** Code evidence of each site by its offset. */
function evidence(hex: string, hints?: Hints): Record<string, string> {
  const table = analyze(Buffer.from(hex.replaceAll(' ', ''), 'hex'), { base, hints })
  return Object.fromEntries(table.sites().map(({ offset, evidence }) => [offset, evidence.code]))
}

/** call +0xfffff0 of the outside, at the offset where the five bytes stand. */
const callOut = (at: number): string => {
  const field = Buffer.alloc(4)
  field.writeInt32LE(0xff_fff0 - at - 5)
  return `e8${field.toString('hex')}`
}

describe('code evidence', () => {
  it('flows through branches and calls, not past a jump or return', () => {
    // 0 call 0x11; 5 call out; 10 ret; 11 call out; 16 ret; 17: jne 24; 19 call out
    const hex = `e80c000000 ${callOut(5)} c3 cccccccccccc ${callOut(17)} c3 ${callOut(23)} c3`
    expect(evidence(hex)).toEqual({ 6: 'flow', 18: 'flow', 24: 'guess' })
    expect(evidence(hex, { entries: [23] })).toEqual({ 6: 'guess', 18: 'guess', 24: 'flow' })
    expect(evidence(hex, { ranges: [{ start: 0, end: 29, kind: 'code' }] })).toEqual({
      6: 'given',
      18: 'given',
      24: 'given',
    })
  })

  it('goes where certain code takes the address of code, and where a table leads', () => {
    // 0 lea rax,[rip+8 -> 16]; 7 ret; int3...; 16 call out; ret
    expect(evidence(`488d0509000000 c3 cccccccccccccccc ${callOut(16)} c3`)).toEqual({ 17: 'flow' })
    // cmp edi,1; ja 0x40; jmp [rdi*8+0x400010]; table at 0x10: 0x20, 0x30
    const table = '2000400000000000 3000400000000000'
    const hex = `83ff01 773b 90 ff24fd10004000 cccccc ${table} ${callOut(32)} c3 cccccccccccccccccccc ${callOut(48)} c3 cccccccccccccccccccc ${callOut(64)} c3`
    expect(evidence(hex)).toEqual({ 9: 'flow', 16: 'flow', 24: 'flow', 33: 'flow', 49: 'flow', 65: 'flow' })
  })

  it('ends at a call that traps follow', () => {
    expect(evidence(`${callOut(0)} cccccc ${callOut(8)} c3`)).toEqual({ 1: 'flow', 9: 'guess' })
  })

  it('counts ranges that were given, and no others', () => {
    const hex = `${callOut(0)} c3 9090 ${callOut(8)} c3`
    expect(evidence(hex, { ranges: [{ start: 8, end: 14, kind: 'code' }] })).toEqual({
      1: 'flow',
      9: 'given',
    })
  })
})
