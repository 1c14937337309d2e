import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildRunner, RUNNER_FILE } from '../../../scripts/build-runner.ts'
import type { NativeCase } from './batch.ts'
import { exitAddress, NativeHarness, nativeAvailable, nativeReason } from './harness.ts'
import { HARNESS_RANGE } from './protocol.ts'
import { type CpuState, diffStates } from './state.ts'

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const CODE = 0x60000000n
const DATA = 0x7d0000000000n
const NOWHERE = 0x7c0000000000n

/** A small generator, so that a failure can be repeated. */
function random(seed: number): () => number {
  let x = seed
  return () => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return x >>> 0
  }
}

/** `jmp [rip+0]` and its address: leaves from anywhere, touching nothing. */
function leaveBy(index: number): Uint8Array {
  const code = new Uint8Array(14)
  code.set([0xff, 0x25])
  new DataView(code.buffer).setBigUint64(6, exitAddress(index), true)
  return code
}

describe.skipIf(!nativeAvailable)(`the native harness ${nativeReason}`, () => {
  let harness: NativeHarness

  beforeAll(async () => {
    harness = await NativeHarness.start()
    await harness.map(CODE, 4096, 'rx')
    await harness.map(DATA, 4096, 'rw')
  })
  afterAll(() => harness.close())

  const randomState = (seed: number): CpuState => {
    const state = harness.newState()
    state.randomize(random(seed))
    state.rip = CODE
    state.set('rsp', 0xdead_0000_0000_beefn) // not even canonical: nothing may use it
    return state
  }
  const code = (text: string, state: CpuState = randomState(1), exit = 0): NativeCase => ({
    state,
    writes: [
      { address: CODE, bytes: bytes(text) },
      { address: CODE + BigInt(bytes(text).length), bytes: leaveBy(exit) },
    ],
  })

  it('loads and stores the whole state: what the code leaves alone comes back', async () => {
    const cases = Array.from({ length: 200 }, (_, i) => code('90', randomState(i + 1), i))
    const results = await harness.run(cases)
    for (const [i, result] of results.entries()) {
      expect(diffStates(cases[i].state, result.state)).toEqual([])
      expect(result).toMatchObject({ end: 'exit', exit: i })
      expect(result.state.rip).toBe(exitAddress(i))
    }
  })

  it('sees what one instruction changes, and that alone', async () => {
    const changed = async (text: string): Promise<string[]> => {
      const given = code(text)
      const [result] = await harness.run([given])
      expect(result.end).toBe('exit')
      return diffStates(given.state, result.state).map(({ register }) => register)
    }
    expect(await changed('49 ff c7')).toEqual(['r15', 'rflags']) // inc r15
    expect(await changed('48 8d 64 24 f0')).toEqual(['rsp']) // lea rsp,[rsp-16]
    expect(await changed('fd')).toEqual(['rflags']) // std
    expect(await changed('66 0f ef db')).toEqual(['vector3']) // pxor xmm3,xmm3
    expect(await changed('d9 e0')).toEqual(['st0']) // fchs
    expect(await changed('d9 e8')).toContain('fsw') // fld1
    if (harness.features.includes('avx512f')) {
      expect(await changed('62 01 0d 40 ef f6')).toEqual(['vector30']) // vpxord zmm30,zmm30,zmm30
      expect(await changed('c5 ec 47 d2')).toEqual(['k2']) // kxorw k2,k2,k2
    }
  })

  it.each<[string, string, Partial<Record<'signal' | 'rip' | 'address', bigint | number>>]>([
    ['ud2', '90 0f 0b', { signal: 4, rip: CODE + 1n }],
    ['int3 (the address behind it)', 'cc', { signal: 5, rip: CODE + 1n }],
    ['division by zero', '31 c9 f7 f1', { signal: 8, rip: CODE + 2n }],
    [
      'a load from nowhere',
      '48 b8 00 00 00 00 00 7c 00 00 8b 18',
      { signal: 11, rip: CODE + 10n, address: NOWHERE },
    ],
    [
      'a jump to nowhere',
      '48 b8 00 00 00 00 00 7c 00 00 ff e0',
      { signal: 11, rip: NOWHERE, address: NOWHERE },
    ],
    ['a store into its own code', 'c6 05 00 00 00 00 00', { signal: 11, rip: CODE, address: CODE + 7n }],
    ['a privileged instruction', 'f4', { signal: 11, rip: CODE, address: 0n }],
    ['a push without a stack', '50', { signal: 7, rip: CODE }],
    [
      'a single step',
      '48 bc 00 08 00 00 00 7d 00 00 68 00 01 00 00 9d 90 90',
      { signal: 5, rip: CODE + 17n },
    ],
  ])('reports %s, with the registers as they were', async (_, text, { signal, rip, address }) => {
    const given = code(text)
    const [result] = await harness.run([given])
    expect(result).toMatchObject({ end: 'fault', signal, exit: -1 })
    expect(result.state.rip).toBe(rip)
    if (address !== undefined) expect(result.address).toBe(address)
    expect(diffStates(given.state, result.state).map(({ register }) => register)).not.toContain('vector0')
    expect(result.state.get('r12')).toBe(given.state.get('r12'))
  })

  it('goes on behind a case that faults, hangs, or takes the process with it', async () => {
    const good = code('48 ff c0')
    const rax = good.state.get('rax') + 1n
    const faulting = code('0f 0b')
    const hanging = code('eb fe')
    const ending = code('b8 e7 00 00 00 0f 05') // exit_group
    const order = [good, faulting, good, hanging, good, ending, faulting, good]
    const results = await harness.run(order, { timeout: 400 })
    expect(results.map(({ end }) => end)).toEqual([
      'exit',
      'fault',
      'exit',
      'hang',
      'exit',
      'died',
      'fault',
      'exit',
    ])
    for (const [i, result] of results.entries())
      if (order[i] === good) expect(result.state.get('rax')).toBe(rax)
  })

  it('runs what was written last, in one batch', async () => {
    const cases = Array.from({ length: 500 }, (_, i) =>
      code(
        `b8 ${i.toString(16).padStart(4, '0').slice(2)} ${i.toString(16).padStart(4, '0').slice(0, 2)} 00 00`,
      ),
    )
    const results = await harness.run(cases)
    expect(results.map(({ state }) => Number(state.get('rax')))).toEqual(cases.map((_, i) => i))
  })

  it('keeps calls apart that overlap in time', async () => {
    const value = (n: number): Promise<number[]> =>
      harness
        .run(Array.from({ length: 20 }, () => code(`b8 ${n.toString(16).padStart(2, '0')} 00 00 00`)))
        .then((results) => results.map(({ state }) => Number(state.get('rax'))))
    expect(await Promise.all([value(1), value(2), value(3)])).toEqual(
      [1, 2, 3].map((n) => new Array<number>(20).fill(n)),
    )
  })

  it('loads and stores memory around each case', async () => {
    const state = harness.newState()
    state.set('rdi', DATA)
    state.rip = CODE
    const one = (value: number): NativeCase => ({
      state,
      writes: [
        { address: DATA, bytes: Uint8Array.of(value, 0, 0, 0) },
        { address: CODE, bytes: bytes('83 07 05') }, // add dword [rdi],5
        { address: CODE + 3n, bytes: leaveBy(0) },
      ],
      reads: [
        { address: DATA, length: 4 },
        { address: CODE, length: 3 },
      ],
    })
    const results = await harness.run([one(1), one(250), one(2)])
    expect(results.map(({ memory }) => [...memory[0]])).toEqual([
      [6, 0, 0, 0],
      [255, 0, 0, 0],
      [7, 0, 0, 0],
    ])
    expect(results[0].memory[1]).toEqual(bytes('83 07 05'))
    expect(await harness.read(DATA, 1)).toEqual(Uint8Array.of(7))
    await expect(
      harness.run([{ state, writes: [{ address: DATA + 4095n, bytes: bytes('00 00') }] }]),
    ).rejects.toThrow(/not in one mapped region/)
  })

  it('calls C functions with arguments in registers and on the stack, rsp aligned as the ABI has it', async () => {
    await harness.write(
      CODE,
      // lea rax,[rdi+rsi]; add rax,rdx; add rax,rcx; add rax,r8; add rax,r9; add rax,[rsp+8]; sub rax,[rsp+16]; ret
      bytes('48 8d 04 37 48 01 d0 48 01 c8 4c 01 c0 4c 01 c8 48 03 44 24 08 48 2b 44 24 10 c3'),
    )
    expect(
      await harness.callFunction(CODE, [1n, 20n, 300n, 4000n, 50000n, 600000n, 7000000n, 10n ** 15n]),
    ).toBe(BigInt.asUintN(64, 7654321n - 10n ** 15n))
    await harness.write(CODE, bytes('48 89 e0 c3')) // mov rax,rsp; ret
    expect((await harness.callFunction(CODE)) % 16n).toBe(8n)
    await harness.write(CODE, bytes('0f 0b'))
    await expect(harness.callFunction(CODE)).rejects.toThrow(/SIGILL/)
  })

  it('sets segment bases for the case alone', async (context) => {
    if (!harness.features.includes('fsgsbase')) context.skip('no fsgsbase')
    const state = randomState(5)
    state.fsBase = DATA
    state.gsBase = DATA + 8n
    const given = code('64 48 8b 04 25 00 00 00 00 65 48 8b 1c 25 08 00 00 00', state) // mov rax,fs:[0]; mov rbx,gs:[8]
    const words = new Uint8Array(new BigUint64Array([11n, 22n, 33n]).buffer)
    const [result] = await harness.run([
      { ...given, writes: [...(given.writes ?? []), { address: DATA, bytes: words }] },
    ])
    expect([result.state.get('rax'), result.state.get('rbx')]).toEqual([11n, 33n])
    expect([result.state.fsBase, result.state.gsBase]).toEqual([DATA, DATA + 8n])
    expect(await harness.read(DATA, 1)).toEqual(Uint8Array.of(11))
  })

  it('never maps memory writable and executable, and unmaps', async () => {
    const mapped = (): { start: bigint; access: string }[] =>
      readFileSync(`/proc/${harness.pid}/maps`, 'utf8')
        .trim()
        .split('\n')
        .map((line) => ({ start: BigInt(`0x${line.split('-')[0]}`), access: line.split(' ')[1] }))
    const ours = mapped().filter(
      ({ start }) =>
        [CODE, DATA].includes(start) || (start >= HARNESS_RANGE.start && start < HARNESS_RANGE.end),
    )
    expect(ours.filter(({ access }) => access.startsWith('r-x')).length).toBeGreaterThanOrEqual(2)
    expect(ours.filter(({ access }) => /w.?x/.test(access))).toEqual([])
    await harness.unmap(DATA)
    expect(mapped().some(({ start }) => start === DATA)).toBe(false)
    const state = harness.newState()
    state.set('rdi', DATA)
    state.rip = CODE
    const [result] = await harness.run([code('8a 07', state)])
    expect(result).toMatchObject({ signalName: 'SIGSEGV', address: DATA })
    await harness.map(DATA, 4096, 'rw')
  })
})

const assembler = ((): string => {
  try {
    return execFileSync('as', ['--version'], { encoding: 'utf8' }).split('\n')[0]
  } catch {
    return ''
  }
})()

it.skipIf(assembler === '')(
  'the generated runner is what its source assembles to (skipped without GNU as)',
  () => {
    expect(readFileSync(RUNNER_FILE, 'utf8')).toBe(buildRunner())
  },
)
