/** Tables of addresses that jumps go through. */
import { expect, it } from 'vitest'
import { explain } from '../../src/analyze/explain.ts'

const BASE = 0x40_0000n
const ENTRIES = 83
/** Other functions, the dispatcher, and what the entries lead to. */
const [OTHERS, DISPATCHER, BODIES] = [0x2a0, 0x4a0, 0x4c0]

it('a table that a mask announces ends before the code behind it', () => {
  const bytes = new Uint8Array(BODIES + 16 * ENTRIES).fill(0xcc)
  const view = new DataView(bytes.buffer)
  bytes.fill(0, 0, OTHERS)
  for (let i = 0; i < ENTRIES; i++) view.setBigUint64(8 * i, BASE + BigInt(BODIES + 16 * i), true)
  // push rbp; mov rbp,rsp; push r15; push r14; mov eax,7; ret
  const body = [0x55, 0x48, 0x89, 0xe5, 0x41, 0x57, 0x41, 0x56, 0xb8, 7, 0, 0, 0, 0xc3]
  for (let at = OTHERS; at < bytes.length; at += 16) bytes.set(body, at)
  // and eax,0x7f; jmp [rax*8+table]
  bytes.set([0x83, 0xe0, 0x7f, 0xff, 0x24, 0xc5, 0x00, 0x00, 0x40, 0x00, 0xcc, 0xcc, 0xcc, 0xcc], DISPATCHER)
  const readings = explain(bytes, [0, 8 * ENTRIES - 8, OTHERS, OTHERS + 0x100], { base: BASE })
  expect(readings.map(({ reading }) => reading.as)).toEqual(['data', 'data', 'code', 'code'])
  expect(readings[1].reading.table?.end).toBe(8 * ENTRIES)
})
