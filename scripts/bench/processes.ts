/** Fresh processes: the first call, and the command as it is built. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { analyze, relocate } from '../../src/index.ts'
import { checksum, median, type Result, race, type Settings } from './measure.ts'

const DIST = join(import.meta.dirname, '../../dist')
const COMMAND = join(DIST, 'cli/main.js')
const [FROM, TO] = [0x40_0000n, 0x50_0000n]

function spawn(program: string, argv: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(program, argv, { maxBuffer: 2 ** 31, encoding: 'latin1' })
  if (status !== 0) throw new Error(`${program} ${argv.join(' ')}: ${stderr}`)
  return stdout
}

/** What a fresh process measures: the first analyze and relocate, the library imported before. */
const FIRST_CALL = `
const [url, path] = process.argv.slice(1)
const { analyze, relocate } = await import(url)
const code = new Uint8Array((await import('node:fs')).readFileSync(path))
const start = process.hrtime.bigint()
const { bytes } = relocate(code, analyze(code, { base: ${FROM}n }), { to: ${TO}n })
const time = Number(process.hrtime.bigint() - start) / 1e6
console.log(JSON.stringify([time, Buffer.from(bytes).toString('hex')]))
`

function benchFirstCall(path: string, right: Uint8Array, { rounds }: Settings): Result {
  const index = pathToFileURL(join(DIST, 'index.js')).href
  const bare: number[] = []
  // What else the machine does shows in a few milliseconds more than in a whole command.
  const times = Array.from({ length: 5 * rounds }, () => {
    const began = performance.now()
    spawn(process.execPath, ['-e', '0'])
    bare.push(performance.now() - began)
    const output = spawn(process.execPath, ['--input-type=module', '--eval', FIRST_CALL, index, path])
    const [time, hex] = JSON.parse(output) as [number, string]
    if (hex !== Buffer.from(right).toString('hex')) throw new Error('The first call moves to other bytes.')
    return time
  })
  const time = median(times)
  const start = median(bare)
  return {
    work: 'first call on 4 KB in a fresh process, library already imported',
    unit: 'ms',
    value: time,
    floor: '10 ms',
    aim: '3 ms',
    medians: { 'analyze and relocate': time, 'node -e 0': start },
    note: `${(time / start).toFixed(3)} of node -e 0, which what slows the machine slows as much`,
  }
}

function benchCommand(path: string, right: Uint8Array, dir: string, settings: Settings): Result[] {
  const output = join(dir, 'moved.bin')
  const relocateWith =
    (...options: string[]) =>
    (): string => {
      const argv = [COMMAND, 'relocate', path, '--from', String(FROM), '--to', String(TO), '-o', output]
      spawn(process.execPath, [...argv, ...options])
      return checksum(readFileSync(output))
    }
  const medians = race(
    [
      { name: 'node -e 0', run: () => spawn(process.execPath, ['-e', '0']) },
      { name: '--no-verify', agrees: 'bytes', run: relocateWith('--no-verify') },
      { name: 'verified', agrees: 'bytes', run: relocateWith() },
      { name: 'expected', agrees: 'bytes', run: () => checksum(right) },
    ],
    settings,
  )
  const row = (name: string, floor: string, aim: string): Result => ({
    work: `command on 4 KB against node -e 0: ${name}`,
    unit: 'x',
    value: medians[name] / medians['node -e 0'],
    floor,
    aim,
    medians,
    note: '',
  })
  return [row('--no-verify', '2.0x', '1.5x'), row('verified', '3.0x', '2.0x')]
}

function benchLarge(text: Uint8Array, dir: string, settings: Settings): Result {
  const [path, output] = [join(dir, 'large.bin'), join(dir, 'large-moved.bin')]
  writeFileSync(path, text)
  const isThere = spawnSync('objdump', ['--version']).status === 0
  const contestants = [
    {
      name: 'command',
      run: () => {
        spawn(process.execPath, [
          COMMAND,
          'relocate',
          path,
          '--from',
          String(FROM),
          '--to',
          String(TO),
          '-o',
          output,
        ])
        return String(readFileSync(output).length)
      },
    },
    {
      name: 'objdump -d',
      run: () => {
        const lines = spawn('objdump', ['-D', '-b', 'binary', '-m', 'i386:x86-64', path]).length
        if (lines < 5 * text.length) throw new Error('objdump has not disassembled the text.')
        return String(lines)
      },
    },
  ]
  const medians = race(isThere ? contestants : contestants.slice(0, 1), settings)
  return {
    work: `command on ${(text.length / 1e6).toFixed(1)} MB of text, verified, against objdump -d of the same bytes`,
    unit: 'x',
    value: medians.command / medians['objdump -d'],
    floor: '0.4x',
    aim: '0.25x',
    medians,
    note: isThere ? '' : 'no objdump here',
  }
}

/** `small`: about 4 KB; `large`: 6 MB of text. */
export function benchProcesses(small: Uint8Array, large: Uint8Array, settings: Settings): Result[] {
  if (!existsSync(COMMAND)) throw new Error('The command is not built: npm run build.')
  const dir = mkdtempSync(join(tmpdir(), 'x64-reloc-bench-'))
  try {
    const path = join(dir, 'small.bin')
    writeFileSync(path, small)
    const right = relocate(small, analyze(small, { base: FROM }), { to: TO }).bytes
    return [
      benchFirstCall(path, right, settings),
      ...benchCommand(path, right, dir, settings),
      benchLarge(large, dir, { ...settings, short: true }),
    ]
  } finally {
    rmSync(dir, { recursive: true })
  }
}
