/**
 * The command out of reach: veneers in a file of their own, the table that leads back, and what is asked for in vain.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { runCommand, type Transcript } from '../support/terminal.ts'

// cmp [0x600007],rax; call [0x700000]; ret
const BLOB = Buffer.from('48390500002000ff15f3ff2f00c3', 'hex')

let directory: string
const path = (name: string): string => join(directory, name)
const relocate = (name: string, ...argv: string[]): Promise<Transcript> =>
  runCommand(['relocate', path(name), ...argv])
const far = (...argv: string[]): Promise<Transcript> =>
  relocate('a.bin', '--from', '0x400000', '--to', '0x7f0000000000', '-o', path('b.bin'), ...argv)

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
  writeFileSync(path('a.bin'), BLOB)
})
afterEach(() => rmSync(directory, { recursive: true }))

it.each(['b.json', 'b.tbl'])(
  'writes veneers and %s, says where they belong, and the way back needs none',
  async (table) => {
    const there = await far('--veneers', path('v.bin'), '--write-table', path(table), '--json')
    expect(there.err).toContain('2 veneered instructions followed')
    const { veneers } = JSON.parse(there.out) as { veneers: unknown }
    const { length } = readFileSync(path('v.bin'))
    expect(veneers).toEqual({ file: path('v.bin'), at: '0x7f0000000010', length })
    const back = await relocate(
      'b.bin',
      '--table',
      path(table),
      '--to',
      '0x400000',
      '-o',
      path('c.bin'),
      '--json',
    )
    expect(JSON.parse(back.out)).toMatchObject({ ok: true, veneers: null })
    expect(readFileSync(path('c.bin'))).toEqual(BLOB)
  },
)

it('puts them where it is told, and keeps from the red zone', async () => {
  const at = ['--veneers', path('v.bin'), '--veneers-at', '0x7f0000001000', '--no-red-zone']
  expect((await far(...at)).err).toContain('bytes at 0x7f0000001000')
  // push rcx; movabs rcx, 0x600007
  expect(readFileSync(path('v.bin')).subarray(0, 11).toString('hex')).toBe('5148b90700600000000000')
})

it('refuses without --veneers and names it; asks for --veneers where something is said about them', async () => {
  const refused = await far()
  expect(refused.code).toBe(1)
  expect(refused.err).toContain('--veneers')
  const wrong = await far('--no-red-zone')
  expect(wrong.code).toBe(2)
  expect(wrong.err).toContain('--veneers <file> is needed')
})

it.each([[], ['--no-red-zone']])(
  'verifies them, and finds what was changed in them, %s',
  async (...rules) => {
    const at = '0x7f0000001000'
    await far('--veneers', path('v.bin'), '--veneers-at', at, '--write-table', path('b.json'), ...rules)
    const verify = (...argv: string[]): Promise<Transcript> =>
      runCommand([
        'verify',
        path('a.bin'),
        path('b.bin'),
        '--from',
        '0x400000',
        '--to',
        '0x7f0000000000',
        ...argv,
      ])
    const given = ['--veneers', path('v.bin'), '--veneers-at', at, ...rules]
    for (const table of [[], ['--table', path('b.json')]]) {
      const right = await verify(...given, ...table)
      expect(right.err).toContain('2 veneered instructions followed')
      expect(right.code).toBe(0)
    }
    expect((await verify()).code).toBe(1)
    const veneers = readFileSync(path('v.bin'))
    // The address in the first movabs.
    veneers[veneers.indexOf(Buffer.from('0700600000000000', 'hex'))]++
    writeFileSync(path('v.bin'), veneers)
    expect((await verify(...given)).code).toBe(1)
  },
)

it('verify needs the veneers and their place together', async () => {
  const verify = (...argv: string[]): Promise<Transcript> =>
    runCommand(['verify', path('a.bin'), path('a.bin'), '--from', '0', '--to', '0', ...argv])
  const noFile = await verify('--veneers-at', '0x1000')
  expect([noFile.code, noFile.err]).toEqual([2, expect.stringContaining('--veneers <file> is needed')])
  const noPlace = await verify('--veneers', path('a.bin'))
  expect([noPlace.code, noPlace.err]).toEqual([
    2,
    expect.stringContaining('--veneers-at <address> is needed'),
  ])
})
