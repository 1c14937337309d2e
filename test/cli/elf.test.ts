/** ELF files as input of the command: what the file says is used, and the result is what the linker writes. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { blobFromElf } from '../../src/elf/blob.ts'
import { readElf } from '../../src/elf/file.ts'
import { runCommand, type Transcript } from '../support/terminal.ts'

const ELF = join(import.meta.dirname, '../../fixtures/elf')
const program = (name: string): string => join(ELF, `${name}.elf`)
const linked = (name: string, choice = {}): { bytes: Buffer; base: string } => {
  const { bytes, base } = blobFromElf(readElf(new Uint8Array(readFileSync(program(name)))), choice)
  return { bytes: Buffer.from(bytes), base: `0x${base.toString(16)}` }
}
let directory: string
const path = (name: string): string => join(directory, name)
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

describe('relocate', () => {
  it.each([
    ['static', ['--image'], { image: true }],
    ['pie', ['--image'], { image: true }],
    ['packed', ['--image'], { image: true }],
    ['text', [], {}],
  ] as const)('%s %j: the bytes that the linker writes there, without --from', async (name, argv, choice) => {
    const there = linked(`${name}-7000000`, choice)
    const output = path(`${name}.bin`)
    const { code, err } = await runCommand([
      'relocate',
      program(`${name}-400000`),
      ...argv,
      '--to',
      there.base,
      '-o',
      output,
    ])
    expect({ code, err }).toMatchObject({
      code: 0,
      err: expect.stringMatching(/\nverified: .*exact \d+\)\n/),
    })
    expect(readFileSync(output)).toEqual(there.bytes)
    // An image begins like an ELF file, and is taken for what it is.
    const again = ['verify', program(`${name}-400000`), ...argv, output, '--to', there.base]
    expect((await runCommand(again)).code).toBe(0)
    expect(
      (await runCommand(['verify', program(`${name}-400000`), program(`${name}-7000000`), ...argv])).code,
    ).toBe(0)
  })

  it('one function; its table, the new place of its symbols, and back', async () => {
    const main = ['relocate', program('static-400000'), '--symbol', 'main', '--to', '0x400_0000']
    const files = [
      '-o',
      path('main.bin'),
      '--write-table',
      path('main.json'),
      '--write-symbols',
      path('main.map'),
    ]
    const { code, err } = await runCommand([...main, ...files])
    expect({ code, err }).toMatchObject({ code: 0, err: expect.stringContaining('(symbol main): ') })
    expect(readFileSync(path('main.map'), 'utf8')).toMatch(/^0000000004000000 T main\n/)
    const { bytes, base } = linked('static-400000', { symbol: 'main' })
    const back = [
      'relocate',
      path('main.bin'),
      '--table',
      path('main.json'),
      '--to',
      base,
      '-o',
      path('back.bin'),
    ]
    expect((await runCommand(back)).code).toBe(0)
    expect(readFileSync(path('back.bin'))).toEqual(bytes)
    expect((await runCommand([...main, '--dry-run', '--write-symbols', path('none')])).code).toBe(0)
    expect(readdirSync(directory)).not.toContain('none')
  })
})

describe('scan', () => {
  it('lists by the records, and by difference of two files', async () => {
    const { out } = await runCommand(['scan', program('static-400000'), '--symbol', 'main'])
    expect(out).toMatch(/^\* \+0x\w+ +0x4\w+ +pc32 +-> 0x4\w+ +code given +call 0x4\w+$/m)
    const image = ['scan', program('pie-400000'), '--image']
    const byRecords = await runCommand([...image, '--json'])
    const byPair = await runCommand([...image, '--json', '--pair', program('pie-7000000')])
    const sites = (json: string): unknown[] =>
      JSON.parse(json)
        .fields.filter((field: { changes: boolean }) => field.changes)
        .map(({ offset, kind }: { offset: number; kind: string }) => `${offset} ${kind}`)
    expect(sites(byRecords.out).length).toBeGreaterThan(20)
    expect(sites(byPair.out)).toEqual(sites(byRecords.out))
  })
})

describe('what is wrong is said in a sentence', () => {
  const file = program('static-400000')
  it.each([
    [['scan', file, '--section', '.none'], 2, 'has no section .none; it loads '],
    [['scan', file, '--section', '.text', '--image'], 2, '--section and --image contradict each other'],
    [['scan', file, '--base', '0x1000'], 2, 'is at 0x400180, --base says 0x1000. Leave --base out'],
    [['scan', file, '--span', '0x1000'], 2, 'the file says how long it is'],
    [['scan', file, '--raw'], 2, '--base <address> is needed'],
    [
      ['scan', 'README.md', '--base', '0', '--section', '.text'],
      2,
      '--section is for ELF files, and README.md is taken as raw bytes',
    ],
    [
      ['relocate', 'README.md', '--from', '0', '--to', '9', '--write-symbols', 'x', '-o', 'y'],
      2,
      '--write-symbols is for ELF files',
    ],
    [['verify', file, program('static-7000000')], 1, 'is not'],
  ] as const)('%j', async (argv, code, message) => {
    const result = await runCommand(argv)
    expect(result).toMatchObject({ code, err: expect.stringContaining(message) })
  })

  it('a damaged file writes nothing', async () => {
    const bytes = readFileSync(file)
    for (const [length, name] of [
      [20, 'head'],
      [100, 'cut'],
      [bytes.length - 1, 'tail'],
    ] as const) {
      writeFileSync(path(name), bytes.subarray(0, length))
      const { code, err } = await runCommand([
        'relocate',
        path(name),
        '--to',
        '0x1000',
        '-o',
        path('damaged'),
      ])
      expect({ code, err }).toMatchObject({
        code: 2,
        err: expect.stringMatching(/^x64-reloc: The ELF file .*\n$/),
      })
    }
    expect(readdirSync(directory)).not.toContain('damaged')
  })
})

describe('an object file', () => {
  const object = join(ELF, 'place.o')
  const symbols = (): string => {
    const file = path('symbols')
    writeFileSync(
      file,
      '0000000010200000 T outside_add\n0x10200100 D outside_values\n                 w missing\n',
    )
    return file
  }

  it('is placed where it shall be, or where it is said to be and then moved: the same bytes', async () => {
    const [direct, moved] = [path('direct.bin'), path('moved.bin')]
    const first = await runCommand(
      ['relocate', object, '--symbols', symbols(), '--to', '0x2000_0000', '-o', direct].concat([
        '--write-symbols',
        path('place.map'),
      ]),
    )
    expect(first).toMatchObject({
      code: 0,
      err: expect.stringMatching(/\(the object\): 856 bytes.*\nverified: /s),
    })
    const from = ['--from', '0x1000_0000', '--to', '0x2000_0000']
    const second = await runCommand(['relocate', object, '--symbols', symbols(), ...from, '-o', moved])
    expect(second.code).toBe(0)
    expect(readFileSync(moved)).toEqual(readFileSync(direct))
    expect(readFileSync(path('place.map'), 'utf8')).toContain('0000000020000020 T choose\n')
    expect((await runCommand(['verify', object, moved, '--symbols', symbols(), ...from])).code).toBe(0)
  })

  it('takes the global symbol of a name, not a local one, and of two global ones neither', async () => {
    const lines = [
      '10200000 T outside_add',
      '10200100 D outside_values',
      '30000000 t outside_add',
      '30000001 d outside_values',
    ]
    const run = async (name: string, text: readonly string[]): Promise<Transcript> => {
      writeFileSync(path('symbols'), text.join('\n'))
      return runCommand([
        'relocate',
        object,
        '--symbols',
        path('symbols'),
        '--to',
        '0x1000_0000',
        '-o',
        path(name),
      ])
    }
    expect((await run('plain', lines.slice(0, 2))).code).toBe(0)
    expect((await run('behind', lines)).code).toBe(0)
    expect((await run('before', [...lines].reverse())).code).toBe(0)
    for (const name of ['behind', 'before'])
      expect(readFileSync(path(name))).toEqual(readFileSync(path('plain')))
    expect(await run('none', [...lines, '10300000 W outside_add'])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/line 5 puts outside_add at 0x10300000, a line before at 0x10200000/),
    })
    // Two static functions of other files.
    expect(
      await run('none', ['1 t outside_add', '2 t outside_add', '1 t outside_add', lines[1]]),
    ).toMatchObject({
      code: 1,
      err: expect.stringContaining('symbol outside_add: it is not defined'),
    })
  })

  it.each([
    [
      ['--to', '0x1000_0000'],
      1,
      /The object file is not placed.*:\n.*outside_add: it is not defined.*--symbols/s,
    ],
    [['--to', '0x1000_0010', '--symbols', 'SYMBOLS'], 2, /multiple of 32/],
    [['--to', '0x1000_0000', '--symbol', 'choose'], 2, /placed whole/],
    [['--to', '0x1000_0000', '--symbols', object], 2, /line 1 is .*as nm prints them/],
  ])('%j: says what is wrong, and writes nothing', async (argv, exit, message) => {
    const before = readdirSync(directory)
    const words = argv.map((word) => (word === 'SYMBOLS' ? symbols() : word))
    const { code, err } = await runCommand(['relocate', object, ...words, '-o', path('none.bin')])
    expect({ code, err }).toEqual({ code: exit, err: expect.stringMatching(message) })
    expect(readdirSync(directory).filter((name) => name !== 'symbols')).toEqual(
      before.filter((name) => name !== 'symbols'),
    )
  })

  it('has addresses to be defined only in a file that is not linked', async () => {
    const { code, err } = await runCommand(['scan', program('static-400000'), '--symbols', symbols()])
    expect({ code, err }).toEqual({ code: 2, err: expect.stringMatching(/is for object files/) })
  })
})

const hasTools = ['as', 'ld.lld'].every((tool) => spawnSync(tool, ['--version']).status === 0)

describe.skipIf(!hasTools)('static programs of lld (skipped where as or ld.lld is missing)', () => {
  const SOURCE = `
        .globl _start, chosen
        .weak nobody
        .type chosen, @gnu_indirect_function
_start: call chosen
        call nobody
        ret
chosen: leaq real(%rip), %rax
        ret
real:   ret
`
  it.each([
    ['fixed', ['-static', '--emit-relocs']],
    ['position-independent', ['-pie', '--no-dynamic-linker']],
  ])('%s: what calls address 0, in code and in stubs, still does', async (name, options) => {
    writeFileSync(path('weak.s'), SOURCE)
    execFileSync('as', [path('weak.s'), '-o', path('weak.o')])
    const link = (base: string): string => {
      const output = path(`${name}-${base}`)
      execFileSync('ld.lld', [...options, `--image-base=${base}`, path('weak.o'), '-o', output])
      return output
    }
    const [here, there] = [link('0x400000'), link('0x7000000')]
    const moved = path(`${name}.bin`)
    const { code, err } = await runCommand(['relocate', here, '--image', '--to', '0x7000000', '-o', moved])
    expect({ code, err }).toEqual({ code: 0, err: expect.stringMatching(/\nverified/) })
    const image = blobFromElf(readElf(new Uint8Array(readFileSync(there))), { image: true })
    expect(new Uint8Array(readFileSync(moved))).toEqual(image.bytes)
  })
})
