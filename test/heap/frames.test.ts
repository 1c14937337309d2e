import { describe, expect, it } from 'vitest'
import { returnPoints } from '../../src/heap/frames.ts'

const CALL = 'e800000000'

/** Depth, what rbp points at and where it is saved, at each return point. -1: unknown; base -2: rbp is the caller's. */
function statesOf(hex: string, entries: number[] = [0]): [number, number, number, number][] {
  const code = Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'))
  return [...returnPoints(code, entries)]
    .sort(([a], [b]) => a - b)
    .map(([offset, { depth, base, saved }]) => [offset, depth, base, saved])
}

describe('returnPoints', () => {
  it.each([
    ['call at once', `ff d0 c3`, [[2, 0, -2, -1]]],
    ['push, sub', `53 41 54 48 83 ec 18 ff d0 48 83 c4 18 41 5c 5b c3`, [[9, 40, -2, -1]]],
    [
      'sub of 32 bits, push of constants and memory',
      `48 81 ec 00 10 00 00 6a 01 68 01 00 00 00 ff 36 9c ff d0 c3`,
      [[19, 4096 + 32, -2, -1]],
    ],
    [
      'frame pointer',
      `55 48 89 e5 48 83 ec 20 ff d0 c9 ff d0 c3`,
      [
        [10, 40, 8, 8],
        [13, 0, -2, 8],
      ],
    ],
    [
      'frame pointer, the other encoding, alloca',
      `55 48 8b ec 48 29 c4 ff d0 48 8d 65 f8 ff d0 c9 c3`,
      [
        [9, -1, 8, 8],
        [15, 16, 8, 8],
      ],
    ],
    ['aligned with rbp', `55 48 89 e5 48 83 e4 f0 ff d0 c9 c3`, [[10, -1, 8, 8]]],
    [
      'rbp as any register',
      `55 48 89 fd ff d0 5d ff d0 c3`,
      [
        [6, 8, -1, 8],
        [9, 0, -2, 8],
      ],
    ],
    [
      'rbp set from rsp at a distance',
      `55 48 8d 6c 24 f0 48 83 ec 30 ff d0 48 89 ec ff d0 c3`,
      [
        [12, 56, 24, 8],
        [17, 24, 24, 8],
      ],
    ],
    ['two ways with one depth', `85 ff 74 03 53 eb 01 50 ff d0 58 c3`, [[10, 8, -2, -1]]],
    ['two ways with two depths', `85 ff 74 01 53 ff d0 c3`, [[7, -1, -2, -1]]],
    ['a loop that pushes', `53 ff c7 75 fb ff d0 c3`, [[7, -1, -2, -1]]],
    ['rsp from anywhere', `48 89 dc ff d0 c3`, [[5, -1, -2, -1]]],
    ['pop rsp, xchg', `5c ff d0 c3`, [[3, -1, -2, -1]]],
    ['more popped than pushed', `58 ff d0 c3`, [[3, -1, -2, -1]]],
    ['the last instruction', `50 ${CALL}`, [[6, 8, -2, -1]]],
  ])('%s', (_, hex, expected) => {
    expect(statesOf(hex)).toEqual(expected)
  })

  it('follows calls into functions of the same object, each from depth 0', () => {
    // push; call +1; ret; | f: push; push; call rax; pop; pop; ret
    expect(statesOf('50 e8 02 00 00 00 58 c3 51 52 ff d0 5a 59 c3')).toEqual([
      [6, 8, -2, -1],
      [12, 16, -2, -1],
    ])
    expect(statesOf('c3 51 ff d0 59 c3')).toEqual([])
    expect(statesOf('c3 51 ff d0 59 c3', [0, 1])).toEqual([[4, 8, -2, -1]])
  })
})
