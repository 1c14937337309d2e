import { expect, it } from 'vitest'
import { withAnalysis } from '../../src/analyze/analyze.ts'

/** push rbp; mov rbp, rsp; mov rax, [rbp-8]; add rax, rdi; pop rbp; ret: 16 bytes. */
const FUNCTION = Buffer.from('554889e5488b45f84801f85dc3669090', 'hex')
/** push rbp; mov rbp, rsp; mov rbx, imm64; mov rcx, [rip+d], which ends at offset 21; pop rbp; ret */
const READER = Buffer.from('554889e548bb0000ffffffffffff488b0d000000005dc366900f1f4000', 'hex')

/** The zones of doubt of functions, one of which reads what lies `offset` bytes into it. */
function zonesWhere(offset: number): readonly number[] {
  const reader = Buffer.from(READER)
  reader.writeInt32LE(offset - 21, 17)
  const functions = Array.from({ length: 100 }, () => FUNCTION)
  const code = Buffer.concat([...functions, reader, ...functions])
  return withAnalysis(new Uint8Array(code), { base: 0x7f00_0000_0000n }, ({ map }) => map.zones)
}

it('code is no data where code reads the constant of a movabs, as V8 has it do; other reads of code are doubtful', () => {
  expect(zonesWhere(6)).toEqual([])
  for (const other of [1, 4, 5, 7, 10, 14]) expect([other, zonesWhere(other).length]).toEqual([other, 2])
})

/** push rbp; mov rbp, rsp; call or jmp rel32, which ends at offset 9; pop rbp; ret */
const CALLER = Buffer.from('554889e5e8000000005dc3660f1f4400', 'hex')

/** The zones of doubt of code whose calls leave it, seven to one place and one to `distance` behind its end. */
function zonesOfCalls(distance: number): readonly number[] {
  const parts: Buffer[] = []
  const call = (target: number): void => {
    const caller = Buffer.from(CALLER)
    caller.writeInt32LE(target - 16 * parts.length - 9, 5)
    parts.push(caller)
    while (parts.length % 20 !== 0) parts.push(FUNCTION)
  }
  for (let i = 0; i < 7; i++) call(0x1000_0000 + 16 * i)
  call(160 * 16 + distance)
  return withAnalysis(
    new Uint8Array(Buffer.concat(parts)),
    { base: 0x7f00_0000_0000n },
    ({ map }) => map.zones,
  )
}

it('one call to a place of its own is doubtful where that lies far away, and not where it lies beside the blob', () => {
  for (const near of [0, 1, 5000, 1 << 20]) expect([near, zonesOfCalls(near)]).toEqual([near, []])
  for (const far of [1 << 29, 1 << 30]) expect([far, zonesOfCalls(far).length]).toEqual([far, 2])
})

it('an instruction that the end of the blob cuts off makes nothing before it doubtful; bytes that are no instruction do', () => {
  const readingOf = (last: string): { zones: readonly number[]; runs: number[] } => {
    const code = Buffer.concat([...Array.from({ length: 100 }, () => FUNCTION), Buffer.from(last, 'hex')])
    return withAnalysis(new Uint8Array(code), { base: 0x7f00_0000_0000n }, ({ map }) => ({
      zones: map.zones,
      runs: [...map.runs],
    }))
  }
  // push rbp; mov rbp, rsp (3 bytes, the last start); two bytes of mov rax, [rbp-8], or of call and movabs.
  for (const last of ['554889e5488b', '554889e5e800', '554889e548b8'])
    expect([last, readingOf(last)]).toEqual([last, { zones: [1601, 1606], runs: [0, 1604] }])
  for (const last of ['554889e50606', '554889e50f04'])
    expect([last, readingOf(last).zones[0] < 1536]).toEqual([last, true])
})
