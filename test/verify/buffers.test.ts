import { expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'
import { move } from '../../src/move.ts'
import { verify } from '../../src/verify/verify.ts'

/** `slice` of a Buffer is a view, not a copy as of any other Uint8Array. */
it('verify and move never write to a Buffer that they are given', () => {
  const code = Buffer.from('e8fbff0f00c3', 'hex')
  const options = { from: 0x400000, to: 0x480000 }
  const { bytes } = move(code, options)
  expect(code.toString('hex')).toBe('e8fbff0f00c3')
  const [before, after] = [Buffer.from(code), Buffer.from(bytes)]
  const claim = analyze(before, { base: 0x400000 })
  const moves = [{ ...options, length: 6 }]
  expect(verify(before, after, { moves, claim }).ok).toBe(true)
  expect([before.toString('hex'), after.toString('hex')]).toEqual(['e8fbff0f00c3', 'e8fbff0700c3'])
  after[5] = 0x90
  const scratch = Buffer.from(before)
  expect(() => move(scratch, { ...options, table: claim, into: scratch, to: 0x7f0000000000 })).toThrow()
  expect(scratch.equals(before)).toBe(true)
})
