/**
 * Branches of 8 and 16 bits to the outside, out of reach: served by jumps among spare bytes, and only by such
 * as nothing else uses.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { randomNumbers } from '../../scripts/fuzz/encodings.ts'
import { hexBytes } from '../../src/core/bytes.ts'
import { RelocError } from '../../src/core/errors.ts'
import { move } from '../../src/move.ts'
import { type Relocation, relocate } from '../../src/relocate/relocate.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { verify } from '../../src/verify/verify.ts'
import { exitAddress, NativeHarness, nativeAvailable, nativeReason } from '../support/native/harness.ts'
import { diffStates } from '../support/native/state.ts'

const HOME = 0x4000_0000_0000n
const FAR = 0x7000_0000_0000n
/** Of the branches: a leave by exit 1, not in the blob. */
const OUTSIDE = -16
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const exit = (index: number): string => {
  const address = new Uint8Array(8)
  new DataView(address.buffer).setBigUint64(0, exitAddress(index), true)
  return `ff 25 00 00 00 00 ${hexBytes(address)}`
}

/** `branch` to the outside at offset `at`; the last 8 bytes, where the blob leaves by an exit's address, are data. */
function blobOf(text: string, branchEnds: readonly number[], width: 1 | 2 = 1, others: SiteInput[] = []) {
  const code = bytes(text)
  const view = new DataView(code.buffer)
  for (const end of branchEnds)
    if (width === 1) view.setInt8(end - 1, OUTSIDE - end)
    else view.setInt16(end - 2, OUTSIDE - end, true)
  const kind = width === 1 ? 'pc8' : 'pc16'
  const sites = branchEnds.map((end): SiteInput => ({ offset: end - width, kind }))
  const table = RelocationTable.fromSites([...sites, ...others], {
    code,
    base: HOME,
    runs: [{ start: 0, end: code.length - 8 }],
  })
  return { code, table }
}

/** Moves far away, checks the move, and that the way back restores every byte. */
function far({ code, table }: ReturnType<typeof blobOf>, to = FAR): Relocation {
  const moved = move(code, { from: HOME, to, table, veneers: true })
  expect(moved.verdict?.problems).toEqual([])
  const kept = RelocationTable.fromJSON(JSON.parse(JSON.stringify(moved.table)))
  kept.check(moved.bytes)
  const packed = RelocationTable.fromBinary(moved.table.toBinary(moved.bytes), moved.bytes)
  expect(packed.toJSON()).toEqual(moved.table.toJSON())
  expect(hexBytes(relocate(moved.bytes, kept, { to: HOME }).bytes)).toBe(hexBytes(code))
  return moved
}

function refusal(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof RelocError && error.code === 'refused')
      return error.problems.map(({ message, remedy }) => `${message} ${remedy}`).join('; ')
    throw error
  }
  return expect.unreachable()
}

/** A branch, the way on to the end, a gap that nothing comes to, the end. */
const withGap = (branch: string, gap = INT3): string => {
  const size = bytes(gap).length
  return `${branch} 00  eb ${hexBytes(Uint8Array.of(size))}  ${gap}  ${exit(0)}`
}
const NOP7 = '0f 1f 80 00 00 00 00'
const INT3 = 'cc '.repeat(8)
/** A branch, and nops from 9 up to 16, to which a loop would go back. */
const aligning = (branch = '74'): string => {
  const rest = bytes(branch).length === 1 ? '48 89 c0' : '89 c0'
  return `${branch} 00 48 8d 49 01 ${rest} ${NOP7} f8 72 fd ${exit(0)}`
}

const hex = (text: string): string => text.replaceAll(' ', '')

describe('short branches out of reach', () => {
  it('share one island, and the positions say whose it is', () => {
    const moved = far(blobOf(`74 00 75 00 e3 00 eb 08 ${INT3} ${exit(0)}`, [2, 4, 6]))
    // Each to offset 8, from where a jump goes to a stub behind the blob.
    expect(hexBytes(moved.bytes, 0, 16)).toBe(hex('74 06 75 04 e3 02 eb 08 e9 13 00 00 00 cc cc cc'))
    expect(hexBytes(moved.veneers?.bytes ?? moved.bytes)).toBe(hex('3eff2501000000cc f0ffffffff3f0000'))
    expect(moved.positions.toOld(9)).toBe(0)
    expect(moved.positions.toOld(13)).toBe(13)
  })

  it('within 2 GB the island itself goes on to the target', () => {
    const { bytes: code, veneers } = far(blobOf(withGap('74'), [2]), HOME + 0x1000_0000n)
    expect(hexBytes(code, 0, 12)).toBe(hex('74 02 eb 08 e9 e7 ff ff ef cc cc cc'))
    expect(veneers?.bytes).toHaveLength(0)
  })

  it('nops that align what is branched to are jumped over', () => {
    const { bytes: code } = far(blobOf(aligning(), [2]))
    expect(hexBytes(code, 0, 16)).toBe(hex('74 09 48 8d 49 01 48 89 c0 eb 05 e9 20 00 00 00'))
  })

  it.each([
    [0x7fff_fffen, 0],
    [0x7fff_ffffn, 0],
    [0x8000_0000n, 16],
    [-0x7fff_ffffn, 0],
    [-0x8000_0000n, 0],
    [-0x8000_0001n, 16],
  ])(
    'an island that is %s bytes from the target goes there alone: %s bytes of veneers',
    (distance, length) => {
      // The island ends at 9.
      const { veneers } = far(blobOf(withGap('74'), [2]), HOME + BigInt(OUTSIDE) - distance - 9n)
      expect(veneers?.bytes).toHaveLength(length)
    },
  )

  it.each([
    ['nothing spare', withGap('74', '31 c0 31 c0 31 c0 31 c0')],
    ['less than a jump', withGap('74', 'cc cc cc cc')],
    ['one-byte nops', withGap('74', '90 '.repeat(12))],
    ["XRay's sled", `74 00 90 90 90  eb 09 66 0f 1f 84 00 00 02 00 00  ${exit(0)}`],
    ['nops that end nowhere in particular', `74 00  eb 07 ${NOP7}  ${exit(0)}`],
    ['the pad of a function', withGap('74').replace('ff 25', '8b ff ff 25')],
    ['int3 before nops', withGap('74', 'cc cc cc cc cc cc 66 90')],
    // 11: jmp over; 13: a function's own nop, up to an aligned address that nothing points at.
    ['the nop that a function begins with', `74 00 90 c3 48 8d 49 01 eb 07 c3 0f 1f 44 00 00 c3 ${exit(0)}`],
    ['endbr64 and nops', `74 00 90 c3 f3 0f 1e fa 90 ${NOP7}  ff c9 75 fc ${exit(0)}`],
    ['int3 that is run into', `74 00 ${INT3} ${exit(0)}`],
    ['nops that align nothing', `74 00 ${NOP7} ${NOP7} ${exit(0)}`],
    ['int3 that is branched to', `74 00 75 02 eb 08 ${INT3} ${exit(0)}`],
    ['int3 too far away', `74 00 ${'66 90 '.repeat(70)} eb 08 ${INT3} ${exit(0)}`],
  ])('%s is no room for a jump', (_, text) => {
    expect(refusal(() => far(blobOf(text, [2])))).toMatch(
      /pc8 field at 0x1 .*no spare bytes.*its 8 bits.*laid out anew/,
    )
  })

  it('what a pointer leads to is not spare', () => {
    const code = blobOf(withGap('74'), [2]).code
    new DataView(code.buffer).setBigUint64(code.length - 8, HOME + 4n, true)
    const pointer = { offset: code.length - 8, kind: 'abs64' } as const
    expect(refusal(() => far(blobOf(hexBytes(code), [2], 1, [pointer])))).toMatch(/no spare bytes/)
  })

  it('verify wants spare bytes that nothing comes to', () => {
    const judge = (text: string, change: (code: Uint8Array) => void): boolean => {
      const { code, table } = blobOf(text, [2])
      const moved = relocate(code, table, { to: FAR, veneers: true })
      change(moved.bytes)
      const moves = [{ from: HOME, to: FAR, length: code.length }]
      return verify(code, moved.bytes, { moves, claim: table, veneers: moved.veneers }).ok
    }
    expect(judge(withGap('74'), () => undefined)).toBe(true)
    expect(judge(withGap('74'), (code) => code.set([0x90], 10))).toBe(false)
    expect(judge(aligning(), () => undefined)).toBe(true)
    // Without the jump over it; with one that ends in it.
    expect(judge(aligning(), (code) => code.set([0x66, 0x90], 9))).toBe(false)
    expect(judge(aligning(), (code) => code.set([0x04], 10))).toBe(false)
  })
})

describe.skipIf(!nativeAvailable)(`short branches, run ${nativeReason}`, () => {
  let harness: NativeHarness
  beforeAll(async () => {
    harness = await NativeHarness.start()
    await harness.map(HOME - 4096n, 8192, 'rx')
    await harness.map(FAR, 4096, 'rx')
  })
  afterAll(() => harness.close())

  const conditions = Array.from({ length: 16 }, (_, i) => (0x70 | i).toString(16))
  const branches = [...conditions, 'e0', 'e1', 'e2', 'e3', '67 e3', '67 e0', '67 e2', '2e 75', '48 74', 'eb']

  it.each([
    ['over int3', (branch: string) => withGap(branch)],
    ['over nops', (branch: string) => aligning(branch)],
  ])(
    'leave where they left, with the same registers and flags, %s',
    async (_, make) => {
      const next = randomNumbers(1)
      const outside = { address: HOME + BigInt(OUTSIDE), bytes: bytes(exit(1)) }
      const runs = branches.flatMap((branch) => {
        const blob = blobOf(make(branch), [bytes(branch).length + 1])
        const moved = far(blob)
        const home = [{ address: HOME, bytes: blob.code }, outside]
        const away = [
          { address: FAR, bytes: moved.bytes },
          { address: moved.veneers!.at, bytes: moved.veneers!.bytes },
          outside,
        ]
        return Array.from({ length: 12 }, (_, i) => {
          const state = harness.newState()
          state.randomize(next)
          if (i < 9) state.set('rcx', [0n, 1n, 2n, 1n << 32n, (1n << 32n) + 1n, 5n][i % 6])
          return { branch, state, home, away }
        })
      })
      const cases = runs.flatMap(({ state, home, away }) => {
        const [here, there] = [state.clone(), state.clone()]
        here.rip = HOME
        there.rip = FAR
        return [
          { state: here, writes: home },
          { state: there, writes: away },
        ]
      })
      const results = await harness.run(cases, { timeout: 5000 })
      const exits = new Map<string, Set<number>>()
      for (const [i, { branch }] of runs.entries()) {
        const [a, b] = [results[2 * i], results[2 * i + 1]]
        expect([branch, a.end, b.end, b.exit]).toEqual([branch, 'exit', 'exit', a.exit])
        expect(diffStates(a.state, b.state)).toEqual([])
        exits.set(branch, (exits.get(branch) ?? new Set()).add(a.exit))
      }
      // All but jmp went both ways.
      expect([...exits].filter(([, both]) => both.size < 2).map(([branch]) => branch)).toEqual(['eb'])
    },
    30_000,
  )
})
