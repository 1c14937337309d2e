/** What must be true of every move of an address that is held in pieces. */
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import type { RelocError } from '../../src/core/errors.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import type { SplitPiece } from '../../src/table/site.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { verify } from '../../src/verify/verify.ts'
import { address, check, deltas, fieldBits, moveRanges, wrap } from '../support/generate.ts'

// The machine may be busy; a property takes a second or two.
vi.setConfig({ testTimeout: 60_000 })

describe('an address in pieces', () => {
  const operation = fc.constantFrom('or' as const, 'add' as const)
  const shapes: fc.Arbitrary<SplitPiece[]> = fc.oneof(
    // lo32, hi32; 16 bits each; lo32 and a 64-bit sum; a byte and the rest.
    fc.tuple(operation, operation).map(([low, high]): SplitPiece[] => [
      { offset: 1, width: 4, shift: 0, operation: low },
      { offset: 9, width: 4, shift: 32, operation: high },
    ]),
    fc.constant(
      [0, 16, 32, 48].map((shift): SplitPiece => ({ offset: shift, width: 2, shift, operation: 'or' })),
    ),
    fc.constant<SplitPiece[]>([
      { offset: 0, width: 8, shift: 0, operation: 'or' },
      { offset: 8, width: 4, shift: 0, operation: 'add' },
    ]),
    fc.constant<SplitPiece[]>([{ offset: 3, width: 8, shift: 0, operation: 'xor' }]),
    fc.constant<SplitPiece[]>([
      { offset: 0, width: 4, shift: 32, operation: 'xor' },
      { offset: 4, width: 4, shift: 0, operation: 'xor' },
    ]),
    fc.constant<SplitPiece[]>([{ offset: 0, width: 4, shift: 12, operation: 'or' }]),
  )
  const bytes = fc.uint8Array({ minLength: 64, maxLength: 64 })

  /** The sum of the pieces, written anew. */
  const join = (code: Uint8Array, pieces: readonly SplitPiece[]): bigint =>
    wrap(
      pieces.reduce((sum, { offset, width, shift, operation: how }) => {
        const bits = fieldBits(code, { offset, width })
        return sum + ((how === 'add' ? BigInt.asIntN(8 * width, bits) : bits) << BigInt(shift))
      }, 0n),
    )

  it('moves as one value, comes back piece by piece, or is refused whole', () => {
    let served = 0
    check(
      fc.tuple(shapes, bytes, address, deltas),
      ([pieces, code, base, [delta, further]]) => {
        const isXor = pieces[0].operation === 'xor'
        const target = base + 8n
        const site = { kind: 'split' as const, pieces, target }
        for (const by of [0n, delta, further])
          if (moveRanges([{ start: base, length: 64n }], [by]) === undefined) return
        if (moveRanges([{ start: base, length: 64n }], [delta + further]) === undefined) return
        const table = RelocationTable.fromSites([site], { code, base })
        let first: ReturnType<typeof relocate>
        try {
          first = relocate(code, table, { to: wrap(base + delta) })
        } catch (error) {
          // Only pieces that leave bits of the address out may fail.
          expect(pieces.length).toBe(1)
          expect(pieces[0].width).toBe(4)
          expect((error as RelocError).code).toBe('refused')
          return
        }
        served++
        const expected = isXor
          ? join(code, pieces) ^ wrap(target) ^ wrap(target + delta)
          : wrap(join(code, pieces) + delta)
        expect(join(first.bytes, pieces)).toBe(expected)
        expect(relocate(first.bytes, first.table, { to: base }).bytes).toEqual(code)
        if (pieces.length === 1 && pieces[0].width === 4) return
        const second = relocate(first.bytes, first.table, { to: wrap(base + delta + further) })
        const direct = relocate(code, table, { to: wrap(base + delta + further) })
        expect(second.bytes).toEqual(direct.bytes)
        const moves = [{ from: wrap(base + delta), to: wrap(base + delta + further), length: 64n }]
        expect(verify(first.bytes, second.bytes, { moves, claim: first.table }).ok).toBe(true)
        const json = RelocationTable.fromJSON(JSON.parse(JSON.stringify(second.table)))
        expect(json.toJSON()).toEqual(second.table.toJSON())
        expect(json.sites()).toEqual(second.table.sites())
      },
      600,
    )
    expect(served).toBeGreaterThan(100)
  })
})
