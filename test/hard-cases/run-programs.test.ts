/**
 * Hard cases 1 to 8, 17, 19 to 23, 28 and 29, run: small programs where they were, near, and out of reach of
 * what they refer to, in several states. What no process can do is argued in the test's name, and shown byte
 * for byte in branches.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { randomNumbers } from '../../scripts/fuzz/encodings.ts'
import { hexBytes } from '../../src/core/bytes.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { formatInstruction } from '../../src/x86/iced.ts'
import { Instruction } from '../../src/x86/instruction.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'
import { NativeHarness, nativeAvailable, nativeReason } from '../support/native/harness.ts'
import {
  assemble,
  DATA,
  HOME,
  mapPrograms,
  PLACES,
  type RunOptions,
  runProgram,
} from '../support/run-program.ts'

const FAR = PLACES['100 GB away']
/** Carry, parity, zero, sign, overflow. */
const FLAGS = [0n, 0x1n, 0x4n, 0x40n, 0x80n, 0x800n, 0x880n, 0x8c5n]
const flagStates = FLAGS.map((rflags) => ({ rflags }))
const COUNTS = [0n, 1n, 2n, 1n << 32n, (1n << 32n) + 1n]
/** What loops and jrcxz look at. */
const counts = COUNTS.flatMap((rcx) => [
  { rcx, rflags: 0n },
  { rcx, rflags: 0x40n },
])

vi.setConfig({ testTimeout: 60_000 })

describe.skipIf(!nativeAvailable)(`programs, run ${nativeReason}`, () => {
  const next = randomNumbers(23)
  let harness: NativeHarness
  beforeAll(async () => {
    harness = await NativeHarness.start()
    await mapPrograms(harness)
  }, 30_000)
  afterAll(() => harness.close())

  /** Runs at every place; `exits`: how the runs of the states end, all of which have to be met. */
  async function runs(
    lines: readonly string[],
    options: RunOptions = {},
    exits?: readonly number[],
  ): Promise<void> {
    const program = assemble(lines, options.code)
    for (const [name, to] of Object.entries(PLACES)) {
      const { differences, runs } = await runProgram(harness, program, to, next, options)
      expect([name, differences]).toEqual([name, []])
      const met = new Set(runs.map(({ away }) => (away.end === 'exit' ? away.exit : away.signalName)))
      expect([...met].sort()).toEqual([...(exits ?? [0])].sort())
    }
  }

  const cases: readonly (readonly [string, readonly string[], RunOptions?, (readonly number[])?])[] = [
    [
      '1 jecxz by a jump out of reach: ecx counts, not rcx, so 2^32 is taken',
      ['67 e3 {near:8}', 'e9 {out1}', 'near: e9 {out2}'],
      { states: COUNTS.map((rcx) => ({ rcx })) },
      [1, 2],
    ],
    ...['e3', '67 e3', 'e2', '67 e2', 'e1', '67 e1', 'e0', '67 e0'].map(
      (opcode) =>
        [
          `2 ${opcode} taken and not taken, rcx 0 and 1 among them, flags kept`,
          [`${opcode} {near:8}`, 'e9 {out1}', 'near: e9 {out2}'],
          { states: counts },
          [1, 2],
        ] as const,
    ),
    ...['e3', '67 e3', 'e2', '67 e2', 'e1', '67 e1', 'e0', '67 e0', '74', 'eb'].map(
      (opcode) =>
        [
          `${opcode === '67 e3' ? 1 : 2} ${opcode} to the outside, out of any 8 bits' reach: through spare bytes`,
          [`${opcode} {end:8}`, 'e9 {out1}', 'cc cc cc cc cc cc cc cc'],
          { states: counts },
          opcode === 'eb' ? [0] : [0, 1],
        ] as const,
    ),
    [
      '3 e2 fe: loops on itself until rcx is 0',
      ['e2 fe', 'e9 {out1}'],
      { states: [{ rcx: 5n }, { rcx: 1n }] },
      [1],
    ],
    [
      '3 74 fe not taken; taken it never ends, like eb fe',
      ['74 fe', 'e9 {out1}'],
      { states: [{ rflags: 0n }] },
      [1],
    ],
    [
      '3 back to the first byte',
      ['first: ff c9', '75 {first:8}', '0f 84 {out1}'],
      { states: [{ rcx: 3n }] },
      [1],
    ],
    [
      '3 to the end, one past the last byte: it is outside, and what lies there stays',
      ['0f 84 {end}', 'e9 {out1}'],
      { states: flagStates },
      [0, 1],
    ],
    [
      '4 rel8 at -128 and +127 inside; nothing is ever expanded, so no chain can stop reaching',
      ['e9 {there}', `back: e9 {out1}`, ...Array.from({ length: 121 }, () => '90'), 'there: eb {back:8}'],
      {},
      [1],
    ],
    [
      '4 rel8 at +127 inside',
      ['eb {there:8}', ...Array.from({ length: 122 }, () => '90'), 'e9 {out2}', 'there: e9 {out1}'],
      {},
      [1],
    ],
    [
      '5 over an opcode byte: its second reading is no code',
      ['eb 01', 'b8', 'e8 {pc}', 'e9 {out1}'],
      {
        places: ['rax'],
        code: [
          { start: 0, end: 2 },
          { start: 3, end: 13 },
        ],
      },
      [1],
    ],
    [
      '5 into its own second byte, inc eax: both readings are code',
      ['eb ff', 'c0', 'e9 {out1}'],
      {
        code: [
          { start: 0, end: 2 },
          { start: 1, end: 8 },
        ],
      },
      [1],
    ],
    [
      '5 past a lock prefix, as glibc does',
      ['74 01', 'f0 48 0f c1 07', '0f 84 {out1}', 'e9 {out2}'],
      { states: [{ rdi: DATA }, { rdi: DATA + 8n, rflags: 0x40n }, { rdi: DATA, rax: 0n, rflags: 0x40n }] },
      [2],
    ],
    [
      '6 branch hints, REX before jcc',
      ['2e 0f 84 {out1}', '3e 0f 82 {out2}', '48 0f 88 {out3}', '3e 70 05', 'e9 {out1}', 'e9 {out2}'],
      { states: flagStates },
      [1, 2, 3],
    ],
    ['6 bnd call and jmp', ['f2 e8 {pc}', 'f2 e9 {out1}'], { places: ['rax'] }, [1]],
    ['6 notrack jmp rax stays what it is', ['48 8b 05 {data+248}', '3e ff e0'], {}, [1]],
    [
      '17 lea: of itself, the next instruction, a middle, the end of the blob',
      ['here: 48 8d 05 {here}', '48 8d 1d {mid}', 'mid: 48 8d 15 {mid+2}', 'e8 {pc}', 'e9 {out1}'],
      { places: ['rax', 'rbx', 'rdx'] },
      [1],
    ],
    [
      '17 literals inside the blob, data before and behind it',
      ['48 8b 05 {word}', '48 03 05 {data}', 'e9 {out1}', 'word: 88 77 66 55 44 33 22 11'],
      { code: [{ start: 0, end: 19 }] },
      [1],
    ],
    [
      '17 cmp that reads its own bytes',
      ['self: 81 3d {self} 81 3d f6 ff', '0f 84 {out1}', 'e9 {out2}'],
      {},
      [1],
    ],
    ['20 call $+5; pop: the new place', ['e8 {next}', 'next: 58', 'e9 {out1}'], { places: ['rax'] }, [1]],
    [
      '20 call into add [rsp], n; ret: goes on behind the call',
      ['e8 {thunk}', 'e9 {out2}', 'e9 {out1}', 'thunk: 48 83 04 24 05', 'c3'],
      {},
      [1],
    ],
    [
      '20 call to a thunk inside, and to one outside',
      ['e8 {thunk}', '48 89 c3', 'e8 {pc}', 'e9 {out1}', 'thunk: 48 8b 04 24', 'c3'],
      { places: ['rax', 'rbx'] },
      [1],
    ],
    [
      '21 call [rsp], call [rsp+d]; call rsp has no field, and wants a stack that is executable',
      ['ff 35 {data+248}', 'ff 14 24'],
      {},
      [1],
    ],
    ['21 call [rsp+78h]', ['48 8b 05 {data+248}', '48 89 44 24 78', 'ff 54 24 78'], {}, [1]],
    [
      '22 a callee that reads its return address',
      ['e8 {twice}', 'e9 {out1}'],
      { places: ['rax', 'rbx'] },
      [1],
    ],
    [
      '22 a callee that edits it: text behind the call',
      ['e8 {skip4}', '66 6f 6f 00', 'e9 {out1}'],
      {
        code: [
          { start: 0, end: 5 },
          { start: 9, end: 14 },
        ],
      },
      [1],
    ],
    [
      '22 setjmp and longjmp',
      ['48 8d 3d {data}', 'e8 {save}', '85 c0', '0f 85 {out1}', 'e9 {restore}'],
      {},
      [1],
    ],
    [
      '22 call [rip]: the return address is behind it, with rbx from the blob',
      ['48 8d 1d {here}', 'here: ff 15 {data+248}'],
      { places: ['rbx'], isFreeBelow: true },
      [1],
    ],
    ['23 endbr64 at the start', ['f3 0f 1e fa', 'e8 {pc}', 'e9 {out1}'], { places: ['rax'] }, [1]],
    [
      '28 encodings that others rewrite, among instructions that veneers replace',
      [
        '40 89 c8',
        'c4 e1 78 28 c1',
        '8b 05 {data}',
        '48 c1 e0 00',
        '83 c0 01',
        '81 c0 01 00 00 00',
        '88 c8',
        '8a c1',
        'f2 f3 0f 58 c1',
        '66 66 2e 0f 1f 84 00 00 02 00 00',
        'e9 {out1}',
      ],
      {},
      [1],
    ],
  ]
  it.each(cases.map((one) => [one[0], one] as const))('%s', async (_, [, lines, options, exits]) => {
    await runs(lines, options, exits)
  })

  it.each(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'])(
    '3 condition %s: rel8 inside, rel32 to the outside, in eight states of the flags',
    async (digit) => {
      const condition = Number.parseInt(digit, 16)
      const taken = condition === 10 ? 0x4n : condition === 11 ? 0n : undefined
      const states = [...flagStates, ...(taken === undefined ? [] : [{ rflags: taken }])]
      await runs(
        [`7${digit} {near:8}`, 'e9 {out1}', `near: 0f 8${digit} {out2}`, 'e9 {out3}'],
        { states },
        [1, 2],
      )
    },
  )

  it('4 rel32 at +-2^31: what reaches to the byte needs no veneer, one byte further it does', async () => {
    const program = assemble(['e9 {out1}'])
    const target = HOME + BigInt(new DataView(program.code.buffer).getInt32(1, true)) + 5n
    const veneersAt = (to: bigint): boolean =>
      relocate(program.code, program.table, { to, veneers: true }).veneers !== undefined
    const last = target - 5n - 0x7fff_ffffn
    const first = target - 5n + 0x8000_0000n
    expect([last, first].map(veneersAt)).toEqual([false, false])
    expect([last - 1n, first + 1n].map(veneersAt)).toEqual([true, true])
  })

  it('5 a jump into an instruction that a veneer would replace is refused', () => {
    const program = assemble(['eb 03', 'mid: 48 81 3d {data} 90 90 90 90', 'c3'])
    expect(() => relocate(program.code, program.table, { to: FAR, veneers: true })).toThrow(
      /inside the instruction/,
    )
  })

  it('6 66 before an indirect branch: the makers execute it differently, so out of reach it is refused', () => {
    // 66 e9 and 66 eb are in branches.test.ts: Intel ignores 66, AMD cuts the target.
    const program = assemble(['66 ff 15 {data}'])
    expect(() => relocate(program.code, program.table, { to: FAR, veneers: true })).toThrow(/differently/)
  })

  it('7 xbegin out of reach: the fallback address goes through a stub; where there is no TSX it faults alike', async () => {
    const program = assemble(['c7 f8 {out2}', '0f 01 d5', 'e9 {out1}'])
    const { differences, runs: all } = await runProgram(harness, program, FAR, next)
    expect(differences).toEqual([])
    const { veneers, bytes } = all[0].moved
    expect(formatInstruction(bytes, 0, FAR)).toBe(`xbegin 0x${veneers?.at.toString(16)}`)
    expect(formatInstruction(veneers?.bytes ?? bytes, 0, veneers?.at ?? 0n)).toMatch(/^notrack jmp qword/)
  })

  it('8 to the kernel half and across 0: no process can follow, but the literal is the target', () => {
    for (const target of [0xffff_ffff_ffff_f000n, 0xffff_8000_0000_0000n, 0x1000n]) {
      const code = Uint8Array.of(0xe9, 0, 0, 0, 0)
      const base = BigInt.asUintN(64, target - 0x10_0000n)
      new DataView(code.buffer).setInt32(1, 0x10_0000 - 5, true)
      const runs = [{ start: 0, end: 5 }]
      const table = RelocationTable.fromSites([{ offset: 1, kind: 'pc32' }], { code, base, runs })
      const { veneers } = relocate(code, table, { to: FAR, veneers: true })
      expect(new DataView(veneers!.bytes.buffer).getBigUint64(8, true)).toBe(target)
    }
  })

  it('19 a store into the blob: its place moved along, and its fault where the page is not writable is the same', async () => {
    const program = assemble(['c6 05 {hole} 90', 'e8 {pc}', 'e9 {out1}', 'hole: 90'])
    const { differences, runs: all } = await runProgram(harness, program, FAR, next)
    expect(differences).toEqual([])
    for (const { home, away } of all) {
      expect(home.signalName).toBe('SIGSEGV')
      expect(away.address - FAR).toBe(home.address - HOME)
    }
  })

  it('23 shadow stacks and IBT: veneers neither push nor return, calls are calls, direct jumps stay untracked', () => {
    const program = assemble([
      'e8 {pc}',
      'ff 15 {data+248}',
      '0f 84 {out1}',
      'ff 25 {data+248}',
      '3e ff 25 {data+248}',
    ])
    const { veneers, bytes } = relocate(program.code, program.table, { to: FAR, veneers: true })
    const code = hexBytes(veneers!.bytes)
    // Two direct stubs; two tracked jumps by [rsp-8] and one that was notrack.
    expect(code.match(/3eff25/g)?.length).toBe(2)
    expect(code.match(/ff6424f8/g)?.length).toBe(3)
    expect(code.match(/3eff6424f8/g)?.length).toBe(1)
    expect(formatInstruction(bytes, 0, FAR)).toMatch(/^call/)
    expect(formatInstruction(bytes, 5, FAR)).toMatch(/^call/)
    const end = 2 * Math.ceil(code.lastIndexOf('ff6424f8') / 2) + 8
    const decoder = createTableDecoder(veneers!.bytes)
    const instruction = new Instruction()
    for (let at = 0; 2 * at < end; at += decoder.decode(at, instruction))
      expect(formatInstruction(veneers!.bytes, at, 0n)).toMatch(/^(notrack )?(mov|jmp) /)
  })

  it('29 a fault in a veneer maps to the instruction that it stands for, and every offset there and back', async () => {
    // rdi is no address: the push goes through, the load through rip-relative data does, the store faults.
    const program = assemble(['48 8b 05 {data}', '48 89 07', '48 03 05 {data}', 'e9 {out1}'])
    const { runs: all } = await runProgram(harness, program, FAR, next, { states: [{ rdi: 0x10n }] })
    const [{ home, away, moved }] = all
    expect([home.signalName, away.signalName]).toEqual(['SIGSEGV', 'SIGSEGV'])
    expect(moved.positions.toOld(Number(away.state.rip - FAR))).toBe(Number(home.state.rip - HOME))
    for (let at = 0; at <= program.code.length; at++)
      expect(moved.positions.toOld(moved.positions.toNew(at))).toBe(at)
    // In the veneer itself: the operand is not there.
    const absent = assemble(['90', '48 0b 05 {data+0x2000}', 'e9 {out1}'])
    const [inside] = (await runProgram(harness, absent, FAR, next)).runs
    expect(inside.away.signalName).toBe('SIGSEGV')
    const at = Number(inside.away.state.rip - FAR)
    expect(at).toBeGreaterThan(absent.code.length)
    expect(inside.moved.positions.toOld(at)).toBe(1)
  })
})
