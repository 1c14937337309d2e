/** What this CPU lacks cannot be run: verification follows what stands in for it. */
import { hexBytes } from '../../src/core/bytes.ts'
import { move } from '../../src/move.ts'
import { RelocationTable } from '../../src/table/table.ts'
import type { Template } from './reach-cases.ts'
import { DATA, HOME, LOW_DATA, LOW_HOME, RANGE } from './reach-places.ts'

const FAR = 0x7e00_0000_0000n

/**
 * What verification says against a far move of the instruction; undefined: it is right, and was proved by a
 * veneer or another form.
 */
export function wrongBySymbols({ bytes, at, kind }: Template): string | undefined {
  const code = Uint8Array.from([...bytes, 0x90])
  const isLow = kind !== 'pc32'
  new DataView(code.buffer).setInt32(at, isLow ? Number(LOW_DATA) : 0x20_0000, true)
  const low = { start: LOW_DATA, length: RANGE }
  const site = { offset: at, kind, end: isLow ? undefined : bytes.length }
  const [from, moved] = isLow ? [LOW_HOME, [low]] : [HOME, []]
  const runs = [{ start: 0, end: code.length }]
  try {
    const table = RelocationTable.fromSites([site], { code, base: from, runs, moved })
    const also = moved.map(({ start, length }) => ({ from: start, to: DATA, length }))
    const { verdict } = move(code, { from, to: FAR, also, table, veneers: true })
    return verdict?.ok === true && verdict.proved.veneers === 1 ? undefined : hexBytes(bytes)
  } catch (error) {
    return `${hexBytes(bytes)}: ${(error as Error).message}`
  }
}
