/**
 * Runs copied one by one must be what analyze and relocate make of each of them alone, and refused where those refuse.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { functionsOf } from '../../scripts/bench/functions.ts'
import { textOf } from '../../scripts/support/elf-text.ts'
import { copyRuns } from '../../src/edit/copy-runs.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { IcedCursor } from '../../src/x86/iced.ts'
import { bytes, codeOf } from '../support/bad-input.ts'

const BASE = 0x40_0000n

/** The table of a run by iced: every relative operand of it. */
function tableByIced(code: Uint8Array, base: bigint): RelocationTable {
  const cursor = new IcedCursor(code, { base })
  const sites: SiteInput[] = []
  for (let at = 0; at < code.length; at += cursor.length) {
    cursor.decode(at)
    const end = at + cursor.length
    if (cursor.isBranch) {
      const kind = ({ 1: 'pc8', 2: 'pc16', 4: 'pc32' } as const)[cursor.immediateSize as 1]
      sites.push({ offset: at + cursor.immediateOffset, kind, end })
    } else if (cursor.isIpRelative) sites.push({ offset: at + cursor.displacementOffset, kind: 'pc32', end })
  }
  cursor.dispose()
  return RelocationTable.fromSites(sites, { code, base })
}

describe('copyRuns', () => {
  const text =
    process.platform === 'linux' ? textOf(readFileSync(process.execPath)).slice(0, 600_000) : bytes('')

  it.skipIf(text.length === 0)('of functions and of prologues: what relocate makes of each alone', () => {
    const functions = functionsOf(text)
    expect(functions.length).toBeGreaterThan(1000)
    let [refused, sum] = [0, 0]
    for (const shortest of [Number.POSITIVE_INFINITY, 5]) {
      const runs = functions.map((end, i) => (i % 2 === 0 ? end : Math.min(end, functions[i - 1] + shortest)))
      const places = new Uint32Array(runs.length / 2)
      let room = 0
      for (let i = 0; i < places.length; i++) {
        places[i] = room
        room += runs[2 * i + 1] - runs[2 * i] + 16 + (i % 3)
      }
      const into = new Uint8Array(room)
      const to = BASE + 0x0123_4567n
      const copied = copyRuns(text, { base: BASE, runs, into, to, places })
      for (let i = 0; i < places.length; i++) {
        const start = runs[2 * i]
        const written = into.subarray(places[i], places[i + 1])
        const run = text.slice(start, Math.max(copied.ends[i], runs[2 * i + 1]))
        const base = BASE + BigInt(start)
        if (copied.ends[i] === start) {
          refused++
          expect(written.every((byte) => byte === 0)).toBe(true)
          continue
        }
        const { bytes: right } = relocate(run, tableByIced(run, base), { to: to + BigInt(places[i]) })
        if (Buffer.compare(written.subarray(0, run.length), right) !== 0)
          expect(written.subarray(0, run.length)).toEqual(right)
        expect(written.subarray(run.length).every((byte) => byte === 0)).toBe(true)
      }
      expect(copied.problems.length).toBe(Math.min(copied.refused, 20))
      sum += copied.refused
    }
    expect(refused).toBe(sum)
    expect(refused).toBeGreaterThan(5)
  })

  const one = (
    hex: string,
    to: bigint,
    { end = 5, base = BASE, room = 32, cpu = 'intel' as 'intel' | 'amd' } = {},
  ): string => {
    const code = bytes(hex)
    const into = new Uint8Array(room)
    const runs = Uint32Array.of(0, Math.min(end, code.length))
    const { ends, problems } = copyRuns(code, { base, runs, into, to, places: Uint32Array.of(0), cpu })
    if (ends[0] > 0) return Buffer.from(into.subarray(0, ends[0])).toString('hex')
    expect(into.every((byte) => byte === 0)).toBe(true)
    return problems[0].code
  }

  it.each([
    // A cut instruction is copied whole; a target in the run moves along, one behind it stays.
    ['push rbp; mov rax,[rip+0x10]', '55 48 8b 05 10 00 00 00', 0x40_0100n, '55488b0510ffffff'],
    ['jmp to itself', '90 90 90 eb fe', 0x40_0100n, '909090ebfe'],
    ['jmp to the end', '90 90 90 eb 00', 0x40_0010n, '909090ebf0'],
    ['jne too far', '90 90 90 75 10', 0x40_1000n, 'out-of-range'],
    ['call too far', 'e8 00 00 00 00', 0x1_0040_0000n, 'out-of-range'],
    ['no relative operand, at any distance', '48 83 ec 28 90', 0x7fff_0000_0000n, '4883ec2890'],
    ['nothing that decodes', '90 06 90 90 90', 0x41_0000n, 'undecodable'],
    ['the code ends within an instruction', '90 90 90 90 e8', 0x41_0000n, 'undecodable'],
    ['xbegin with 16 bits', '66 c7 f8 00 01', 0x40_0010n, '66c7f8f000'],
    ['lea eax,[eip+0x10], at any distance', '67 8d 05 10 00 00 00', 0x7000_0000_0008n, '678d0508004000'],
    ['lea eax,[eip+0] into the run', '67 8d 05 f9 ff ff ff', 0x41_0000n, '678d05f9ffffff'],
    ['the same, where EIP does not reach', '67 8d 05 f9 ff ff ff', 0x7000_0000_0000n, 'out-of-range'],
  ])('%s', (_, hex, to, expected) => {
    expect(one(hex, to)).toBe(expected)
  })

  it("AMD's 16-bit branches go to a fixed place", () => {
    expect(one('66 e9 10 00 90 90', 0x41_0000n, { cpu: 'amd' })).toBe('out-of-range')
  })

  it('does not write where there is no room, and refuses what makes no sense', () => {
    expect(one('90 90 90 90 90', 0x41_0000n, { room: 4 })).toBe('no-room')
    const code = bytes('90 90 90 90 90')
    const [runs, places] = [Uint32Array.of(0, 5), Uint32Array.of(0)]
    const right = { base: BASE, runs, into: new Uint8Array(5), to: 0n, places }
    for (const wrong of [
      { base: -1n },
      { to: 1.5 },
      { into: code },
      { into: [] as never },
      { runs: Uint32Array.of(0, 6) },
      { runs: Uint32Array.of(4, 3) },
      { runs: Uint32Array.of(0) },
      { runs: [0, 5] as never },
      { places: Uint32Array.of(6) },
    ])
      expect(codeOf(() => copyRuns(code, { ...right, ...wrong }))).toBe('bad-argument')
    expect(copyRuns(code, right).ends).toEqual(Uint32Array.of(5))
  })
})
