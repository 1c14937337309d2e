/**
 * Decoded ahead or when its turn comes: verification sees the same. (The sabotage tests compare the verdicts
 * of every attempt.)
 */
import fc from 'fast-check'
import { expect, it, vi } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { type Ahead, aheadField, aheadLength } from '../../src/verify/ahead.ts'
import { verify, verifyAhead } from '../../src/verify/verify.ts'
import { IcedCursor } from '../../src/x86/iced.ts'
import { decodedAhead } from '../support/ahead.ts'
import { loadFixtures } from '../support/fixtures.ts'

/**
 * The relative field that points out of the code: its offset in the instruction under the cursor, whose
 * addresses are offsets; 0 where there is none.
 */
function fieldOf(cursor: IcedCursor, end: number): number {
  if (cursor.target === undefined || cursor.target < end) return 0
  return cursor.isBranch ? cursor.immediateOffset : cursor.displacementOffset
}

const isRare = (cursor: IcedCursor): boolean =>
  cursor.isBranch ? cursor.immediateSize === 2 : cursor.isEipRelative || cursor.inSegment

/** Prefixes, branches and RIP-relative operands more often than chance has them. */
const piece = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 9 }),
  fc.constantFrom([0x66], [0x67], [0x65], [0x48]).map((list) => Uint8Array.from(list)),
  fc
    .tuple(fc.constantFrom([0xe8], [0xeb], [0x0f, 0x84], [0x8b, 0x05], [0x48, 0x8d, 0x3d]), fc.integer())
    .map(([opcode, value]) => Uint8Array.from([...opcode, value, value >> 8, value >> 16, value >> 24])),
)

it('a word says what iced says, wherever one comes from; none is missing in a stretch but what is rare', () => {
  fc.assert(
    fc.property(fc.array(piece, { minLength: 1, maxLength: 60 }), (pieces) => {
      // Around the start of the second stretch.
      const bytes = Uint8Array.from(pieces.flatMap((some) => [...some]))
      const start = 0x10000 - (bytes.length >> 1)
      const code = new Uint8Array(start + bytes.length).fill(0x90)
      code.set(bytes, start)
      const { words } = decodedAhead(code)
      const cursor = new IcedCursor(code)
      try {
        for (let at = start - 20; at < code.length; at++) {
          if (words[at] === 0) continue
          expect(aheadLength(words[at])).toBe(cursor.decode(at))
          expect(aheadField(words[at])).toBe(fieldOf(cursor, code.length))
        }
        for (let at = start - 20; at < code.length; at += cursor.length || 1)
          if (cursor.decode(at) > 0 && words[at] === 0) expect(isRare(cursor)).toBe(true)
      } finally {
        cursor.dispose()
      }
    }),
    { numRuns: 300 },
  )
})

it('it does not matter what is left undone', () => {
  for (const { links, span, ranges, name } of loadFixtures().slice(0, 8)) {
    const [{ base, bytes: before }, { base: to }] = links
    const claim = analyze(before, { base, span, hints: { ranges } })
    const { bytes } = relocate(before, claim, { to })
    const moves = [{ from: base, to, length: span }]
    const all = decodedAhead(before)
    const some: Ahead = { words: all.words.map((word, at) => ((at * 0x9e3779b1) & 0x10000 ? word : 0)) }
    for (const words of [all, some])
      expect([name, verifyAhead(before, bytes, { moves, claim }, words)]).toEqual([
        name,
        verify(before, bytes, { moves, claim }),
      ])
  }
})

it('what is decoded ahead and right needs no decoding, wherever blob and targets have gone', () => {
  // call 0x600010; lea rdi, [0x601000], the end of what moves; jmp to itself
  const code = Uint8Array.from(Buffer.from('e80b002000' + '488d3df40f2000' + 'ebfe', 'hex'))
  const other = { start: 0x600000n, length: 0x1000n }
  const sites = [1, 8].map((offset) => ({ offset, kind: 'pc32' as const }))
  const runs = [{ start: 0, end: code.length }]
  const made = RelocationTable.fromSites(sites, { code, base: 0x400000, moved: [other], runs })
  const length = BigInt(code.length)
  const first = [{ from: other.start, to: 0x2000_0000n, length: other.length }]
  const there = relocate(code, made, { to: 0x1000_0000, also: first })
  const second = [
    { from: 0x1000_0000, to: 0x40_0000, length },
    { from: 0x2000_0000, to: 0x30_0000, length: other.length },
  ]
  const back = relocate(there.bytes, there.table, { to: 0x40_0000, also: second.slice(1) })
  const ahead = decodedAhead(there.bytes)
  const decode = vi.spyOn(IcedCursor.prototype, 'decode')
  const proof = verifyAhead(there.bytes, back.bytes, { moves: second, claim: there.table }, ahead)
  expect(decode).not.toHaveBeenCalled()
  decode.mockRestore()
  expect(proof).toMatchObject({ ok: true, proved: { relative: 2, instructions: 3 } })
  expect(verify(there.bytes, back.bytes, { moves: second, claim: there.table })).toEqual(proof)
})
