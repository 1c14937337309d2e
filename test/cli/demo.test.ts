import { expect, it } from 'vitest'
import { nativeUnavailable } from '../../src/heap/native/memory.ts'
import { runCommand } from '../support/terminal.ts'

it('the demo shows each of its parts, agrees with the linker, and runs', async () => {
  const { code, out, err } = await runCommand(['demo'])
  expect({ code, err }).toEqual({ code: 0, err: '' })
  const [, found, changed, verified, run] = out.split(/\n\n(?=Found|Changed|Verified|Run)/)
  expect(found).toMatch(/^Found\n\d+ sites that a move changes\n/)
  const parts = changed.split(/\n(?=\S.*:$)/m).slice(1)
  expect(parts).toHaveLength(3)
  for (const part of parts) expect(part).toMatch(/\n +- 0x5.*\n +\+ 0x7/)
  expect(verified).toMatch(/the linker's own output for 0x70000000 differs in 0 bytes$/)
  const reason = nativeUnavailable()
  if (reason === undefined)
    expect(run).toMatch(/^Run\n(\d+) of \1 calls return the same at 0x50000000 and 0x70000000:\n/)
  else expect(run).toBe(`Run\nskipped: ${reason}\n`)
}, 30_000)
