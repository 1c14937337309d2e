/** The command scan: the fields of a blob, and why they are taken for what they are. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ReaderGone } from '../../src/cli/terminal.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { BLOB, get, MOVED, path, put, relocate, useDirectory } from '../support/command.ts'
import { FIXTURES_FOLDER } from '../support/fixtures.ts'
import { runCommand, type Transcript } from '../support/terminal.ts'

useDirectory()

describe('scan', () => {
  const scan = (...argv: string[]): Promise<Transcript> =>
    runCommand(['scan', path('a.bin'), '--base', '0x400000', ...argv])

  it('lists every field with its instruction, those that a move changes with a star', async () => {
    const { code, out } = await scan()
    expect(code).toBe(0)
    expect(out).toBe(
      [
        '* +0x1      0x400001  pc32    -> 0x500000  code flow                     call 0x500000',
        '  +0x8      0x400008  pc32    -> 0x400000  -                             lea rax, [rel 0x400000]',
        '* +0xe      0x40000e  abs64   -> 0x400005  code flow, address range      mov rbx, 0x400005',
        '* +0x18     0x400018  pc32    -> 0x600000  code flow                     mov ecx, [rel 0x600000]',
        '',
      ].join('\n'),
    )
  })

  it('says the same as JSON', async () => {
    const report = JSON.parse((await scan('--json')).out)
    expect(report).toMatchObject({
      base: '0x400000',
      length: 29,
      kinds: [{ kind: 'pc32' }, { kind: 'abs64' }],
    })
    expect(report.fields).toHaveLength(4)
    expect(report.fields[2]).toEqual({
      offset: 14,
      address: '0x40000e',
      kind: 'abs64',
      width: 8,
      target: '0x400005',
      changes: true,
      evidence: { code: 'flow', address: 'range' },
      instruction: 12,
      text: 'mov rbx, 0x400005',
    })
  })

  it('of nothing says that nothing moves', async () => {
    const report = JSON.parse((await runCommand(['scan', put('empty', ''), '--base', '0', '--json'])).out)
    expect(report).toMatchObject({ ok: true, length: 0, span: 0, fields: [] })
  })

  it('explains what came of an offset: the reading, the instruction, the fields, what was weighed', async () => {
    const { code, out } = await scan('--explain', '0x12', '--explain', '2')
    expect(code).toBe(0)
    const [wide, call] = out.split('\n\n')
    expect(wide).toMatch(/^\+0x12 {2}0x400012 {2}code, flow/)
    expect(wide).toContain('entry +0x0')
    expect(wide).toContain('48bb0500400000000000  mov rbx, 0x400005')
    expect(wide).toMatch(/\+0xe abs64 -> 0x400005: a site, code flow, address range/)
    expect(wide).toMatch(/[+-]\d+\.\d {2}together/)
    expect(call).toMatch(/\+0x1 pc32 -> 0x500000: a site/)
    const { explanations } = JSON.parse((await scan('--explain', '0x12', '--json')).out)
    expect(explanations).toMatchObject([
      {
        offset: 0x12,
        reading: { as: 'code', instruction: { start: 12, end: 22, text: 'mov rbx, 0x400005' } },
        fields: [{ offset: 14, verdict: 'site', kind: 'abs64', target: '0x400005' }],
      },
    ])
    expect((await scan('--explain', '29')).code).toBe(2)
    expect((await scan('--explain', '1', '--table', 'x')).code).toBe(2)
  })

  it('says what the records of an ELF file say beside what was inferred', async () => {
    const elf = join(FIXTURES_FOLDER, 'elf/static-400000.elf')
    const listed = JSON.parse((await runCommand(['scan', elf, '--image', '--json'])).out)
    const { offset, target } = listed.fields.find(({ kind }: { kind: string }) => kind === 'abs64')
    const { out } = await runCommand(['scan', elf, '--image', '--explain', String(offset)])
    expect(out).toContain(`the file's records: abs64 at +0x${offset.toString(16)} -> ${target}`)
  })

  it('shows the pieces of an address that is spread over instructions', async () => {
    // mov eax, 0x400010; mov edx, 0x7f00; shl rdx, 32; or rax, rdx; ret; dq
    const code = Buffer.from('b810004000ba007f000048c1e2204809d0c3', 'hex')
    const pieces = [
      { offset: 1, width: 4, shift: 0, operation: 'or' },
      { offset: 6, width: 4, shift: 32, operation: 'or' },
    ] as const
    const options = { code, base: 0x7f0000400000n, runs: [{ start: 0, end: code.length }] }
    const table = RelocationTable.fromSites([{ kind: 'split', pieces }], options)
    const argv = [put('split.bin', code), '--table', put('split.json', JSON.stringify(table))]
    const { out } = await runCommand(['scan', ...argv])
    expect(out).toBe(`* +0x1      0x7f0000400001  split   -> 0x7f0000400010  code given, address exact
   +0x1     0x7f0000400001  bits 0 to 31  mov eax, 0x400010
   +0x6     0x7f0000400006  bits 32 to 63  mov edx, 0x7f00
`)
    const json = JSON.parse((await runCommand(['scan', ...argv, '--json'])).out)
    expect(json.fields[0].pieces[1]).toMatchObject({ shift: 32, instruction: 5, text: 'mov edx, 0x7f00' })
    const moved = await runCommand(['relocate', ...argv, '--to', '0x60_0000', '--dry-run'])
    expect(moved.out).toBe(`+0x1 split, code given, address exact
  - 0x7f0000400000  b810004000            mov eax, 0x400010
  - 0x7f0000400005  ba007f0000            mov edx, 0x7f00
  + 0x600000  b810006000            mov eax, 0x600010
  + 0x600005  ba00000000            mov edx, 0
`)
  })

  it('takes the sites from two dumps; their table is exact', async () => {
    put('b.bin', MOVED)
    const { code, out } = await scan(
      '--pair',
      path('b.bin'),
      '--pair-base',
      '0x480000',
      '--write-table',
      path('t.json'),
    )
    expect(code).toBe(0)
    expect(out).toMatch(/\* \+0xe .* code given, address exact +mov rbx, 0x400005\n/)
    const moved = await relocate(
      '--table',
      path('t.json'),
      '--evidence',
      'exact',
      '--to',
      '0x410000',
      '-o',
      path('c.bin'),
    )
    expect(moved.code).toBe(0)
    expect(get('c.bin').readBigUint64LE(14)).toBe(0x410005n)
    put('b.bin', BLOB)
    const unlike = await scan('--pair', path('a.bin'), '--pair-base', '0x400000')
    expect(unlike).toMatchObject({ code: 2, err: expect.stringContaining('two bases are needed') })
  })

  it('is quiet when its reader goes away', async () => {
    const gone = async (): Promise<void> => {
      throw new ReaderGone()
    }
    const { code, err } = await runCommand(['scan', path('a.bin'), '--base', '0x400000'], { print: gone })
    expect({ code, err }).toEqual({ code: 0, err: '' })
  })
})
