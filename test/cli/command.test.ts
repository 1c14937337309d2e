/**
 * The command on a small blob, run as functions: exit codes, what is said, what is written and, above all, what is not.
 *
 *   0x400000  call 0x500000          pc32, outside
 *   0x400005  lea rax, [0x400000]    inside: never changes
 *   0x40000c  mov rbx, 0x400005      abs64
 *   0x400016  mov ecx, [0x600000]    pc32, outside
 *   0x40001c  ret
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ReaderGone } from '../../src/cli/terminal.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { FIXTURES_FOLDER } from '../support/fixtures.ts'
import { runCommand, type Transcript } from '../support/terminal.ts'

const BLOB = Buffer.from('e8fbff0f00488d05f4ffffff48bb05004000000000008b0de4ff1f00c3', 'hex')
const MOVED = Buffer.from('e8fbff0700488d05f4ffffff48bb05004800000000008b0de4ff1700c3', 'hex')
const FROM = ['--from', '0x400000']
const TO = ['--to', '0x48_0000']
/** Out of reach for a rel32. */
const FAR = ['--to', '0x7f0000000000']

let directory: string
const path = (name: string): string => join(directory, name)
const put = (name: string, data: string | Uint8Array): string => {
  writeFileSync(path(name), data)
  return path(name)
}
const get = (name: string): Buffer => readFileSync(path(name))
const files = (): string[] => readdirSync(directory).sort()
const relocate = (...argv: string[]): Promise<Transcript> => runCommand(['relocate', path('a.bin'), ...argv])

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
  put('a.bin', BLOB)
})
const root = process.cwd()
afterEach(() => {
  process.chdir(root)
  rmSync(directory, { recursive: true })
})

describe('relocate', () => {
  it('writes the moved blob and says what it did', async () => {
    const { code, out, err } = await relocate(...FROM, ...TO, '-o', path('b.bin'))
    expect(err).toContain('29 bytes from 0x400000 to 0x480000\n3 sites that a move changes\n')
    expect(err).toMatch(
      / {2}pc32 +2 .*\n {2}abs64 +1 .*address range 1\nverified: 13 bytes kept, 2 relative sites/,
    )
    expect({ code, out }).toEqual({ code: 0, out: '' })
    expect(get('b.bin')).toEqual(MOVED)
    expect(files()).toEqual(['a.bin', 'b.bin'])
  })

  it('has an alias, and reads and writes - as the standard streams', async () => {
    const { code, output } = await runCommand(['move', '-', ...FROM, ...TO, '-o', '-'], { input: BLOB })
    expect(code).toBe(0)
    expect(Buffer.from(output)).toEqual(MOVED)
  })

  it('may write over its input', async () => {
    expect((await relocate(...FROM, ...TO, '-o', path('a.bin'))).code).toBe(0)
    expect(get('a.bin')).toEqual(MOVED)
  })

  it('keeps the mode of a file that it replaces, and replaces what a link leads to', async () => {
    writeFileSync(path('b.bin'), 'old', { mode: 0o640 })
    symlinkSync('b.bin', path('link'))
    expect((await relocate(...FROM, ...TO, '-o', path('link'))).code).toBe(0)
    expect(get('b.bin')).toEqual(MOVED)
    expect(statSync(path('b.bin')).mode & 0o777).toBe(0o640)
    expect(files()).toEqual(['a.bin', 'b.bin', 'link'])
  })

  it('does not replace what is no file', async () => {
    const { status } = spawnSync('mkfifo', [path('pipe')])
    if (status !== 0) return
    const reader = spawn('cat', [path('pipe')])
    const chunks: Buffer[] = []
    reader.stdout.on('data', (chunk) => chunks.push(chunk))
    const closed = once(reader, 'close')
    // Opening a pipe for writing waits for its reader.
    expect((await relocate(...FROM, ...TO, '-o', path('pipe'))).code).toBe(0)
    await closed
    expect(Buffer.concat(chunks)).toEqual(MOVED)
    expect(statSync(path('pipe')).isFIFO()).toBe(true)
  })

  it('refuses what cannot be right, names the instructions, and writes nothing', async () => {
    put('b.bin', 'old')
    const { code, err } = await relocate(
      ...FROM,
      ...FAR,
      '-o',
      path('b.bin'),
      '--write-table',
      path('t.json'),
    )
    expect(code).toBe(1)
    expect(err).toContain(
      'The move is refused, nothing was written:\nerror: +0x1 (0x400001) [fbff0f00]  call 0x500000: pc32',
    )
    expect(err).toContain('mov ecx, [rel 0x600000]')
    expect(get('b.bin').toString()).toBe('old')
    expect(files()).toEqual(['a.bin', 'b.bin'])
  })

  it('writes all outputs or none', async () => {
    put('b.bin', 'old')
    const { code, err } = await relocate(
      ...FROM,
      ...TO,
      '-o',
      path('b.bin'),
      '--write-table',
      path('no/t.json'),
    )
    expect({ code, err }).toEqual({
      code: 2,
      err: `x64-reloc: Cannot write ${path('no/t.json')}: no such file or directory.\n`,
    })
    expect(get('b.bin').toString()).toBe('old')
    expect(files()).toEqual(['a.bin', 'b.bin'])
  })

  it('lists what would change, and writes nothing, in a dry run', async () => {
    const { code, out } = await relocate(...FROM, ...TO, '--dry-run', '-o', path('b.bin'))
    expect(code).toBe(0)
    expect(out).toBe(`+0x1 pc32, code flow
  - 0x400000  e8fbff0f00            call 0x500000
  + 0x480000  e8fbff0700            call 0x500000
+0xe abs64, code flow, address range
  - 0x40000c  48bb0500400000000000  mov rbx, 0x400005
  + 0x48000c  48bb0500480000000000  mov rbx, 0x480005
+0x18 pc32, code flow
  - 0x400016  8b0de4ff1f00          mov ecx, [rel 0x600000]
  + 0x480016  8b0de4ff1700          mov ecx, [rel 0x600000]
`)
    expect(files()).toEqual(['a.bin'])
    expect((await relocate(...FROM, ...FAR, '--dry-run')).code).toBe(1)
  })

  it('reports as JSON, refusals too', async () => {
    const done = await relocate(...FROM, ...TO, '-o', path('b.bin'), '--json')
    expect(JSON.parse(done.out)).toMatchObject({
      ok: true,
      from: '0x400000',
      to: '0x480000',
      sites: 3,
      kinds: [
        { kind: 'pc32', count: 2 },
        { kind: 'abs64', count: 1, address: { range: 1 } },
      ],
      verdict: { ok: true, proved: { relative: 2, bytes: 13, instructions: 5 } },
    })
    const refused = await relocate(...FROM, ...FAR, '-o', path('b.bin'), '--json')
    expect(refused.code).toBe(1)
    expect(JSON.parse(refused.out)).toMatchObject({
      ok: false,
      error: 'refused',
      problems: [{ offset: 1, address: '0x400001', text: 'call 0x500000' }, { offset: 24 }],
    })
  })

  it('leaves sites on weak evidence alone where --evidence asks for more', async () => {
    const { code, err } = await relocate(...FROM, ...TO, '--evidence', 'exact', '-o', path('b.bin'))
    expect(code).toBe(0)
    expect(err).toContain('1 sites whose evidence is weaker than exact are left')
    expect(get('b.bin').subarray(14, 22)).toEqual(BLOB.subarray(14, 22))
  })

  it('moves other ranges at the same time with --also', async () => {
    const also = ['--also', '0x600000..0x600100=0x680000', '--also', '0x500000..0x500010=0x4f0000']
    expect((await relocate(...FROM, ...TO, ...also, '-o', path('b.bin'))).code).toBe(0)
    // Both sites moved by 0x80000: the load with its target, the call against a target that moved by -0x10000.
    expect(get('b.bin').readInt32LE(0x18)).toBe(BLOB.readInt32LE(0x18))
    expect(get('b.bin').readInt32LE(1)).toBe(BLOB.readInt32LE(1) - 0x80000 - 0x10000)
    const overlap = await relocate(...FROM, ...TO, '--also', '0x400010..0x500000=0x1000', '-o', path('c.bin'))
    expect(overlap.code).toBe(2)
    expect(overlap.err).toContain('overlap')
  })

  it('serves addresses of all 64 bits', async () => {
    const high = ['--from', '0xffff_ffff_8000_0000', '--to', '18446744071562068992']
    expect((await relocate(...high, '-o', path('b.bin'))).code).toBe(0)
    expect(get('b.bin').readInt32LE(1)).toBe(BLOB.readInt32LE(1) - 0x400)
  })
})

describe('tables and hints', () => {
  it.each(['b.json', 'b.tbl'])(
    'a written table (%s) serves the next move, and --from is then known',
    async (name) => {
      await relocate(...FROM, ...TO, '-o', path('b.bin'), '--write-table', path(name))
      expect(get(name).subarray(0, 4).toString()).toBe(name === 'b.tbl' ? 'X64T' : '{"fo')
      const next = ['relocate', path('b.bin'), '--table', path(name)]
      expect((await runCommand([...next, '--to', '0x400000', '-o', path('c.bin')])).code).toBe(0)
      expect(get('c.bin')).toEqual(BLOB)
      const elsewhere = await runCommand([...next, ...FROM, ...TO, '-o', path('d.bin')])
      expect(elsewhere.code).toBe(2)
      expect(elsewhere.err).toContain('The table describes the blob at 0x480000, not at 0x400000')
    },
  )

  it('a table of another blob, a damaged one and one that does not cover the move are refused', async () => {
    await runCommand(['scan', path('a.bin'), '--base', '0x400000', '--write-table', path('a.json')])
    const changed = Uint8Array.from(BLOB)
    changed[0] = 0xe9
    put('other.bin', changed)
    const other = await runCommand([
      'relocate',
      path('other.bin'),
      '--table',
      path('a.json'),
      ...TO,
      '-o',
      path('b.bin'),
    ])
    expect(other).toMatchObject({ code: 2, err: expect.stringContaining('belongs to another blob') })
    const also = ['--also', '0x500000..0x500010=0x4f0000']
    const uncovered = await relocate('--table', path('a.json'), ...TO, ...also, '-o', path('b.bin'))
    expect(uncovered).toMatchObject({ code: 1, err: expect.stringContaining('is not covered by this table') })
    put('bad.json', get('a.json').toString().replace('"span":29', '"span":-1'))
    const bad = await relocate('--table', path('bad.json'), ...TO, '-o', path('b.bin'))
    expect(bad).toMatchObject({
      code: 2,
      err: expect.stringContaining('The table is damaged: table.span is -1'),
    })
    expect(files()).not.toContain('b.bin')
  })

  it('hints are used; an unknown key is a warning, a wrong one an error', async () => {
    put('data.json', '{"ranges":[{"start":0,"end":29,"kind":"data"}],"rangs":[]}')
    const asData = await relocate(...FROM, ...TO, '--hints', path('data.json'), '-o', path('b.bin'))
    expect(asData).toMatchObject({ code: 0, err: expect.stringContaining('unknown key "rangs"') })
    expect(get('b.bin').subarray(0, 5)).toEqual(BLOB.subarray(0, 5))
    for (const [text, message] of [
      ['{', 'it is no JSON'],
      ['"\xff', 'it is no JSON'],
      ['[]', 'The hints are not an object'],
      ['null', 'The hints are not an object'],
      ['{"entries":["0x4"]}', 'entries[0] is "0x4": an entry is a whole number'],
      ['{"entries":[29]}', 'outside the blob'],
      ['{"ranges":[{"start":0,"end":30,"kind":"code"}]}', 'outside the blob'],
    ]) {
      put('bad.json', Buffer.from(text, 'latin1'))
      const bad = await relocate(...FROM, ...TO, '--hints', path('bad.json'), '-o', path('c.bin'))
      expect(bad).toMatchObject({ code: 2, err: expect.stringContaining(message) })
    }
    expect(files()).not.toContain('c.bin')
  })
})

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
})

describe('the command line', () => {
  it.each([
    [['relocate'], '<input> is missing.'],
    [['relocate', 'a', 'b', '--from', '0', '--to', '1', '-o', 'x'], '"b" is one argument too many'],
    [['relocate', 'a', '--from', '0', '-o', 'x'], '--to <address> is needed.'],
    [['relocate', 'package.json', '--to', '0', '-o', 'x'], '--from <address> is needed.'],
    [['relocate', 'a', '--from', '0', '--to', '1'], '--output <file> is needed (or --dry-run).'],
    [['relocate', 'a', '--from', '0', '--to', '1', '--to', '2', '-o', 'x'], '--to is given more than once.'],
    [['relocate', 'a', '--from'], "Option '--from <value>' argument missing."],
    [['relocate', 'a', '--form', '0'], "Unknown option '--form'."],
    [
      ['relocate', 'a', '--from', '0', '--to', '1', '-o', 'x', '--evidence', 'some'],
      '--evidence is "some": it is exact,',
    ],
    [
      ['relocate', 'a', '--from', '0', '--to', '1', '-o', 'x', '--write-table', 'x'],
      'x is asked for two outputs.',
    ],
    [
      ['relocate', 'a', '--from', '0', '--to', '1', '-o', '-', '--json'],
      'Standard output (-) is asked for two outputs.',
    ],
    [
      ['relocate', 'a', '--to', '1', '-o', 'x', '--table', 't', '--hints', 'h'],
      '--table and --hints contradict',
    ],
    [
      ['scan', '-', '--base', '0', '--pair', '-', '--pair-base', '1'],
      'Standard input (-) cannot be both the blob and the pair.',
    ],
    [
      ['relocate', '/nowhere', '--from', '0', '--to', '1', '-o', 'x'],
      'Cannot read the blob /nowhere: no such file or directory.',
    ],
    [
      ['relocate', '/', '--from', '0', '--to', '1', '-o', 'x'],
      'Cannot read the blob /: illegal operation on a directory.',
    ],
    [['scan', 'a', '--base', '0', '--pair-base', '0'], '--pair <file> is needed.'],
    [['verify', 'a', '--from', '0', '--to', '1'], '<after> is missing.'],
    [['explode'], '"explode" is no command; there are relocate, scan, verify'],
  ])('%j is wrong use', async (argv, message) => {
    const { code, out, err } = await runCommand(argv)
    expect(code).toBe(2)
    if (argv.includes('--json')) expect(JSON.parse(out)).toMatchObject({ ok: false, error: 'bad-argument' })
    else expect(out).toBe('')
    expect(err).toContain(`x64-reloc: ${message}`)
  })

  it('always ends with an exit code, never writes what was not asked for, and never has partial output', async () => {
    put('elf', readFileSync('fixtures/elf/static-400000.elf'))
    put('cut', readFileSync('fixtures/elf/static-400000.elf').subarray(0, 3000))
    put('hints', '{"entries":[0],"ranges":[{"start":0,"end":29,"kind":"code"}]}')
    await runCommand(['scan', path('a.bin'), '--base', '0x400000', '--write-table', path('table')])
    const before = files()
    const sizes = new Map(before.map((name) => [name, statSync(path(name)).size]))
    const good = [
      ['relocate', path('a.bin'), '--from', '0x400000', '--to', '0x480000', '-o', path('out')],
      ['move', path('a.bin'), '--table', path('table'), '--to', '0x7f0000000000', '-o', path('out')],
      [
        'relocate',
        path('elf'),
        '--image',
        '--to',
        '0x480000',
        '-o',
        path('out'),
        '--write-symbols',
        path('map'),
      ],
      ['relocate', '-', '--from', '0', '--to', '0x1000', '--hints', path('hints'), '--dry-run'],
      ['scan', path('a.bin'), '--base', '0x400000', '--write-table', path('out'), '--json'],
      [
        'verify',
        path('a.bin'),
        path('elf'),
        '--from',
        '0x400000',
        '--to',
        '0x480000',
        '--table',
        path('table'),
      ],
    ]
    const names = ['a.bin', 'elf', 'cut', 'hints', 'table', 'none', '.', 'out', 'no/out', 'a.bin/x']
    const words = [
      ...names.map(path),
      ...[
        '-',
        '',
        'x',
        '0x400000',
        '0xffff_ffff_ffff_fff0',
        '18446744073709551616',
        '29',
        'flow',
        'amd',
        '.text',
        'main',
      ],
      ...[
        '--from',
        '--to',
        '--base',
        '--pair',
        '--pair-base',
        '--span',
        '--hints',
        '--table',
        '-o',
        '--write-table',
      ],
      ...[
        '--write-symbols',
        '--also=0x500000..0x500010=0x600000',
        '--also=0x400000..0x400010=0',
        '--evidence',
        '--cpu',
      ],
      ...[
        '--decoder=iced',
        '--section',
        '--symbol',
        '--dry-run',
        '--no-verify',
        '--json',
        '--image',
        '--raw',
        '--help',
      ],
    ]
    const change = fc.record({
      at: fc.nat(12),
      remove: fc.nat(2),
      insert: fc.array(fc.constantFrom(...words), { maxLength: 2 }),
    })
    const line = fc
      .tuple(fc.constantFrom(...good), fc.array(change, { maxLength: 3 }))
      .map(([words, changes]) =>
        changes.reduce((argv, { at, remove, insert }) => argv.toSpliced(at, remove, ...insert), words),
      )
    const codes = new Map<number, number>()
    // A word alone is a name in the directory that the process is in.
    process.chdir(directory)
    await fc.assert(
      fc.asyncProperty(line, async (argv) => {
        const { code, err } = await runCommand(argv, { input: BLOB })
        codes.set(code, (codes.get(code) ?? 0) + 1)
        expect([0, 1, 2]).toContain(code)
        if (code !== 0 && !err.includes('\nnot verified: '))
          expect(err).toMatch(/^(x64-reloc: .*[.:]|Usage: .*)\n/)
        const added = files().filter((name) => !before.includes(name))
        const asked = added.filter((name) => argv.includes(path(name)) || argv.includes(name))
        expect(added).toEqual(code === 0 ? asked : [])
        for (const name of before) expect(statSync(path(name)).size).toBe(sizes.get(name))
        for (const name of added) rmSync(path(name))
      }),
      { numRuns: 800, seed: 20 },
    )
    for (const code of [0, 1, 2]) expect(codes.get(code)).toBeGreaterThan(30)
  })

  it('has help for everything, with examples that parse', async () => {
    const overview = await runCommand(['--help'])
    expect(overview.code).toBe(0)
    const names = [...overview.out.matchAll(/^ {2}([a-z]+) {2,}[A-Z]/gm)].map((match) => match[1])
    expect(names).toEqual(expect.arrayContaining(['relocate', 'scan', 'verify']))
    for (const name of names) {
      const help = await runCommand(['help', name])
      expect(help.code).toBe(0)
      expect(help).toEqual(await runCommand([name, '--help']))
      const examples = help.out.split('Examples:\n')[1].trim().split('\n')
      expect(examples[0]).toMatch(new RegExp(`^ *x64-reloc ${name}`))
      for (const example of examples) {
        const { err } = await runCommand([...example.trim().split(/\s+/).slice(1), '--help'])
        expect(err).toBe('')
      }
    }
    expect((await runCommand([])).code).toBe(2)
  })

  it('has the version of the package', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'))
    expect(await runCommand(['--version'])).toMatchObject({ code: 0, out: `${version}\n` })
  })
})
