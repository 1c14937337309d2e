/** A table knows the code at its own base from the same code at any other. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { move } from '../../src/move.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { keepEvidence } from '../../src/table/filter.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { codeOf, BASE as FROM, CODE as PLAIN, TABLE } from '../support/bad-input.ts'
import { randomTable, tableSeed } from '../support/tables.ts'

describe('a table of the moved blob', () => {
  it('knows the moved bytes, and refuses the others, in every form', () => {
    let apart = 0
    const delta = fc.bigInt({ min: -(1n << 20n), max: 1n << 20n })
    fc.assert(
      fc.property(tableSeed(), delta, (seed, delta) => {
        const { code, table } = randomTable(seed)
        const to = BigInt.asUintN(64, table.base + delta)
        if (codeOf(() => relocate(code, table, { to })) !== undefined) return
        const { bytes, table: moved } = relocate(code, table, { to })
        const binary = moved.toBinary(bytes)
        const forms = [
          moved,
          RelocationTable.fromJSON(JSON.parse(JSON.stringify(moved))),
          RelocationTable.fromBinary(binary, bytes),
          relocate(relocate(bytes, moved, { to: table.base }).bytes, table, { to }).table,
        ]
        for (const form of forms) expect(codeOf(() => form.check(bytes))).toBeUndefined()
        const kept = keepEvidence(moved, bytes, 2)
        if (kept !== moved) expect(codeOf(() => kept.check(bytes))).toBeUndefined()
        if (Buffer.compare(bytes, code) === 0) return
        apart++
        for (const form of forms) expect(() => form.check(code)).toThrow(/not where the table says/)
        expect(() => table.check(bytes)).toThrow(/not where the table says/)
        expect(codeOf(() => RelocationTable.fromBinary(binary, code))).toBe('bad-table')
      }),
      { numRuns: 150, seed: 5 },
    )
    expect(apart).toBeGreaterThan(30)
  })

  it('does not move bytes that have stayed behind', () => {
    const { table } = relocate(PLAIN, TABLE, { to: FROM + 0x1000n })
    expect(codeOf(() => move(PLAIN, { from: table.base, to: FROM + 0x9000n, table }))).toBe('bad-table')
  })
})
