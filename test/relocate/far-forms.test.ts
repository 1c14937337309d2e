/**
 * Far forms that the fuzzer does not meet: two fields of one instruction, far calls that return, addresses
 * beside rsp, EIP, no register left.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hexBytes } from '../../src/core/bytes.ts'
import { move } from '../../src/move.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'
import type { NativeResult } from '../support/native/batch.ts'
import { exitAddress, NativeHarness, nativeAvailable, nativeReason } from '../support/native/harness.ts'
import { diffStates, type GeneralRegister } from '../support/native/state.ts'

const HOME = 0x1000_0000n
const DATA = 0x2000_0000n
const STACK = 0x4000_0000n
/** Below 4 GB, and farther from the data than 2 GB. */
const HIGH = 0xf000_0000n
const FAR = 0x7000_0000_0000n
const FAR_DATA = 0x6000_0000_0000n
const BESIDE_DATA = FAR_DATA - 0x1000_0000n
const PAGE = 4096

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))

interface Form {
  readonly text: string
  /** Fields and what they mean: a RIP-relative one where it says so, an immediate, an absolute displacement. */
  readonly sites: readonly SiteInput[]
  readonly registers?: Partial<Readonly<Record<GeneralRegister, bigint>>>
  /** 8-byte words of the data, by offset; `here` is the data's address. */
  readonly words?: (here: bigint) => Readonly<Record<number, bigint>>
  readonly to?: bigint
  /** Where the data goes; by default it stays. */
  readonly data?: bigint
}

function movedForm({ text, sites, to = FAR, data = DATA }: Form) {
  const code = Uint8Array.from([...bytes(text), ...leaveBy(0)])
  const table = RelocationTable.fromSites(sites, {
    code,
    base: HOME,
    runs: [{ start: 0, end: code.length - 8 }],
    moved: [{ start: DATA, length: PAGE }],
  })
  const also = data === DATA ? [] : [{ from: DATA, to: data, length: PAGE }]
  const moved = move(code, { from: HOME, to, also, table, veneers: true })
  expect(moved.verdict?.problems).toEqual([])
  expect(moved.verdict?.proved.veneers).toBe(1)
  const back = also.map(({ from, to: at, length }) => ({ from: at, to: from, length }))
  const home = relocate(moved.bytes, moved.table, { to: HOME, also: back })
  expect(hexBytes(home.bytes)).toBe(hexBytes(code))
  return { code, moved, to, data }
}

function leaveBy(index: number): Uint8Array {
  const code = new Uint8Array(14)
  code.set([0xff, 0x25])
  new DataView(code.buffer).setBigUint64(6, exitAddress(index), true)
  return code
}

/** Little-endian displacement of a RIP- or absolute field. */
const field = (value: bigint | number): string => {
  const word = new Uint8Array(4)
  new DataView(word.buffer).setInt32(0, Number(BigInt.asIntN(32, BigInt(value))), true)
  return hexBytes(word)
}
/** RIP-relative displacement to DATA + offset of an instruction that ends at `end`. */
const rip = (end: number, offset = 64): string => field(DATA + BigInt(offset) - HOME - BigInt(end))

describe.skipIf(!nativeAvailable)(`far forms, run ${nativeReason}`, () => {
  let harness: NativeHarness
  beforeAll(async () => {
    harness = await NativeHarness.start()
    for (const at of [DATA, FAR_DATA, STACK]) await harness.map(at, 2 * PAGE, 'rw')
    for (const at of [HOME, HIGH, FAR, BESIDE_DATA]) await harness.map(at, PAGE, 'rx')
  })
  afterAll(() => harness.close())

  /** Runs at home and away. */
  async function runForm(form: Form): Promise<readonly [NativeResult, NativeResult]> {
    const { code, moved, to, data } = movedForm(form)
    const run = (at: bigint, here: bigint, parts: readonly { at: bigint; bytes: Uint8Array }[]) => {
      const state = harness.newState()
      state.randomize(() => 0x1234_5678)
      state.set('rsp', STACK + 0x800n)
      for (const [name, value] of Object.entries(form.registers ?? {}))
        state.set(name as GeneralRegister, value)
      state.rip = at
      const memory = new Uint8Array(512)
      const view = new DataView(memory.buffer)
      for (const [offset, word] of Object.entries(form.words?.(here) ?? {}))
        view.setBigUint64(Number(offset), BigInt.asUintN(64, word), true)
      const stack = new Uint8Array(512).map((_, i) => i)
      return {
        state,
        writes: [
          ...parts.map((part) => ({ address: part.at, bytes: part.bytes })),
          { address: here, bytes: memory },
          { address: STACK + 0x800n - 256n, bytes: stack },
        ],
        reads: [
          { address: here, length: 512 },
          { address: STACK + 0x800n - 128n, length: 256 },
        ],
      }
    }
    const [a, b] = await harness.run([
      run(HOME, DATA, [{ at: HOME, bytes: code }]),
      run(to, data, [
        { at: to, bytes: moved.bytes },
        { at: moved.veneers!.at, bytes: moved.veneers!.bytes },
      ]),
    ])
    expect([a.end, a.exit]).toEqual(['exit', 0])
    expect([b.end, b.exit]).toEqual(['exit', 0])
    return [a, b]
  }

  const expectSame = ([a, b]: readonly [NativeResult, NativeResult]): void => {
    expect(diffStates(a.state, b.state)).toEqual([])
    expect(a.memory).toEqual(b.memory)
  }
  const both = (at: number, immediate: number): SiteInput[] => [
    { offset: at, kind: 'pc32', end: immediate + 4 },
    { offset: immediate, kind: 'abs32s' },
  ]
  const word = (result: NativeResult, offset: number): bigint =>
    new DataView(result.memory[0].buffer, result.memory[0].byteOffset).getBigUint64(offset, true)

  const far = { to: FAR, data: FAR_DATA }
  /** The RIP operand out of reach or not, its immediate always. */
  const places = [
    ['the operand goes along', { to: BESIDE_DATA, data: FAR_DATA }],
    ['both are out of reach', far],
  ] as const

  it.each(places)('two fields, %s: mov, add, cmp, test, imul', async (_, where) => {
    const immediate = field(DATA + 16n)
    const form = (head: string, words: Form['words'] = () => ({})): Form => {
      const at = bytes(head).length
      const text = `${head} ${rip(at + 8)} ${immediate}`
      return { text, sites: both(at, at + 4), words, ...where }
    }
    const [, moved] = await runForm(form('48 c7 05'))
    expect(word(moved, 64)).toBe(FAR_DATA + 16n)
    const [, added] = await runForm(form('48 81 05', () => ({ 64: 5n })))
    expect(word(added, 64)).toBe(FAR_DATA + 21n)
    // The same flags, as the data holds the address.
    expectSameFlags(await runForm(form('48 81 3d', (here) => ({ 64: here + 16n }))))
    expectSameFlags(await runForm(form('48 81 3d', (here) => ({ 64: here + 17n }))))
    expectSameFlags(await runForm(form('48 f7 05', () => ({ 64: 0n }))))
    const [, product] = await runForm(form('48 69 0d', () => ({ 64: 3n })))
    expect(product.state.get('rcx')).toBe(3n * (FAR_DATA + 16n))
  })

  const expectSameFlags = ([a, b]: readonly [NativeResult, NativeResult]): void =>
    expect(a.state.rflags).toBe(b.state.rflags)

  it('a far call comes back, by its veneer', async () => {
    // call far [rip+x]; jmp over the callee; mov ecx, 7; retf
    const text = `ff 1d ${rip(6)} eb 06 b9 07 00 00 00 cb`
    // Both call the one at home: the pointer stays.
    const words = (): Record<number, bigint> => ({ 64: (0x33n << 32n) | (HOME + 8n) })
    const [a, b] = await runForm({ text, sites: [{ offset: 2, kind: 'pc32' }], to: HIGH, words })
    expect(diffStates(a.state, b.state)).toEqual([])
    expect(b.state.get('rcx')).toBe(7n)
    expect(b.memory[1].subarray(128)).toEqual(a.memory[1].subarray(128))
  })

  it.each<[string, string, number, Partial<Record<GeneralRegister, bigint>>]>([
    // rsp is the index that it never should be: a displacement beside it, as far as the stack is from the data.
    ['mov rax, [rsp+x]', '48 8b 84 24', 4, {}],
    ['add [rsp+rcx*8+x], rdx', '48 01 94 cc', 4, { rcx: 2n }],
    ['xchg rsp, [rsp+x]', '48 87 a4 24', 4, {}],
    ['push [rsp+x]', 'ff b4 24', 3, {}],
    ['push word [rsp+x]', '66 ff b4 24', 4, {}],
    ['pop [rsp+x]', '8f 84 24', 3, {}],
  ])('beside rsp: %s', async (_, head, at, registers) => {
    const text = `${head} ${field(DATA + 64n - STACK - 0x800n)}`
    const sites: SiteInput[] = [{ offset: at, kind: 'abs32s', target: DATA + 64n }]
    const words = (): Record<number, bigint> => ({ 64: STACK + 0x900n, 72: 9n, 80: 11n })
    expectSame(await runForm({ text, sites, registers, words, ...far }))
  })

  it('every low register taken: cmpxchg16b beside base and index', async () => {
    // lock cmpxchg16b [rdi+rsi*8+DATA+64]
    const text = `f0 48 0f c7 8c f7 ${field(DATA + 64n)}`
    const sites: SiteInput[] = [{ offset: 6, kind: 'abs32s' }]
    for (const rax of [5n, 6n]) {
      const registers = { rdi: 16n, rsi: 2n, rax, rdx: 6n, rbx: 7n, rcx: 8n }
      const [a, b] = await runForm({ text, sites, registers, words: () => ({ 96: 5n, 104: 6n }), ...far })
      expectSame([a, b])
      expect(word(b, 96)).toBe(rax === 5n ? 7n : 5n)
    }
  })

  it('EIP-relative, the data gone above 4 GB: an access goes there, a lea is cut as ever', async () => {
    const site: SiteInput[] = [{ offset: 3, kind: 'eip32' }]
    const access = `67 8b 0d ${rip(7)}`
    expectSame(await runForm({ text: access, sites: site, words: () => ({ 64: 0x1234_5678n }), ...far }))
    const [, narrow] = await runForm({ text: `67 8d 0d ${rip(7)}`, sites: site, data: FAR_DATA + 0x1000n })
    expect(narrow.state.get('rcx')).toBe((FAR_DATA + 0x1040n) & 0xffff_ffffn)
    const wide = [{ offset: 4, kind: 'eip32' }] as const
    const [, long] = await runForm({ text: `67 48 8d 0d ${rip(8)}`, sites: wide, data: FAR_DATA + 0x1000n })
    expect(long.state.get('rcx')).toBe((FAR_DATA + 0x1040n) & 0xffff_ffffn)
  })
})
