/**
 * Runs a `js` example of the README, given on stdin, in a process of its own; prints what it logs, a JSON
 * list of lines.
 */
import { readFileSync } from 'node:fs'
import { format } from 'node:util'
import * as library from '../../src/index.ts'

const logs: string[] = []
const log = (...values: unknown[]): void => {
  logs.push(format(...values))
}
const body = readFileSync(0, 'utf8')
const code = body.replace(/^import (\{.*\}) from '(.*)'$/gm, "const $1 = modules['$2']")
const AsyncFunction = (async () => {}).constructor as FunctionConstructor
await new AsyncFunction('modules', 'console', code)({ 'x64-reloc': library }, { log })
process.stdout.write(JSON.stringify(logs))
