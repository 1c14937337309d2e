import { expect, it } from 'vitest'
import { relocate } from '../../src/relocate/relocate.ts'
import { RelocationTable } from '../../src/table/table.ts'

it('a plain move keeps every offset, the end included, and knows no other', () => {
  const code = Uint8Array.of(0x90, 0xc3)
  const { positions } = relocate(code, RelocationTable.fromSites([], { code, base: 0x1000 }), { to: 0x2000 })
  for (const offset of [0, 1, 2]) {
    expect(positions.toNew(offset, -1)).toBe(offset)
    expect(positions.toOld(offset, 1)).toBe(offset)
  }
  for (const offset of [-1, 3, 0.5, Number.NaN])
    for (const side of ['toNew', 'toOld'] as const)
      expect(() => positions[side](offset)).toThrow(expect.objectContaining({ code: 'bad-argument' }))
})
