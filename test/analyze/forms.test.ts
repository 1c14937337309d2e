/** Forms that entries and notes of the fast tables tell are those of the decoded instructions. */
import { expect, it } from 'vitest'
import { randomNumbers } from '../../scripts/fuzz/encodings.ts'
import { Form, FormReader } from '../../src/analyze/forms.ts'
import { Window } from '../../src/analyze/window.ts'
import { viewOf } from '../../src/core/bytes.ts'
import { toBlob } from '../../src/table/builder.ts'
import { fastTablesFor } from '../../src/x86/fast.ts'
import type { Cpu } from '../../src/x86/instruction.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'
import { loadFixtures } from '../support/fixtures.ts'

/** Reads at every offset, with the tables and without: how many forms there are, and how many hold addresses. */
function compare(
  code: Uint8Array,
  base: bigint,
  cpu: Cpu,
): { readonly count: number; readonly addresses: number } {
  const window = new Window(toBlob(code, { base }))
  const input = { view: viewOf(code), decoder: createTableDecoder(code, { cpu }), window }
  const fast = fastTablesFor(cpu)
  for (let at = 0; at + 4 <= code.length; at++) fast.learn(viewOf(code).getInt32(at, false))
  const known = new FormReader({ ...input, fast })
  const decoded = new FormReader({ ...input, fast: undefined })
  let count = 0
  let addresses = 0
  for (let at = 0; at < code.length; at++) {
    const form = decoded.at(at)
    if (known.at(at) !== form) expect([at, known.at(at)]).toEqual([at, form])
    for (const reader of [known, decoded])
      if (form !== 0 && reader.scoreAt(at) !== form >> Form.scoreShift)
        expect([at, reader.scoreAt(at)]).toEqual([at, form >> Form.scoreShift])
    if (form !== 0) count++
    if ((form & (Form.displacement | Form.immediate32 | Form.immediate64)) !== 0) addresses++
  }
  return { count, addresses }
}

it.each<Cpu>(['intel', 'amd'])('in random bytes, with addresses of many values (%s)', (cpu) => {
  const next = randomNumbers(7)
  const code = Uint8Array.from({ length: 1 << 18 }, next)
  // Every other word of four bytes is an address, or the upper half of one.
  for (const base of [0x1000n, 0x1_4000_0000n]) {
    for (let at = 0; at + 8 <= code.length; at += 16) {
      viewOf(code).setBigUint64(at, base + BigInt(at), true)
    }
    const { count, addresses } = compare(code, base, cpu)
    expect(count).toBeGreaterThan(code.length / 2)
    expect(addresses).toBeGreaterThan(base > 2n ** 32n ? 10 : 1000)
  }
})

it('in fixtures', () => {
  for (const { links } of loadFixtures())
    for (const { bytes, base } of links) expect(compare(bytes, base, 'intel').count).toBeGreaterThan(0)
})
