/** The canonical form is hashed piece by piece: a field that lies in two pieces counts no more than any other. */
import { describe, expect, it } from 'vitest'
import { RelocationTable, type SiteInput } from '../../src/index.ts'

/** Edges of the pieces lie at the multiples of it. */
const EDGE = 0x8000
const LENGTH = 3 * EDGE + 5
const BASE = 0x40_0000n

const SITES: readonly SiteInput[] = [
  { offset: EDGE - 7, kind: 'abs64', target: BASE },
  { offset: EDGE + 1, kind: 'pc32', target: 0x1000n },
  { offset: 2 * EDGE - 1, kind: 'abs32', target: BASE },
  { offset: 3 * EDGE - 2, kind: 'pc16', target: 0x1000n },
  {
    kind: 'split',
    target: BASE,
    pieces: [
      { offset: 2 * EDGE + 8, width: 4, shift: 0, operation: 'or' },
      { offset: 2 * EDGE - 5, width: 4, shift: 32, operation: 'or' },
    ],
  },
  { offset: LENGTH - 4, kind: 'pc32', target: 0x1000n },
]
/** Of each byte whether it belongs to a field. */
const inField = new Uint8Array(LENGTH)
for (const [offset, width] of [
  [EDGE - 7, 8],
  [EDGE + 1, 4],
  [2 * EDGE - 1, 4],
  [3 * EDGE - 2, 2],
  [2 * EDGE + 8, 4],
  [2 * EDGE - 5, 4],
  [LENGTH - 4, 4],
])
  inField.fill(1, offset, offset + width)

const code = Uint8Array.from({ length: LENGTH }, (_, i) => Math.imul(i + 1, 0x9e37_79b1) >>> 24)
const table = RelocationTable.fromSites(SITES, { code, base: BASE })

describe('the content hash', () => {
  it('is what tables that were written before hold', () => {
    expect(table.hash).toBe('618d221fb14d8aae')
  })

  it('knows every byte around the edges of its pieces but those of fields', () => {
    const near = [0, EDGE, 2 * EDGE, 3 * EDGE, LENGTH].flatMap((edge) =>
      Array.from({ length: 32 }, (_, i) => edge - 16 + i).filter((i) => i >= 0 && i < LENGTH),
    )
    const changes = near.filter((i) => {
      const other = code.slice()
      other[i] ^= 0x40
      return table.matches(other)
    })
    expect(changes).toEqual(near.filter((i) => inField[i] === 1))
  })
})
