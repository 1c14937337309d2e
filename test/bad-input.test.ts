/**
 * Whatever comes in: a `RelocError` that says what is wrong, or a right result; never a stack trace, never half of one.
 */
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { type AnalyzeOptions, analyze } from '../src/analyze/analyze.ts'
import type { Move } from '../src/core/range.ts'
import { copyRuns } from '../src/edit/copy-runs.ts'
import { move } from '../src/move.ts'
import { nearestPlace, relocateNear } from '../src/relocate/near.ts'
import { relocate } from '../src/relocate/relocate.ts'
import type { SiteInput } from '../src/table/from-sites.ts'
import { RelocationTable } from '../src/table/table.ts'
import { verify } from '../src/verify/verify.ts'
import { sweep } from '../src/x86/sweep.ts'
import { BASE, bytes, CODE, codeOf, OPTIONS, SITES, TABLE } from './support/bad-input.ts'

vi.setConfig({ testTimeout: 60_000 })

/** Bytes whose buffer went to somebody else. */
function transferred(): Uint8Array {
  const bytes = CODE.slice()
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
  return bytes
}

/** Bytes whose buffer ends before them. */
function shortened(): Uint8Array {
  const buffer = Reflect.construct(ArrayBuffer, [32, { maxByteLength: 32 }]) as ArrayBuffer & {
    resize(length: number): void
  }
  const bytes = new Uint8Array(buffer, 0, 32)
  buffer.resize(10)
  return bytes
}

describe('numbers', () => {
  const wrong: readonly unknown[] = [
    -1,
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 53,
    -1n,
    2n ** 64n,
    '0x400000',
    null,
    {},
  ]
  it.each(wrong.map((value) => [String(value), value] as const))('%s is no address', (_, value) => {
    const address = value as bigint
    // Left out, `target` and `to` mean something; null is not left out.
    for (const work of [
      () => analyze(CODE, { base: address }),
      () => sweep(CODE, { base: address }),
      () => move(CODE, { from: address, to: 0 }),
      () => move(CODE, { from: BASE, to: address }),
      () => relocate(CODE, TABLE, { to: address }),
      () => relocate(CODE, TABLE, { to: BASE, also: [{ from: address, to: 0, length: 1 }] }),
      () => relocate(CODE, TABLE, { to: BASE, also: [{ from: 0, to: 1, length: address }] }),
      () => analyze(CODE, { base: BASE, moved: [{ start: address, length: 1 }] }),
      () => RelocationTable.fromSites([{ offset: 14, kind: 'abs64', target: address }], OPTIONS),
      () => RelocationTable.fromPair(CODE, BASE, CODE, address),
      () => verify(CODE, CODE, { claim: TABLE, moves: [{ from: BASE, to: address, length: 32 }] }),
    ])
      expect(codeOf(work)).toBe('bad-argument')
  })

  it.each([-1, 1.5, Number.NaN, 2 ** 53, 3n, '3', 31])('%s is no span of 32 bytes', (span) => {
    expect(codeOf(() => analyze(CODE, { base: BASE, span: span as number }))).toBe('bad-argument')
  })

  it.each([-1, 1.5, 29, 2 ** 40, '1', undefined])('%s is no offset of a site', (offset) => {
    const site = { offset, kind: 'pc32' } as SiteInput
    expect(codeOf(() => RelocationTable.fromSites([site], OPTIONS))).toBe('bad-argument')
  })
})

describe('places', () => {
  it('a blob ends at 2^64 at most, before and after', () => {
    const last = 2n ** 64n - 32n
    expect(move(CODE.fill(0, 99), { from: BASE, to: BASE }).bytes).toEqual(CODE)
    const table = RelocationTable.fromSites([], { code: CODE, base: last })
    expect(relocate(CODE, table, { to: last }).table.base).toBe(last)
    expect(codeOf(() => RelocationTable.fromSites([], { code: CODE, base: last + 1n }))).toBe('bad-argument')
    expect(codeOf(() => relocate(CODE, table, { to: last + 1n }))).toBe('bad-argument')
    expect(codeOf(() => analyze(CODE, { base: last, span: 33 }))).toBe('bad-argument')
  })

  const covered = RelocationTable.fromSites(SITES, {
    ...OPTIONS,
    span: 64,
    moved: [
      { start: 0x600000n, length: 0x1000n },
      { start: 0x601000n, length: 0x10n },
    ],
  })
  const cases: readonly (readonly [string, string, readonly Move[], bigint?])[] = [
    ['moves that overlap', 'bad-argument', [{ from: BASE + 8n, to: 0x1000, length: 8 }]],
    ['two that go to one place', 'bad-argument', [{ from: 0x600000, to: BASE + 32n, length: 0x1000 }]],
    ['half of a covered range', 'not-covered', [{ from: 0x600000, to: 0x700000, length: 0x800 }]],
    ['half of one, more than another', 'not-covered', [{ from: 0x600800, to: 0x700000, length: 0x810 }]],
    ['what was never covered', 'not-covered', [{ from: 0x700000, to: 0x800000, length: 0x10 }]],
    ['more than is covered', 'not-covered', [{ from: 0x600000, to: 0x700000, length: 0x1011 }]],
    ['nothing', 'bad-argument', [{ from: 0x600000, to: 0x700000, length: 0 }]],
    ['onto a covered range that stays', 'bad-argument', [], 0x600ff0n],
    ['a covered range onto the blob', 'bad-argument', [{ from: 0x601000, to: BASE + 63n, length: 0x10 }]],
  ]
  it.each(cases.map((one) => [one[0], one] as const))('%s', (_, [, code, also, to = BASE]) => {
    expect(codeOf(() => relocate(CODE, covered, { to, also }))).toBe(code)
    const moves = [{ from: BASE, to, length: 64 }, ...also]
    if (code === 'not-covered')
      expect(verify(CODE, CODE, { claim: covered, moves }).problems[0]).toMatchObject({
        severity: 'error',
        code,
      })
  })

  it('two adjacent covered ranges may move as one, and apart', () => {
    const one = [{ from: 0x600000n, to: 0x700000n, length: 0x1010n }]
    const two = [
      { from: 0x601000n, to: 0x800000n, length: 0x10n },
      { from: 0x600000n, to: 0x700000n, length: 0x1000n },
    ]
    for (const also of [one, two]) {
      const { bytes: moved, table } = relocate(CODE, covered, { to: BASE, also })
      expect(verify(CODE, moved, { claim: covered, moves: also }).problems).toEqual([])
      // The ranges are where they went: the second pointer follows the first range on.
      const back = also.map(({ from, to, length }) => ({ from: to, to: from, length }))
      expect(relocate(moved, table, { also: back }).bytes).toEqual(CODE)
    }
  })
})

describe('bytes', () => {
  it('nothing at all is moved, and is a table', () => {
    const { bytes: moved, table, problems } = move(new Uint8Array(0), { from: BASE, to: 0x500000 })
    expect([moved.length, table.size, problems.length]).toEqual([0, 0, 0])
    expect(RelocationTable.fromJSON(JSON.parse(JSON.stringify(table))).sites()).toEqual([])
    expect(move(new Uint8Array(0), { from: 2n ** 64n - 1n, to: 0 }).bytes.length).toBe(0)
  })

  it.each([0, 0xff, 0x66, 0xe8, 0x0f, 0x62, 0xc4, 0x2e])('%i everywhere', (byte) => {
    const code = new Uint8Array(1000).fill(byte)
    const result = codeOf(() => {
      const { bytes: moved, verdict } = move(code, { from: BASE, to: BASE + 0x1000n })
      expect(verdict?.ok).toBe(true)
      if (byte !== 0xe8) expect(moved).toEqual(code)
    })
    expect(result).toBeUndefined()
  })

  it('an instruction cut off at the end is not code', () => {
    for (let length = 1; length < 5; length++) {
      const code = new Uint8Array([0xc3, ...CODE.subarray(0, length)])
      const { bytes: moved, table } = move(code, { from: BASE, to: 0x500000 })
      expect([moved, table.size]).toEqual([code, 0])
    }
  })

  it('random bytes give a verified result or a reason', () => {
    const random = fc.uint8Array({ minLength: 0, maxLength: 200 })
    const place = fc.bigInt(0n, 2n ** 64n - 200n)
    let done = 0
    fc.assert(
      fc.property(random, place, place, (code, from, to) => {
        const before = code.slice()
        const reason = codeOf(() => {
          const { bytes: moved, table, verdict } = move(code, { from, to })
          expect(verdict?.ok).toBe(true)
          expect(relocate(moved, table, { to: from }).bytes).toEqual(before)
          done++
        })
        expect(['refused', undefined]).toContain(reason)
        expect(code).toEqual(before)
      }),
      { numRuns: 300 },
    )
    expect(done).toBeGreaterThan(20)
  })

  it('what is no Uint8Array is refused', () => {
    for (const value of [
      [...CODE],
      new Uint16Array(CODE),
      CODE.buffer,
      'code',
      null,
      undefined,
      { length: 32 },
      new Proxy(CODE, {}),
      Object.create(Uint8Array.prototype),
      transferred(),
      shortened(),
    ]) {
      const code = value as unknown as Uint8Array
      for (const work of [
        () => analyze(code, { base: BASE }),
        () => sweep(code, { base: BASE }),
        () => move(code, { from: BASE, to: 0 }),
        () => move(code, { from: BASE, to: 0, table: TABLE }),
        () => relocate(code, TABLE, { to: 0x500000 }),
        () => relocate(CODE, TABLE, { to: 0x500000, into: value === undefined ? ('' as never) : code }),
        () => verify(code, CODE, { claim: TABLE, moves: [] }),
        () => verify(CODE, code, { claim: TABLE, moves: [] }),
        () => RelocationTable.fromPair(code, BASE, CODE, 0x500000),
        () => RelocationTable.fromPair(CODE, BASE, code, 0x500000),
        () => RelocationTable.fromSites([], { ...OPTIONS, code }),
        () => TABLE.check(code),
        () => relocateNear(code, TABLE, { free: [{ start: 0x500000, length: 0x1000 }] }),
        () => RelocationTable.fromBinary(TABLE.toBinary(CODE), code),
      ])
        expect(codeOf(work)).toBe('bad-argument')
    }
  })

  it('are those of other globals, too: of a vm, or what a test runner hands on', () => {
    const [code, into] = [CODE, CODE].map(
      ({ length }): Uint8Array => runInNewContext(`new Uint8Array(${length})`),
    )
    code.set(CODE)
    expect(code).not.toBeInstanceOf(Uint8Array)
    const own = move(CODE, { from: BASE, to: 0x500000 })
    const other = move(code, { from: BASE, to: 0x500000, into })
    expect([...into]).toEqual([...own.bytes])
    expect(other.table.hash).toBe(own.table.hash)
    const [runs, places] = [2, 1].map((length): Uint32Array => runInNewContext(`new Uint32Array(${length})`))
    runs[1] = 5
    expect([...copyRuns(code, { base: BASE, to: 0x500000, runs, places, into }).ends]).toEqual([5])
  })

  it('memory that is too short, and another blob, are refused', () => {
    const into = new Uint8Array(31)
    expect(codeOf(() => relocate(CODE, TABLE, { to: 0x500000, into }))).toBe('bad-argument')
    expect(codeOf(() => move(CODE, { from: BASE, to: 0x500000, into }))).toBe('bad-argument')
    expect(codeOf(() => relocate(CODE.subarray(1), TABLE, { to: 0x500000 }))).toBe('bad-table')
    expect(codeOf(() => verify(CODE.subarray(1), CODE, { claim: TABLE, moves: [] }))).toBe('bad-table')
    const free = [{ start: 0x500000, length: 0x1000 }]
    expect(codeOf(() => nearestPlace(CODE.subarray(1), TABLE, { free }))).toBe('bad-table')
    const other = CODE.slice()
    other[22] = 0xcc
    expect(codeOf(() => move(other, { from: BASE, to: 0x500000, table: TABLE }))).toBe('bad-table')
    expect(codeOf(() => move(CODE, { from: BASE + 1n, to: 0x500000, table: TABLE }))).toBe('bad-table')
    expect(verify(CODE, CODE.subarray(1), { claim: TABLE, moves: [] }).problems).toMatchObject([
      { code: 'length' },
    ])
  })
})

describe('hints', () => {
  const range = (start: unknown, end: unknown, kind: unknown = 'code') => ({ start, end, kind })
  it.each<[string, unknown]>([
    ['no object', 5],
    ['a list', []],
    ['null', null],
    ['ranges no list', { ranges: {} }],
    ['entries no list', { entries: 'x' }],
    ['a range that is none', { ranges: [null] }],
    ['outside the blob', { ranges: [range(0, 33)] }],
    ['backwards', { ranges: [range(8, 4)] }],
    ['negative', { ranges: [range(-1, 4)] }],
    ['no whole number', { ranges: [range(0.5, 4)] }],
    ['a bigint', { ranges: [range(0n, 4n)] }],
    ['of no kind', { ranges: [range(0, 4, 'bss')] }],
    ['overlapping', { ranges: [range(0, 8), range(4, 12)] }],
    ['code and data at once', { ranges: [range(0, 8), range(0, 8, 'data')] }],
    ['an entry outside', { entries: [32] }],
    ['an entry in data', { ranges: [range(0, 8, 'data')], entries: [4] }],
    ['an entry that is none', { entries: ['main'] }],
  ])('%s', (_, hints) => {
    const options = { base: BASE, hints } as AnalyzeOptions
    expect(codeOf(() => analyze(CODE, options))).toBe('bad-hints')
  })

  it('an unknown key is a warning that names it', () => {
    const hints = { ranges: [{ start: 0, end: 24, kind: 'code', name: 'main' }], functions: [] } as unknown
    const { problems } = analyze(CODE, { base: BASE, hints } as AnalyzeOptions)
    const unknown = problems.filter(({ code }) => code === 'unknown-hint')
    expect(unknown.map(({ message }) => message).join()).toMatch(/"functions".*"name"/)
  })
})

describe('sites', () => {
  const piece = { offset: 0, width: 4, shift: 0, operation: 'or' } as const
  it.each<[string, unknown]>([
    ['null', null],
    ['no kind', { offset: 1 }],
    ['an unknown kind', { offset: 1, kind: 'pc64' }],
    ['an anchor of an absolute site', { offset: 14, kind: 'abs64', anchor: 5n }],
    ['a difference without anchor', { offset: 14, kind: 'diff64' }],
    ['an end before the field', { offset: 1, kind: 'pc32', end: 4 }],
    ['an end too far behind', { offset: 1, kind: 'pc32', end: 17 }],
    ['an end of an absolute site', { offset: 14, kind: 'abs64', end: 23 }],
    ['evidence that is none', { offset: 1, kind: 'pc32', evidence: { code: 'hearsay' } }],
    ['an EIP target above 4 GB', { offset: 1, kind: 'eip32', target: 2n ** 32n }],
    ['a split without pieces', { kind: 'split' }],
    ['a piece that is none', { kind: 'split', pieces: [null] }],
    ['a piece outside', { kind: 'split', pieces: [{ ...piece, offset: 29 }] }],
    ['a piece of 3 bytes', { kind: 'split', pieces: [{ ...piece, width: 3 }] }],
    ['a piece at bit 64', { kind: 'split', pieces: [{ ...piece, shift: 64 }] }],
    ['pieces that share bits', { kind: 'split', pieces: [piece, { ...piece, offset: 8, shift: 16 }] }],
    [
      'nine pieces',
      {
        kind: 'split',
        pieces: Array.from({ length: 9 }, (_, i) => ({
          ...piece,
          offset: i,
          width: 1,
          shift: 7 * i,
          operation: 'add',
        })),
      },
    ],
    ['xor without the address', { kind: 'split', pieces: [{ ...piece, operation: 'xor' }] }],
  ])('%s', (_, site) => {
    expect(codeOf(() => RelocationTable.fromSites([site as SiteInput], OPTIONS))).toBe('bad-argument')
  })

  it('code runs may come in any order, overlapping, but not empty and not outside', () => {
    const runs = [
      { start: 22, end: 24 },
      { start: 0, end: 24 },
      { start: 0, end: 12 },
    ]
    const made = RelocationTable.fromSites(SITES, { ...OPTIONS, runs })
    expect(made.code()).toEqual([runs[2], runs[1], runs[0]])
    expect(move(CODE, { from: BASE, to: 0x500000, table: made }).verdict?.proved.relative).toBe(2)
    for (const run of [
      { start: 4, end: 4 },
      { start: 8, end: 4 },
      { start: -1, end: 4 },
      { start: 0, end: 33 },
    ])
      expect(codeOf(() => RelocationTable.fromSites(SITES, { ...OPTIONS, runs: [run] }))).toBe('bad-argument')
  })

  it('two of one byte', () => {
    const sites: SiteInput[] = [
      { offset: 14, kind: 'abs64' },
      { offset: 18, kind: 'abs32' },
    ]
    // The second holds 0, which no covered move changes; with a target it overlaps.
    expect(RelocationTable.fromSites(sites, OPTIONS).size).toBe(1)
    sites[1] = { ...sites[1], target: BASE }
    expect(codeOf(() => RelocationTable.fromSites(sites, OPTIONS))).toBe('bad-argument')
  })

  it('pairs that are none', () => {
    const other = relocate(CODE, TABLE, { to: 0x500000 }).bytes
    expect(codeOf(() => RelocationTable.fromPair(CODE, BASE, other, BASE))).toBe('bad-argument')
    expect(codeOf(() => RelocationTable.fromPair(CODE, BASE, other.subarray(1), 0x500000))).toBe('bad-input')
    expect(codeOf(() => RelocationTable.fromPair(CODE, BASE, other, 0x500001))).toBe('bad-input')
    const written = other.slice()
    written[23] ^= 1
    expect(codeOf(() => RelocationTable.fromPair(CODE, BASE, written, 0x500000))).toBe('bad-input')
    // 2^31 apart, abs32 and pc32 look alike.
    const low = bytes('b8 00 00 40 00 c3')
    const high = bytes('b8 00 00 40 80 c3')
    expect(codeOf(() => RelocationTable.fromPair(low, BASE, high, BASE + 0x8000_0000n))).toBe('bad-input')
  })
})

describe('stopping', () => {
  it('a long call can be stopped at every step, and has written nothing', () => {
    const code = new Uint8Array(600_000).fill(0x90)
    code[0] = 0xe9
    code[code.length - 1] = 0xc3
    const table = RelocationTable.fromSites([{ offset: 1, kind: 'pc32', target: 0 }], {
      code,
      base: BASE,
      runs: [{ start: 0, end: code.length }],
    })
    const into = new Uint8Array(code.length)
    const phases: string[] = []
    const stopAt = (last: number) => (_done: number, _total: number, phase: string) => {
      phases.push(phase)
      return phases.length < last
    }
    const go = (last: number, given: RelocationTable | undefined) => {
      phases.length = 0
      const options = { from: BASE, to: BASE + 0x1000n, into, table: given, onProgress: stopAt(last) }
      return codeOf(() => move(code, options))
    }
    for (const given of [table, undefined]) {
      expect(go(Number.POSITIVE_INFINITY, given)).toBeUndefined()
      const steps = phases.length
      expect(steps).toBeGreaterThan(given === undefined ? 4 : 2)
      expect(phases).toContain('verify')
      into.fill(0)
      for (const last of [1, 2, steps]) {
        expect([last, go(last, given)]).toEqual([last, 'stopped'])
        expect(into.every((byte) => byte === 0)).toBe(true)
      }
    }
    const signal = { aborted: true }
    expect(codeOf(() => move(code, { from: BASE, to: BASE, signal }))).toBe('stopped')
  })
})
