/** Code of the large model: differences from the global offset table, and numbers that are added like them. */
import { expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'

const BASE = 0x7f12_3456_0000n
const GOT = 0x1000n

const imm64 = (value: bigint): number[] =>
  Array.from({ length: 8 }, (_, i) => Number((BigInt.asUintN(64, value) >> BigInt(8 * i)) & 0xffn))

/**
 * Offsets of the 64-bit constants that the analysis takes for differences, in functions that load the table's
 * address and run `bodies`.
 */
function differences(bodies: readonly (readonly number[])[]): number[] {
  const code: number[] = []
  for (const body of bodies) {
    // lea rax,[rip-7]; movabs r15,GOT-.; add r15,rax; body; ret
    const label = BigInt(code.length)
    code.push(0x48, 0x8d, 0x05, 0xf9, 0xff, 0xff, 0xff, 0x49, 0xbf, ...imm64(GOT - label), 0x49, 0x01, 0xc7)
    code.push(...body, 0xc3)
    while (code.length % 16 !== 0) code.push(0xcc)
  }
  return analyze(Uint8Array.from(code), { base: BASE, span: 0x2000 })
    .sites()
    .filter(({ kind }) => kind === 'diff64')
    .map(({ offset }) => offset)
}

// movabs rcx,value; then add rcx,r15; add rcx,rdx; test rcx,rdx.
const load = (value: bigint): number[] => [0x48, 0xb9, ...imm64(value)]
const toTable = (value: bigint): number[] => [...load(value), 0x4c, 0x01, 0xf9]
const added = (value: bigint): number[] => [...load(value), 0x48, 0x01, 0xd1]
const tested = (value: bigint): number[] => [...load(value), 0x48, 0x85, 0xd1]

it('an offset to what stays is a difference', () => {
  expect(differences([toTable(0x2_3456_7890n)])).toEqual([22])
})

it('a mask is none, though something is added to it', () => {
  expect(differences([added(0xf_ffff_fff0n), added(-(1n << 32n)), toTable(0x2_3456_7890n)])).toEqual([118])
})

it('a number is none that is tested as often as it is added', () => {
  expect(differences([added(0x1_0000_0001n), tested(0x1_0000_0001n)])).toEqual([])
})
