/**
 * What only a process shows: pipes that close, standard input, exit codes. Run from source, as what is built
 * may be old.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const ROOT = join(import.meta.dirname, '../..')
const COMMAND = `"${process.execPath}" --import tsx src/cli/main.ts`
let directory: string

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
  // 20,000 calls of 0x600000: more lines than a pipe holds.
  const code = Buffer.alloc(100_000)
  for (let at = 0; at < code.length; at += 5) {
    code[at] = 0xe8
    code.writeInt32LE(0x200000 - at - 5, at + 1)
  }
  writeFileSync(join(directory, 'calls.bin'), code)
})
afterAll(() => rmSync(directory, { recursive: true }))

const shell = (line: string): { status: number | null; stdout: Buffer; stderr: string } => {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', line], {
    cwd: ROOT,
    env: { ...process.env, X: COMMAND, DIR: directory },
    timeout: 30_000,
  })
  return { status, stdout, stderr: stderr.toString() }
}

describe.skipIf(process.platform === 'win32')('as a process', () => {
  it('pipes bytes through unharmed', () => {
    const { status, stderr } = shell(
      'eval $X relocate - --from 0x400000 --to 0x500000 -o - <"$DIR/calls.bin" | eval $X move - --from 0x500000 --to 0x400000 -o - >"$DIR/back.bin"',
    )
    expect({ status, stderr: stderr.match(/verified:.*proved/g) }).toMatchObject({
      status: 0,
      stderr: [expect.stringContaining('20000 relative sites proved'), expect.anything()],
    })
    expect(readFileSync(join(directory, 'back.bin'))).toEqual(readFileSync(join(directory, 'calls.bin')))
  })

  it('ends quietly when the reader of its output goes away', () => {
    const { stdout, stderr } = shell(
      '{ eval $X scan "$DIR/calls.bin" --base 0x400000; echo "exit code $?" >&2; } | head -n 1',
    )
    expect(stdout.toString()).toMatch(/^\* \+0x1 .* call 0x600000\n$/)
    expect(stderr).toMatch(/exit code 0\n$/)
    expect(stderr).not.toMatch(/EPIPE|at .*\.ts/)
  })

  it.each([
    ['the command', 'process.stdout.write = () => { throw new TypeError("planted") }', 'TypeError: planted'],
    [
      'a callback',
      'process.stdout.write = () => setImmediate(() => { throw new RangeError("planted\\nlater") })',
      'RangeError: planted later',
    ],
    [
      'a callback, of no error',
      'process.stdout.write = () => setImmediate(() => { throw { planted: 1 } })',
      '{ planted: 1 }',
    ],
  ])('says of an exception, in %s, that it is a defect, without a line of source', (_, source, said) => {
    const preload = join(directory, 'preload.cjs')
    writeFileSync(preload, source)
    const { status, stdout, stderr } = shell(
      'export NODE_OPTIONS="--require $DIR/preload.cjs"; eval $X scan fixtures/near-text/from.bin --base 0',
    )
    expect({ status, out: stdout.length }).toEqual({ status: 3, out: 0 })
    const [first, ...places] = stderr.trimEnd().split('\n')
    expect(first).toBe(`x64-reloc: This is a defect of x64-reloc, please report it with these lines: ${said}`)
    for (const place of places) expect(place).toMatch(/^ {4}at /)
    expect(places.length > 0).toBe(said.includes('Error'))
  })

  it.each(['SIGINT', 'SIGTERM'] as const)(
    'leaves nothing behind when %s ends it before its output is read',
    async (signal) => {
      const work = mkdtempSync(join(directory, 'signal-'))
      const input = join(directory, 'large.bin')
      writeFileSync(input, new Uint8Array(1_000_000).fill(0x90).fill(0xc3, -1))
      const argv = `relocate ${input} --no-verify --from 0 --to 0x100000 -o - --write-table`.split(' ')
      const child = spawn(
        process.execPath,
        ['--import', 'tsx', 'src/cli/main.ts', ...argv, join(work, 't')],
        {
          cwd: ROOT,
          stdio: ['ignore', 'pipe', 'ignore'],
        },
      )
      // It waits for its reader.
      await once(child.stdout, 'readable')
      expect(readdirSync(work)).toEqual([expect.stringMatching(/^\.x64-reloc-.*\.tmp$/)])
      child.kill(signal)
      expect(await once(child, 'exit')).toEqual([null, signal])
      expect(readdirSync(work)).toEqual([])
    },
  )

  it('writes no file beside an output whose reader goes away', () => {
    const { stderr } = shell(
      '{ eval $X relocate "$DIR/calls.bin" --from 0x400000 --to 0x500000 -o - --write-table "$DIR/beside.json"; echo "exit code $?" >&2; } | head -c 1',
    )
    expect(stderr).toBe(
      'x64-reloc: Cannot write the output: its reader has gone. No file was written.\nexit code 2\n',
    )
    expect(readdirSync(directory)).not.toContain('beside.json')
  })

  it('takes a closed standard input, or a folder there, for no blob', () => {
    for (const input of ['<&-', '</tmp', '</dev/null']) {
      const { status, stderr } = shell(`eval $X relocate - --from 0 --to 1 -o "$DIR/x" ${input}`)
      expect({ status, stderr }).toEqual({
        status: 2,
        stderr: expect.stringMatching(/^x64-reloc: Cannot read .*standard input.*\.\n$/),
      })
    }
  })

  it('says what is wrong in a sentence', () => {
    const { status, stdout, stderr } = shell('eval $X relocate "$DIR/none" --from 0 --to 1 -o "$DIR/x"')
    expect({ status, out: stdout.length }).toEqual({ status: 2, out: 0 })
    expect(stderr).toBe(`x64-reloc: Cannot read the blob ${directory}/none: no such file or directory.\n`)
  })
})
