/** Immediate operands that hold addresses, and those that look like it. */
import { describe, expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'

const BASE = 0x40_0000n

/** Offsets of the sites of `code`, which ends with a ret, before other functions. */
function sitesOf(code: readonly number[]): number[] {
  const bytes = new Uint8Array(0x1000).fill(0xcc)
  bytes.set([...code, 0xc3])
  // push rbp; mov rbp,rsp; xor eax,eax; pop rbp; ret
  for (let at = 0x40; at < 0x1000; at += 16) bytes.set([0x55, 0x48, 0x89, 0xe5, 0x31, 0xc0, 0x5d, 0xc3], at)
  return analyze(bytes, { base: BASE })
    .sites()
    .map(({ offset }) => offset)
}

const address = [0x40, 0x04, 0x40, 0x00]
// movabs rax,0x405000000000000: the tag of a pointer of 48 bits.
const tag = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0x05, 0x04]

describe('or with an address', () => {
  it('is one where a linker relaxed the load from the global offset table: rax has a shorter form', () => {
    expect(sitesOf([...tag, 0x48, 0x81, 0xc8, ...address])).toEqual([13])
  })

  it('is a number where an assembler chose the form', () => {
    expect(sitesOf([...tag, 0x48, 0x0d, ...address])).toEqual([])
    expect(sitesOf([0x81, 0xc8, ...address])).toEqual([])
    expect(sitesOf([0x49, 0x81, 0xc8, ...address])).toEqual([])
  })
})
