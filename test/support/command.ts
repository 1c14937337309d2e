/** What the tests of the command share: a small blob, and a directory of its own for each test. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import { runCommand, type Transcript } from './terminal.ts'

/**
 *   0x400000  call 0x500000          pc32, outside
 *   0x400005  lea rax, [0x400000]    inside: never changes
 *   0x40000c  mov rbx, 0x400005      abs64
 *   0x400016  mov ecx, [0x600000]    pc32, outside
 *   0x40001c  ret
 */
export const BLOB: Buffer = Buffer.from('e8fbff0f00488d05f4ffffff48bb05004000000000008b0de4ff1f00c3', 'hex')
export const MOVED: Buffer = Buffer.from('e8fbff0700488d05f4ffffff48bb05004800000000008b0de4ff1700c3', 'hex')
export const FROM: readonly string[] = ['--from', '0x400000']
export const TO: readonly string[] = ['--to', '0x48_0000']
/** Out of reach for a rel32. */
export const FAR: readonly string[] = ['--to', '0x7f0000000000']

let directory: string
/** A file of the test's directory, which has `a.bin`, the blob. */
export const path = (name: string): string => join(directory, name)
export const put = (name: string, data: string | Uint8Array): string => {
  writeFileSync(path(name), data)
  return path(name)
}
export const get = (name: string): Buffer => readFileSync(path(name))
export const files = (): string[] => readdirSync(directory).sort()
export const relocate = (...argv: string[]): Promise<Transcript> =>
  runCommand(['relocate', path('a.bin'), ...argv])

/** Gives each test of the file its directory. */
export function useDirectory(): void {
  const root = process.cwd()
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'x64-reloc-test-'))
    put('a.bin', BLOB)
  })
  afterEach(() => {
    process.chdir(root)
    rmSync(directory, { recursive: true })
  })
}
