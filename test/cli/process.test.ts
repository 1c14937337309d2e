/** What only a process shows: pipes that close, standard input, exit codes. Run from source, as what is built may be old. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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

  it('says what is wrong in a sentence', () => {
    const { status, stdout, stderr } = shell('eval $X relocate "$DIR/none" --from 0 --to 1 -o "$DIR/x"')
    expect({ status, out: stdout.length }).toEqual({ status: 2, out: 0 })
    expect(stderr).toBe(`x64-reloc: Cannot read the blob ${directory}/none: no such file or directory.\n`)
  })
})
