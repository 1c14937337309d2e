/**
 * What a fresh process loads: iced costs more than everything else together, and only verify and explanations need it.
 */
import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'

const SCRIPT = `
import { createRequire } from 'node:module'
import { analyze, copyRuns, move, relocate, sweep, verify } from './src/index.ts'
const { cache } = createRequire(process.cwd() + '/src/index.ts')
const isLoaded = () => Object.keys(cache).some((name) => name.includes('iced-x86'))
const code = Uint8Array.from(Buffer.from('e800100000488d05f4ff1f00c390', 'hex'))
const base = 0x400000n
const table = analyze(code, { base })
relocate(code, table, { to: 0x500000n })
sweep(code)
move(code, { from: base, to: 0x500000n, verify: false })
copyRuns(code, { base, to: 0x500000n, runs: Uint32Array.of(0, 5), places: Uint32Array.of(0), into: new Uint8Array(16) })
const before = isLoaded()
move(code, { from: base, to: 0x500000n })
console.log(JSON.stringify([before, isLoaded(), table.size]))
`

describe('a fresh process', () => {
  it('loads iced when something is verified, not before', () => {
    const argv = ['--import', 'tsx', '--input-type=module', '--eval', SCRIPT]
    const output = execFileSync(process.execPath, argv, { encoding: 'utf8', timeout: 60_000 })
    expect(JSON.parse(output)).toEqual([false, true, 2])
  })
})
