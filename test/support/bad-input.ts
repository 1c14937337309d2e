/** A small blob with its sites, and how a call fails: what the tests of bad input share. */
import { expect } from 'vitest'
import { RelocError } from '../../src/core/errors.ts'
import type { FromSitesOptions, SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'

/** Bytes of hex text. */
export const bytes = (text: string): Uint8Array =>
  new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
/** call +0x1000; lea rax,[0x600000]; mov rcx,imm64 of itself; ret */
export const CODE: Uint8Array = bytes(
  'e8 00 10 00 00 48 8d 05 f4 ff 1f 00 48 b9 0c 00 40 00 00 00 00 00 c3 90 00 00 40 00 00 00 00 00',
)
export const BASE: bigint = 0x400000n
export const SITES: readonly SiteInput[] = [
  { offset: 1, kind: 'pc32' },
  { offset: 8, kind: 'pc32' },
  { offset: 14, kind: 'abs64' },
  { offset: 24, kind: 'abs64' },
]
export const OPTIONS: FromSitesOptions = { code: CODE, base: BASE, runs: [{ start: 0, end: 24 }] }
export const TABLE: RelocationTable = RelocationTable.fromSites(SITES, OPTIONS)

/** The code of the `RelocError` that `work` throws; anything else that it throws fails the test. */
export function codeOf(work: () => unknown): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    if (!(error instanceof RelocError)) throw error
    expect(error.message).toMatch(/\.$|\)$/)
    return error.code
  }
}
