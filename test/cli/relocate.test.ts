/**
 * The command relocate on a small blob, run as functions: exit codes, what is said, what is written and,
 * above all, what is not.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { statSync, symlinkSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  BLOB,
  FAR,
  FROM,
  files,
  get,
  MOVED,
  path,
  put,
  relocate,
  TO,
  useDirectory,
} from '../support/command.ts'
import { runCommand } from '../support/terminal.ts'

useDirectory()

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

  it('warns of a span that is hardly meant, and refuses one that passes the end of the addresses', async () => {
    const go = (to: readonly string[], span: string) =>
      relocate(...FROM, ...to, '--span', span, '-o', path('b.bin'))
    // Up to there the targets move along.
    expect(await go(TO, '0x8000001c')).toMatchObject({ code: 0, err: expect.not.stringContaining('--span') })
    const long = await go(TO, '0x8000001d')
    expect(long).toMatchObject({ code: 0, err: expect.stringMatching(/warning: .*points up to 0x8040001d/) })
    expect(get('b.bin').subarray(0, 5)).toEqual(BLOB.subarray(0, 5))
    expect(await go(['--to', '0xffff_ffff_8000_0000'], '0x8000_001d')).toMatchObject({
      code: 2,
      err: expect.stringContaining('passes the end of the address space'),
    })
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
