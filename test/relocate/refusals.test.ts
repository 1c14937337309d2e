/** What a refused move says: every site that fails and none that does not, by place, bytes, text and remedy. */
import { describe, expect, it } from 'vitest'
import { formatProblem, type Problem, RelocError } from '../../src/core/errors.ts'
import { move } from '../../src/move.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import type { SiteKind } from '../../src/table/kinds.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { verify } from '../../src/verify/verify.ts'

const BASE = 0x400000n
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))

function refusal(work: () => unknown): RelocError {
  try {
    work()
  } catch (error) {
    if (error instanceof RelocError) return error
    throw error
  }
  return expect.unreachable()
}

describe('a refused move', () => {
  it('names the sites that fail, and not those that just fit', () => {
    // jmp short to 0x400040 from three places; 0x20 up, the middle one holds -128 and the last one holds less.
    const code = bytes('eb 10 eb a0 eb 9f eb 00')
    const table = RelocationTable.fromSites(
      [1, 3, 5].map((offset) => ({ offset, kind: 'pc8' })),
      { code, base: BASE, runs: [{ start: 0, end: 8 }] },
    )
    const {
      problems,
      code: reason,
      message,
    } = refusal(() => move(code, { from: BASE, to: BASE + 0x20n, table }))
    expect(reason).toBe('refused')
    expect(problems).toEqual([
      {
        severity: 'error',
        code: 'out-of-range',
        offset: 5,
        address: 0x400005n,
        bytes: '9f',
        text: 'jmp short 0x3fffa5',
        message:
          'pc8: the value -97 would become -129 (target 0x3fffa5); a signed 8-bit field holds -2^7 to 2^7-1.',
        remedy:
          'Choose a destination nearer to what the code refers to, move that along (`also`), or ask for veneers (`veneers`, --veneers).',
      } satisfies Problem,
    ])
    expect(message).toContain(formatProblem(problems[0]))
    // At the upper end likewise: 0x10 + 0x6f is 127.
    const down = refusal(() => relocate(code, table, { to: BASE - 0x70n }))
    expect(down.problems.map(({ offset }) => offset)).toEqual([1])
    expect(relocate(code, table, { to: BASE - 0x6fn }).bytes[1]).toBe(0x7f)
  })

  it('counts what it does not list', () => {
    const count = 250
    const code = new Uint8Array(5 * count)
    for (let i = 0; i < count; i++) code[5 * i] = 0xe9
    const sites = Array.from({ length: count }, (_, i) => ({
      offset: 5 * i + 1,
      kind: 'pc32' as const,
      target: 0n,
    }))
    const table = RelocationTable.fromSites(sites, { code, base: BASE })
    const { problems, message } = refusal(() => relocate(code, table, { to: 2n ** 40n }))
    expect(problems.length).toBe(101)
    expect(problems[100].message).toBe('and 150 more pc32 sites like the one at 0x1f0.')
    expect(message).toMatch(/\(and 100 more\)$/)
  })

  it.each<[SiteKind, bigint, string]>([
    ['pc32', 2n ** 40n, 'a signed 32-bit field holds -2^31 to 2^31-1'],
    ['abs32', 2n ** 32n, 'an unsigned 32-bit field holds 0 to 2^32-1'],
    ['abs32s', 2n ** 31n, 'a signed 32-bit field holds -2^31 to 2^31-1'],
    ['diff32', 2n ** 40n, 'a signed 32-bit field holds -2^31 to 2^31-1'],
    ['diff32u', 0n, 'an unsigned 32-bit field holds 0 to 2^32-1'],
    [
      'eip32',
      2n ** 32n,
      'the target 0x400000 would be 0x100000000; an EIP-relative operand reaches addresses below 2^32 only',
    ],
  ])('says what a %s field holds', (kind, to, limit) => {
    const isRelative = kind === 'pc32'
    const code = bytes(
      kind === 'eip32' ? 'fc ff ff ff' : kind.startsWith('abs') ? '00 00 40 00' : '00 00 00 00',
    )
    const site = {
      offset: 0,
      kind,
      target: isRelative ? 0n : BASE,
      ...(kind.startsWith('diff') ? { anchor: 0n } : {}),
    }
    const table = RelocationTable.fromSites([site], { code, base: BASE })
    const { problems } = refusal(() => relocate(code, table, { to }))
    expect(problems).toMatchObject([{ code: 'out-of-range', offset: 0, address: BASE }])
    expect(problems[0].message).toContain(limit)
    expect(problems[0].remedy.length).toBeGreaterThan(20)
    // Verify says the same of bytes that somebody else made.
    const moves = [{ from: BASE, to, length: 4 }]
    const verdict = verify(code, code, { claim: table, moves })
    expect(verdict.problems.map((problem) => problem.code).sort()).toEqual(['no-code-map', 'out-of-range'])
  })

  it('names the pieces that cannot hold their address', () => {
    const code = bytes('00 00 40 00')
    const pieces = [{ offset: 0, width: 4, shift: 0, operation: 'or' }] as const
    const table = RelocationTable.fromSites([{ kind: 'split', pieces }], { code, base: BASE })
    const { problems } = refusal(() => relocate(code, table, { to: 2n ** 32n }))
    expect(problems).toMatchObject([{ code: 'out-of-range', offset: 0, address: BASE, bytes: '00004000' }])
    expect(relocate(code, table, { to: 2n ** 32n - 4n }).bytes).toEqual(bytes('fc ff ff ff'))
  })
})

describe('a verdict', () => {
  it('lists a hundred errors and counts the rest', () => {
    const code = new Uint8Array(1000).fill(0x90)
    const after = code.map((byte, i) => (i % 2 === 0 ? byte : 0xcc))
    const claim = RelocationTable.fromSites([], { code, base: BASE })
    const { ok, problems } = verify(code, after, { claim, moves: [{ from: BASE, to: BASE, length: 1000 }] })
    expect([ok, problems.length]).toEqual([false, 101])
    expect(problems[100].message).toBe('and 400 more errors behind this place.')
  })
})
