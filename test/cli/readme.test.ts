/**
 * README.md is generated as far as it shows output: every command of a `console` block and every example in a
 * `js` block is run in a directory of its own, and the text with what they say must be the text that is
 * there. After a change that is meant, `npx vitest run test/cli/readme.test.ts -u` writes it anew. A line
 * `...` stands for the lines between as many first and last ones.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { format } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { nativeUnavailable } from '../../src/heap/native/memory.ts'
import * as library from '../../src/index.ts'
import { runCommand } from '../support/terminal.ts'

const ROOT = join(import.meta.dirname, '../..')
const README = readFileSync(join(ROOT, 'README.md'), 'utf8')
const BLOCK = /^(?:.*`([\w.]+)`:\n\n)?```(\w+)\n([\s\S]*?)^```$/gm
let directory: string

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'x64-reloc-readme-'))
  symlinkSync(join(ROOT, 'fixtures'), join(directory, 'fixtures'))
  process.chdir(directory)
})
afterAll(() => {
  process.chdir(ROOT)
  rmSync(directory, { recursive: true })
})

/** A `console` block with what its commands say now. */
async function runConsole(body: string): Promise<string> {
  const parts = body.split(/^(?=\$ )/m).map((part) => /^\$ (.*)\n([\s\S]*)$/.exec(part)!)
  let text = ''
  for (const [, line, shown] of parts) {
    const [program, ...argv] = line.split(' ')
    expect(program).toBe('x64-reloc')
    const { code, both } = await runCommand(argv)
    text += `$ ${line}\n${abridged(code === 0 ? both : `${both}(exit code ${code})\n`, shown)}`
  }
  return text
}

/** `said` with as many lines left out in the middle as `shown` leaves out. */
function abridged(said: string, shown: string): string {
  const lines = said.split(/(?<=\n)/)
  const model = shown.split(/(?<=\n)/)
  const gap = model.indexOf('...\n')
  const [first, last] = [gap, model.length - 1 - gap]
  if (gap < 0 || first + last >= lines.length) return said
  return [...lines.slice(0, first), '...\n', ...lines.slice(lines.length - last)].join('')
}

const MODULES: Readonly<Record<string, unknown>> = {
  'x64-reloc': library,
  'node:fs': { readFileSync, writeFileSync },
}

/**
 * A `js` block with what its `console.log` lines say now; one that executes code runs in a process of its
 * own, where that is possible.
 */
async function runScript(body: string): Promise<string> {
  const isNative = body.includes('nativeMemory(')
  if (isNative && nativeUnavailable() !== undefined) return body
  const logs = isNative ? runInChild(body) : await runHere(body)
  const text = body.replace(/^( *console\.log\(.*\)) \/\/ .*$/gm, (_, call) => `${call} // ${logs.shift()}`)
  expect(logs).toEqual([])
  return text
}

async function runHere(body: string): Promise<string[]> {
  const logs: string[] = []
  const log = (...values: unknown[]): void => {
    logs.push(format(...values))
  }
  const code = body.replace(/^import (\{.*\}) from '(.*)'$/gm, "const $1 = modules['$2']")
  const AsyncFunction = (async () => {}).constructor as FunctionConstructor
  await new AsyncFunction('modules', 'console', code)(MODULES, { log })
  return logs
}

function runInChild(body: string): string[] {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const script = join(ROOT, 'test/support/readme-child.ts')
  const options = { input: body, encoding: 'utf8', timeout: 20_000 } as const
  return JSON.parse(execFileSync(process.execPath, ['--import', loader, script], options)) as string[]
}

it('README shows what happens', async () => {
  let text = ''
  let end = 0
  const seen = { console: 0, js: 0 }
  for (const match of README.matchAll(BLOCK)) {
    const [whole, file, language, body] = match
    if (language === 'json') writeFileSync(file, body)
    let now = body
    if (language === 'console') now = await runConsole(body)
    if (language === 'js') now = await runScript(body)
    if (language === 'console' || language === 'js') seen[language]++
    text += README.slice(end, match.index) + whole.replace(body, () => now)
    end = match.index + whole.length
  }
  expect(seen.console).toBeGreaterThan(4)
  expect(seen.js).toBeGreaterThan(1)
  await expect(text + README.slice(end)).toMatchFileSnapshot(join(ROOT, 'README.md'))
}, 30_000)

it('the npm commands that README names are there', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const named = [...README.matchAll(/npm run ([\w:]+)/g)].map((match) => match[1])
  expect(named).toContain('demo')
  for (const name of named) expect(Object.keys(scripts)).toContain(name)
})
