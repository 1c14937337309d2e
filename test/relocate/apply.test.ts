/**
 * Applying a move: blocks and what straddles them, overlapping memory, carries; against one bigint addition per field.
 */
import { describe, expect, it } from 'vitest'
import { readField, viewOf, writeField } from '../../src/core/bytes.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { numbers } from '../support/tables.ts'

const BASE = 0x7000_0000_0000n

/** Sites of two widths at every few bytes, over several blocks, at every alignment, across their edges too. */
function large(length: number): { code: Uint8Array; table: RelocationTable } {
  const next = numbers(11)
  const code = Uint8Array.from({ length }, () => next(256))
  const view = viewOf(code)
  const sites: SiteInput[] = []
  for (let at = 0; at + 9 <= length; at += 8 + next(23)) {
    const isPc = next(3) === 0
    if (isPc) view.setInt32(at, next(1000) - 0x200_0000, true)
    else writeField(view, at, 8, BASE + BigInt(next(length)))
    // Halves of all ones: every carry and every borrow goes on.
    if (!isPc && next(4) === 0) view.setUint32(at, 0xffff_ffff, true)
    sites.push(isPc ? { offset: at, kind: 'pc32' } : { offset: at, kind: 'abs64', target: BASE })
  }
  return { code, table: RelocationTable.fromSites(sites, { code, base: BASE }) }
}

function expected(code: Uint8Array, table: RelocationTable, delta: bigint): Uint8Array {
  const bytes = code.slice()
  const view = viewOf(bytes)
  for (const { offset, kind, width } of table.sites()) {
    const change = kind === 'abs64' ? delta : -delta
    writeField(view, offset, width, readField(view, offset, width) + change)
  }
  return bytes
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

describe('a move of several blocks', () => {
  const { code, table } = large(3 * (1 << 18) + 4567)

  it.each([0x1234_5678n, -0x1234_5677n, 0x7000_0001n, -1n])('by %i adds to every field once', (delta) => {
    const to = BASE + delta
    const right = expected(code, table, delta)
    const before = code.slice()
    expect(same(relocate(code, table, { to }).bytes, right)).toBe(true)
    expect(same(code, before)).toBe(true)
    // At an odd offset of a larger buffer.
    const into = new Uint8Array(code.length + 100).subarray(13)
    const result = relocate(code, table, { to, into })
    expect(same(result.bytes, right)).toBe(true)
    expect(result.bytes.buffer).toBe(into.buffer)
    expect(same(relocate(result.bytes, result.table, { to: BASE }).bytes, before)).toBe(true)
  })

  it('may overlap the code, before it and behind it', () => {
    const right = expected(code, table, 0x1000n)
    for (const shift of [-77, 0, 77, 1 << 18]) {
      const memory = new Uint8Array(code.length + 2 * (1 << 18))
      const source = memory.subarray(100, 100 + code.length)
      source.set(code)
      const { bytes } = relocate(source, table, { to: BASE + 0x1000n, into: memory.subarray(100 + shift) })
      expect(bytes.byteOffset).toBe(100 + shift)
      expect(same(bytes, right)).toBe(true)
    }
  })
})
