/** The command verify: what it accepts, and that no changed byte gets past it. */
import { describe, expect, it } from 'vitest'
import { FROM, MOVED, path, put, relocate, TO, useDirectory } from '../support/command.ts'
import { runCommand, type Transcript } from '../support/terminal.ts'

useDirectory()

describe('verify', () => {
  const verify = (after: Uint8Array, ...argv: string[]): Promise<Transcript> => {
    put('after.bin', after)
    return runCommand(['verify', path('a.bin'), path('after.bin'), ...FROM, ...TO, ...argv])
  }

  it('accepts the moved blob, with the table of either side', async () => {
    const { code, err } = await verify(MOVED)
    expect({ code, err }).toMatchObject({ code: 0, err: expect.stringMatching(/^verified: 13 bytes kept/) })
    const tampered = Uint8Array.from(MOVED)
    tampered[0] = 0xe9
    for (const ending of ['json', 'tbl']) {
      const [a, b] = [path(`a.${ending}`), path(`b.${ending}`)]
      await relocate(...FROM, ...TO, '-o', path('b.bin'), '--write-table', b)
      await runCommand(['scan', path('a.bin'), '--base', '0x400000', '--write-table', a])
      for (const table of [a, b]) {
        expect(await verify(MOVED, '--table', table)).toMatchObject({ code: 0, err })
        const wrong = await verify(tampered, '--table', table)
        expect(wrong).toMatchObject({ code: 1, err: expect.stringMatching(/not verified: /i) })
      }
    }
  })

  it('rejects one with any byte changed, and never writes to what it compares', async () => {
    for (let i = 0; i < MOVED.length; i++) {
      const tampered = Uint8Array.from(MOVED)
      tampered[i] ^= 0x10
      const { code, err } = await verify(tampered)
      expect({ i, code }).toEqual({ i, code: 1 })
      expect(err).toMatch(/^error: \+0x[0-9a-f]+ .*\n.*\nnot verified: 1 problem;/)
    }
    const short = await verify(MOVED.subarray(1), '--json')
    expect(short.code).toBe(1)
    expect(JSON.parse(short.out)).toMatchObject({ ok: false, problems: [{ code: 'length' }] })
  })

  it('reports as JSON what relocate reports of the same move', async () => {
    const done = JSON.parse((await relocate(...FROM, ...TO, '-o', path('after.bin'), '--json')).out)
    const checked = JSON.parse((await verify(MOVED, '--json')).out)
    expect(checked).toEqual(done)
    expect(Object.values(done.verdict.proved)).toContain(13)
  })
})
