/** What `explain` says: the reading, the way of execution, the fields and what came of them. */
import { describe, expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'
import { explain } from '../../src/analyze/explain.ts'
import type { Hints } from '../../src/analyze/hints.ts'
import { loadFixture } from '../support/fixtures.ts'
import { parse } from '../support/hard-case.ts'

const base = 0x40_0000n
const why = (hex: string, offset: number, hints?: Hints) => explain(parse(hex), [offset], { base, hints })[0]

describe('how a byte was read', () => {
  it('as part of an instruction, with the way from the entry to it', () => {
    // 0 call 9; 5 jmp 5; nop; nop; 9: je 12; ret; 12 mov eax, 1
    const hex = 'e804000000 ebfe 9090 7401 c3 b801000000 c3'
    const { reading, address } = why(hex, 14)
    expect(address).toBe(base + 14n)
    expect(reading).toMatchObject({ as: 'code', evidence: 'flow', instruction: { start: 12, end: 17 } })
    expect(reading.path).toEqual([
      { at: 0, by: 'entry' },
      { at: 9, from: 0, by: 'call' },
      { at: 12, from: 9, by: 'branch' },
    ])
    expect(why(hex, 7).reading).toMatchObject({ as: 'code', evidence: 'guess' })
    expect(why(hex, 7).reading.path).toBeUndefined()
    const given = why(hex, 14, { ranges: [{ start: 0, end: 18, kind: 'code' }] }).reading
    expect(given).toMatchObject({ as: 'code', evidence: 'given' })
  })

  it('as data by hint, as a table by the jump that goes by it', () => {
    const ranges = [{ start: 4, end: 12, kind: 'data' }] as const
    expect(why('9090 eb08 e8000000000000e8 c3', 4, { ranges }).reading).toMatchObject({
      as: 'data',
      by: 'given',
      evidence: 'given',
      instruction: { start: 4, end: 9 },
    })
    const table = '2000400000000000 3000400000000000'
    const pad = 'cccccccccccccccccccccccccccccc'
    const hex = `83ff01 773b 90 ff24fd10004000 cccccc ${table} c3 ${pad} c3 ${pad} c3`
    const { reading, fields } = why(hex, 0x1a)
    expect(reading).toMatchObject({ as: 'data', by: 'table', evidence: 'flow' })
    expect(reading.table).toMatchObject({ start: 0x10, end: 0x20, width: 8, jumps: [6] })
    expect(fields).toMatchObject([{ offset: 0x18, verdict: 'site', kind: 'abs64', target: base + 0x30n }])
  })

  it('with what speaks for and against it', () => {
    // jmp 3, into the mov behind it.
    const { reasons } = why('eb01 b8eb04 9090 9090 c3', 2).reading
    expect(reasons.filter(({ odds }) => odds < 0).length).toBeGreaterThan(0)
  })
})

describe('what came of a field', () => {
  it('relative: a site, or both ends move together', () => {
    const hex = 'e8fbff0f00 e800000000 c3'
    expect(why(hex, 3).fields).toMatchObject([
      { offset: 1, width: 4, verdict: 'site', kind: 'pc32', target: 0x50_0000n },
    ])
    expect(why(hex, 5).fields).toMatchObject([{ offset: 6, verdict: 'kept', target: base + 10n }])
  })

  it('constant: a site by its odds, a number by its operation, its size or its value', () => {
    // mov eax, 0x400010; and eax, 0x400010; add eax, 1; mov eax, 0x12345678; mov [rsp+0x400000], eax
    const hex = 'b810004000 2510004000 83c001 b878563412 89842400004000 c3'
    const [site] = why(hex, 0).fields
    expect(site).toMatchObject({ verdict: 'site', kind: 'abs32', target: base + 0x10n })
    expect(site.odds).toBeCloseTo(site.reasons.reduce((sum, { odds }) => sum + odds, 0))
    expect(site.odds).toBeGreaterThan(site.least!)
    for (const offset of [5, 10, 13, 18]) {
      const { fields } = why(hex, offset)
      expect(fields.map(({ verdict }) => verdict)).toEqual(['number'])
      expect(fields[0].target).toBeUndefined()
    }
    expect(new Set([5, 10, 13, 18].map((offset) => why(hex, offset).fields[0].why)).size).toBe(4)
    expect(why(hex, 25).fields).toEqual([])
  })

  it('constant: refused, with what outweighed the rest', () => {
    const { links, span } = loadFixture('gcc-O2-image')
    const [{ bytes, base }] = links
    const code = new Uint8Array(bytes)
    // cmp dword [rbx], imm32, which no compiler uses for addresses, where an instruction was.
    code.set(parse('813b00100050'), 0x100)
    const [{ fields }] = explain(code, [0x102], { base, span })
    const [field] = fields.filter(({ verdict }) => verdict === 'refused')
    expect(field).toMatchObject({ offset: 0x102, target: 0x5000_1000n })
    expect(field.odds).toBeLessThan(field.least!)
    expect(
      analyze(code, { base, span })
        .sites()
        .some(({ offset }) => offset === 0x102),
    ).toBe(false)
  })

  it('spread over instructions: the pieces, from each of them; what refuses them', () => {
    const options = { base: 0x7e00_1000_0040n }
    const halves = parse('b840000010 ba007e0000 48c1e220 4809d0 c3')
    for (const offset of [0, 7]) {
      const [field] = explain(halves, [offset], options)[0].fields
      expect(field).toMatchObject({ verdict: 'site', kind: 'split', target: options.base })
      expect(field.site!.pieces!.map((piece) => piece.offset)).toEqual([1, 6])
    }
    const entered = parse('b840000010 ba007e0000 48c1e220 4809d0 ffc7 75f0 c3')
    expect(explain(entered, [7], options)[0].problems.map(({ code }) => code)).toEqual(['split-entered'])
  })

  it('agrees with the table at every offset of a blob', () => {
    const { links, span } = loadFixture('literals-text')
    const [{ bytes, base }] = links
    const table = analyze(bytes, { base, span })
    const offsets = Array.from(bytes.keys())
    const held = new Set<number>()
    for (const { fields } of explain(bytes, offsets, { base, span }))
      for (const { verdict, site } of fields) {
        expect(site !== undefined).toBe(verdict === 'site')
        if (site !== undefined) held.add(site.offset)
      }
    expect([...held].sort((a, b) => a - b)).toEqual(
      table
        .sites()
        .map(({ offset }) => offset)
        .sort((a, b) => a - b),
    )
  })
})

it('an offset outside the blob is refused', () => {
  expect(() => why('90c3', 2)).toThrow(/2 bytes/)
  expect(() => why('90c3', -1)).toThrow()
})

it('a byte of two instructions: both, and the fields of both', () => {
  // je 5; mov eax, imm32 whose bytes are call 0x500000
  const hex = '31c0 7401 b8 e8f6ff0f00 c3'
  const [{ reading, fields }] = explain(parse(hex), [6], { base })
  expect(reading.shared?.length).toBe(1)
  expect(fields.length).toBe(2)
})
