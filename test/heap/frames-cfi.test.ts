/** The heap computes where frames are from the code; compilers say it in .eh_frame. Both must be of one mind. */
import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { returnPoints } from '../../src/heap/frames.ts'
import { frameFunctions } from '../support/cfi.ts'

const RBP = 6
const RSP = 7

interface Comparison {
  /** Return points, those of them whose caller's frame the heap finds, and those where rbp leads there. */
  points: number
  found: number
  byRbp: number
  readonly wrong: string[]
}

function compare(path: string): Comparison {
  const result: Comparison = { points: 0, found: 0, byRbp: 0, wrong: [] }
  for (const { start, code, row } of frameFunctions(readFileSync(path))) {
    const entry = row(0)
    // Parts of functions that lie elsewhere are entered with a frame.
    if (entry?.register !== RSP || entry.offset !== 8) continue
    for (const [at, state] of returnPoints(code, [0])) {
      // The row of the call: what stands behind it may belong to another function.
      const said = row(at - 1)
      if (said === undefined || said.register < 0) continue
      result.points++
      const distance = said.register === RSP ? state.depth : state.base
      if (distance >= 0 || state.depth >= 0) result.found++
      if (said.register === RBP && distance >= 0) result.byRbp++
      const saved = said.savedRbp === undefined ? -1 : -said.savedRbp - 8
      const wrong =
        (distance >= 0 && distance !== said.offset - 8) ||
        (state.saved >= 0 && saved >= 0 && state.saved !== saved)
      if (wrong)
        result.wrong.push(`0x${(start + BigInt(at)).toString(16)}: ${JSON.stringify({ state, said })}`)
    }
  }
  return result
}

describe('frames as the compiler describes them', () => {
  it.each([
    ['gcc-O2-closed/from.elf', 12, 12],
    ['elf/pie-400000.elf', 10, 9],
    ['elf/static-400000.elf', 10, 9],
  ])('%s', (name, points, found) => {
    const { byRbp, ...rest } = compare(new URL(`../../fixtures/${name}`, import.meta.url).pathname)
    expect(rest).toEqual({ points, found, wrong: [] })
    expect(byRbp).toBe(0)
  })

  const libc = '/lib/x86_64-linux-gnu/libc.so.6'
  it.skipIf(!existsSync(libc))('thousands of functions of the C library, where it is there', () => {
    const { points, found, byRbp, wrong } = compare(libc)
    expect(wrong).toEqual([])
    expect(byRbp).toBeGreaterThan(100)
    expect(found / points).toBeGreaterThan(0.98)
  })
})
