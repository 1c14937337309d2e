/** Words of data that hold the distance from themselves to something outside. */
import { expect, it } from 'vitest'
import { OutsideTargets } from '../../src/analyze/outside.ts'
import { addSelfRelative } from '../../src/analyze/self-relative.ts'
import type { TableBuilder } from '../../src/table/builder.ts'

const SPAN = 0x1000
/** Where the two words point. */
const TARGET = 0x10_2000

/** Offsets of the sites among two words that point at one place, where code points at `targets`. */
function sitesWith(targets: readonly number[]): number[] {
  const view = new DataView(new ArrayBuffer(16))
  for (const offset of [4, 8]) view.setInt32(offset, TARGET - offset, true)
  const sites: number[] = []
  const builder = {
    blob: { span: SPAN, base: 0n },
    addDifference: (offset: number) => sites.push(offset),
  } as unknown as TableBuilder
  addSelfRelative(view, Uint32Array.of(0, 16), 0, new OutsideTargets(targets), () => false, builder)
  return sites
}

/** What data has for targets that is read as code: all over 4 GiB. */
const noise = Array.from({ length: 50_000 }, (_, i) => Math.imul(i + 1, 0x9e37_79b1)).filter(
  (target) => target < 0 || target > SPAN,
)

it('two words that share a target are sites where code points nearby', () => {
  expect(sitesWith([TARGET + 0x800])).toEqual([4, 8])
  expect(sitesWith([...noise, ...Array.from({ length: 64 }, (_, i) => TARGET + 0x800 + 16 * i)])).toEqual([
    4, 8,
  ])
})

it('targets all over the place vouch for none', () => {
  expect(sitesWith([...noise, TARGET])).toEqual([])
})
