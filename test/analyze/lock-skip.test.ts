/**
 * Single-threaded code leaves out a lock prefix by a branch behind it: both are instructions, in code of any length.
 */
import { expect, it } from 'vitest'
import { withAnalysis } from '../../src/analyze/analyze.ts'
import { loadFixture } from '../support/fixtures.ts'
import { parse } from '../support/hard-case.ts'

// cmp dword fs:[0x18], 0; je 1f; lock; 1: cmpxchg [rip+x], rcx; cmp rax, rdx; jne to the first; ret
const SKIP = '64833c251800000000 7401 f0 480fb10d00000008 4839d0 75e7 c3'

it.each([1, 2])('je behind lock, %d times behind other functions', (times) => {
  const { links } = loadFixture('gcc-O2-pic-text')
  const text = links[0].bytes
  const skip = parse(SKIP)
  const code = new Uint8Array(text.length + times * 32)
  code.set(text)
  code.fill(0xcc, text.length)
  for (let i = 0; i < times; i++) code.set(skip, text.length + 32 * i)
  withAnalysis(code, { base: links[0].base }, ({ map, table }) => {
    for (let i = 0; i < times; i++) {
      const at = text.length + 32 * i
      for (const start of [0, 9, 11, 20, 23, 25])
        expect([start, map.bits.has(at + start)]).toEqual([start, true])
      expect(map.bits.has(at + 12)).toBe(false)
      expect(map.shared).toContain(at + 12)
      expect(table.sites().some(({ offset, kind }) => offset === at + 16 && kind === 'pc32')).toBe(true)
    }
  })
})
