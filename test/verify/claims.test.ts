/** Claims that no builder makes, as a table from elsewhere could hold them: verify believes the code. */
import { expect, it } from 'vitest'
import { relocate } from '../../src/relocate/relocate.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { verify } from '../../src/verify/verify.ts'

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const BASE = 0x400000n
/** Ends at 0x601000. */
const OTHER = { start: 0x600000n, length: 0x1000n }

/** The table of one pc32 site at `offset`, which is said to move with range `place` (-1: with nothing). */
function claimed(code: Uint8Array, offset: number, place: number): RelocationTable {
  const runs = [{ start: 0, end: code.length }]
  const made = RelocationTable.fromSites([{ offset, kind: 'pc32' }], {
    code,
    base: BASE,
    moved: [OTHER],
    runs,
  })
  const json = JSON.parse(JSON.stringify(made)) as { groups: { target: number }[] }
  json.groups[0].target = place
  return RelocationTable.fromJSON(json)
}

it.each([
  ['a jump to the end of a range does not move with it', 'e9 fb 0f 20 00', 1, 'wrong-claim'],
  ['a load from the end neither', '48 8b 05 f9 0f 20 00', 3, 'wrong-claim'],
  ['a lea of the end may', '48 8d 05 f9 0f 20 00', 3, undefined],
])('%s', (_, text, offset, problem) => {
  const code = bytes(text)
  const moves = [{ from: OTHER.start, to: 0x700000n, length: OTHER.length }]
  const codes = (place: number): string[] => {
    const claim = claimed(code, offset, place)
    const after = relocate(code, claim, { also: moves }).bytes
    return verify(code, after, { moves, claim }).problems.map((one) => one.code)
  }
  expect(codes(1)).toEqual(problem === undefined ? [] : [problem])
  // And none of them moves with nothing against its maker's word.
  expect(codes(-1)).toEqual([])
})

it('a target inside a range that moves is not fixed, but for an offset into a segment', () => {
  const load = bytes('48 8b 05 f8 0f 20 00')
  const moves = [{ from: OTHER.start, to: 0x700000n, length: OTHER.length }]
  const codes = (code: Uint8Array, offset: number, place: number): string[] => {
    const claim = claimed(code, offset, place)
    const after = relocate(code, claim, { also: moves }).bytes
    return verify(code, after, { moves, claim }).problems.map((one) => one.code)
  }
  expect(codes(load, 3, 1)).toEqual([])
  expect(codes(load, 3, -1)).toEqual(['wrong-claim'])
  const offset = bytes('64 48 8b 05 f7 0f 20 00')
  expect(codes(offset, 4, 1)).toEqual(['wrong-claim'])
  expect(codes(offset, 4, -1)).toEqual([])
})
