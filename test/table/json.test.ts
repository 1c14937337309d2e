/** The JSON form of a table, whole and damaged. */
import { describe, expect, it, vi } from 'vitest'
import { move } from '../../src/move.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { BASE, CODE, codeOf, OPTIONS, SITES } from '../support/bad-input.ts'

vi.setConfig({ testTimeout: 60_000 })

describe('the JSON form', () => {
  const code = new Uint8Array([...CODE, ...new Array<number>(32).fill(0)])
  const table = RelocationTable.fromSites(
    [
      ...SITES,
      { offset: 32, kind: 'diff64', target: BASE, anchor: 0x600000n },
      { offset: 40, kind: 'abs32', target: 0x600000n },
      { offset: 44, kind: 'eip32', target: 0x5000n },
      {
        kind: 'split',
        target: BASE,
        pieces: [
          { offset: 48, width: 4, shift: 0, operation: 'or' },
          { offset: 52, width: 4, shift: 32, operation: 'add' },
        ],
      },
    ],
    { ...OPTIONS, code, runs: [{ start: 0, end: 24 }], moved: [{ start: 0x600000n, length: 0x1000n }] },
  )
  const json: unknown = JSON.parse(JSON.stringify(table))
  const to = 0x440000n
  const right = relocate(code, table, { to }).bytes

  it.each([undefined, null, 5, 'text', [], {}, { format: 'x64-reloc-table', version: 1 }, { format: 'elf' }])(
    '%j is no table',
    (value) => {
      expect(codeOf(() => RelocationTable.fromJSON(value))).toBe('bad-input')
    },
  )

  /** Paths to every value of a JSON text. */
  const paths = (value: unknown, path: readonly string[] = []): (readonly string[])[] =>
    typeof value === 'object' && value !== null
      ? [path, ...Object.entries(value).flatMap(([key, inner]) => paths(inner, [...path, key]))]
      : [path]

  const put = (
    value: unknown,
    [key, ...rest]: readonly string[],
    change: (old: unknown) => unknown,
  ): unknown => {
    if (key === undefined) return change(value)
    const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<string, unknown>
    const now = put(copy[key], rest, change)
    if (now === undefined) delete copy[key]
    else copy[key] = now
    return copy
  }

  const CHANGES: readonly (readonly [string, (old: unknown) => unknown])[] = [
    ['gone', () => undefined],
    ['null', () => null],
    ['true', () => true],
    ['-1', () => -1],
    ['1.5', () => 1.5],
    ['2^53', () => 2 ** 53],
    ['0', () => 0],
    ['1', () => 1],
    ['""', () => ''],
    ['"range"', () => 'range'],
    ['"0x0"', () => '0x0'],
    ['"0x400004"', () => '0x400004'],
    ['"0x600000"', () => '0x600000'],
    ['"0x10000000000000000"', () => '0x10000000000000000'],
    ['"-0x1"', () => '-0x1'],
    ['"abs32s"', () => 'abs32s'],
    ['"pc32"', () => 'pc32'],
    ['[]', () => []],
    ['{}', () => ({})],
    ['one more', (old) => (typeof old === 'number' ? old + 1 : Array.isArray(old) ? [...old, ...old] : old)],
    ['first only', (old) => (Array.isArray(old) ? old.slice(0, 1) : old)],
  ]

  it('with any value changed is refused, or moves the same', () => {
    const outcomes = new Map<string, number>()
    for (const path of paths(json))
      for (const [what, change] of CHANGES) {
        const damaged = put(json, path, change)
        if (JSON.stringify(damaged) === JSON.stringify(json)) continue
        const reason =
          codeOf(() => {
            const read = RelocationTable.fromJSON(damaged)
            const { bytes: moved } = move(code, { from: BASE, to, table: read })
            if (Buffer.compare(moved, right) !== 0)
              expect.fail(`${path.join('.')} = ${what} moves differently`)
          }) ?? 'the same'
        expect(['bad-input', 'bad-table', 'not-covered', 'not-verified', 'refused', 'the same']).toContain(
          reason,
        )
        outcomes.set(reason, (outcomes.get(reason) ?? 0) + 1)
      }
    expect(outcomes.get('bad-input')).toBeGreaterThan(1000)
    // Evidence, addresses that say the same of what moves with what, the code runs.
    expect(outcomes.get('the same')).toBeLessThan(150)
  })
})
