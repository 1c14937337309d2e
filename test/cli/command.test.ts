/** Command lines, right and wrong ones: exit codes, help, and that nothing is written that was not asked for. */
import { readFileSync, rmSync, statSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BLOB, files, path, put, useDirectory } from '../support/command.ts'
import { runCommand } from '../support/terminal.ts'

useDirectory()

describe('the command line', () => {
  it.each([
    [['relocate'], '<input> is missing.'],
    [['relocate', 'a', 'b', '--from', '0', '--to', '1', '-o', 'x'], '"b" is one argument too many'],
    [['relocate', 'a', '--from', '0', '-o', 'x'], '--to <address> is needed.'],
    [['relocate', 'package.json', '--to', '0', '-o', 'x'], '--from <address> is needed.'],
    [['relocate', 'a', '--from', '0', '--to', '1'], '--output <file> is needed (or --dry-run).'],
    [['relocate', 'a', '--from', '0', '--to', '1', '--to', '2', '-o', 'x'], '--to is given more than once.'],
    [['relocate', 'a', '--from'], '--from has no value;'],
    [
      ['relocate', 'a', '--from', '-1'],
      '--from has no value; one that begins with a dash follows an equals sign.',
    ],
    [['relocate', 'a', '--form', '0'], "Unknown option '--form', perhaps --from is meant."],
    [['relocate', 'a', '--zzz'], "Unknown option '--zzz'."],
    [['relocate', 'a', '--from', '0', '--to', '1', '-o', ''], '--output is empty.'],
    [['relocate', '', '--from', '0', '--to', '1', '-o', 'x'], '<input> is empty.'],
    [
      ['relocate', 'a', '--from', '0', '--to', '1', '-o', 'x', '--write-table', './x'],
      './x is asked for two outputs.',
    ],
    [['relocate', 'a', '--from', '0', '--to', '1', '-o', '/nowhere/x'], 'Cannot write /nowhere/x: no such'],
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
    const { code, out, err } = await runCommand(argv, { input: BLOB })
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
    process.chdir(path('.'))
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
