import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RelocError } from '../../src/core/errors.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { isBinaryTable } from '../../src/table/binary.ts'
import { binaryTableBase } from '../../src/table/binary-read.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { randomTable, tableSeed } from '../support/tables.ts'

const roundTrip = (table: RelocationTable, code: Uint8Array): RelocationTable =>
  RelocationTable.fromBinary(table.toBinary(code), code)

const codeOf = (run: () => unknown): string => {
  try {
    run()
    return 'nothing'
  } catch (error) {
    return error instanceof RelocError ? error.code : String(error)
  }
}

describe('the binary form of a table', () => {
  it('keeps all that the JSON form keeps, before and after moves', () => {
    let moves = 0
    const delta = fc.oneof(
      fc.bigInt({ min: -40n, max: 40n }),
      fc.bigInt({ min: -(1n << 20n), max: 1n << 20n }),
    )
    fc.assert(
      fc.property(tableSeed(), delta, (seed, delta) => {
        const { code, table } = randomTable(seed)
        expect(roundTrip(table, code).toJSON()).toEqual(table.toJSON())
        const to = BigInt.asUintN(64, table.base + delta)
        if (codeOf(() => relocate(code, table, { to })) !== 'nothing') return
        moves++
        const moved = relocate(code, table, { to })
        const again = roundTrip(moved.table, moved.bytes)
        expect(again.toJSON()).toEqual(moved.table.toJSON())
        expect(relocate(moved.bytes, again, { to: table.base }).bytes).toEqual(code)
      }),
      { numRuns: 150, seed: 1 },
    )
    expect(moves).toBeGreaterThan(30)
  })

  it('of sites that say what their bytes say: the distance to the next, and nothing more', () => {
    const code = new Uint8Array(10_000)
    const view = new DataView(code.buffer)
    const sites: SiteInput[] = []
    for (let offset = 0; offset + 4 <= code.length; offset += 10) {
      view.setInt32(offset, 0x10_0000 + offset, true)
      sites.push({ offset, kind: 'pc32' })
    }
    const table = RelocationTable.fromSites(sites, { code, base: 0x40_0000n })
    const bytes = table.toBinary(code)
    expect(table.size).toBe(1000)
    expect(isBinaryTable(bytes)).toBe(true)
    expect(binaryTableBase(bytes)).toBe(0x40_0000n)
    expect(bytes.length).toBeLessThan(1000 + 50)
  })

  it('does not fit other code, nor code with a changed byte outside its sites', () => {
    const { code, table } = randomTable({ seed: 7, sites: 20, length: 600 })
    const bytes = table.toBinary(code)
    expect(codeOf(() => RelocationTable.fromBinary(bytes, code.subarray(1)))).toBe('bad-table')
    expect(codeOf(() => RelocationTable.fromBinary(bytes, undefined as unknown as Uint8Array))).toBe(
      'bad-argument',
    )
    const fields = new Set(
      table.sites().flatMap(({ offset, width }) => Array.from({ length: width }, (_, i) => offset + i)),
    )
    const outside = code.findIndex((_, i) => !fields.has(i))
    const changed = code.slice()
    changed[outside] ^= 1
    expect(codeOf(() => RelocationTable.fromBinary(bytes, changed))).toBe('bad-table')
    expect(codeOf(() => table.toBinary(changed))).toBe('bad-table')
  })

  it('is refused when any byte of it is changed, cut off or added', () => {
    const { code, table } = randomTable({ seed: 3, sites: 12, length: 400 })
    const bytes = table.toBinary(code)
    for (let i = 0; i < bytes.length; i++) {
      const changed = bytes.slice()
      changed[i] ^= 1 << (i % 8)
      expect(codeOf(() => RelocationTable.fromBinary(changed, code))).toBe('bad-input')
      expect(codeOf(() => RelocationTable.fromBinary(bytes.subarray(0, i), code))).toBe('bad-input')
    }
    const longer = new Uint8Array(bytes.length + 1)
    longer.set(bytes)
    expect(codeOf(() => RelocationTable.fromBinary(longer, code))).toBe('bad-input')
    const version = bytes.slice()
    version[4] = 9
    expect(() => RelocationTable.fromBinary(version, code)).toThrow(
      /version 9; this program reads versions 2 and 3/,
    )
  })
})
