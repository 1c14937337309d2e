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
