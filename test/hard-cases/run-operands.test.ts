/**
 * Hard cases 9 to 18, run: each instruction where it was and at every distance, in the same random full
 * state, its operand out of reach or just within it. What this CPU lacks is followed by verification instead.
 * `npm run fuzz:reach` does the same with every encoding.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { randomNumbers } from '../../scripts/fuzz/encodings.ts'
import { makeCase } from '../../scripts/fuzz/reach-case.ts'
import { isHint, type Template, templateOf } from '../../scripts/fuzz/reach-cases.ts'
import { DISTANCES, mapReach } from '../../scripts/fuzz/reach-places.ts'
import { runCases } from '../../scripts/fuzz/reach-run.ts'
import { wrongBySymbols } from '../../scripts/fuzz/reach-symbolic.ts'
import { Memory } from '../../src/x86/instruction.ts'
import { parse } from '../support/hard-case.ts'
import { NativeHarness, nativeAvailable, nativeReason } from '../support/native/harness.ts'

/** `d` is the displacement. */
function template(pattern: string): Template {
  const [head, tail = ''] = pattern.split(/ d ?/)
  const at = parse(head).length
  const bytes = Uint8Array.from([...parse(head), 0, 0, 0, 0, ...parse(tail)])
  const { instruction } = templateOf(bytes, at, 'pc32', undefined)
  const kind =
    instruction.memory === Memory.rip ? 'pc32' : instruction.memory === Memory.eip ? 'eip32' : 'abs32s'
  const form = { pc32: 'rip', eip32: 'eip', abs32s: 'index' } as const
  return templateOf(bytes, at, kind, undefined, form[kind])
}

/** Random states at each distance. */
const STATES = 6

vi.setConfig({ testTimeout: 60_000 })

describe.skipIf(!nativeAvailable)(`operands out of reach, run ${nativeReason}`, () => {
  let harness: NativeHarness
  beforeAll(async () => {
    harness = await NativeHarness.start()
    await mapReach(harness)
  }, 30_000)
  afterAll(() => harness.close())

  it.each([
    ['9 cmp dword [rip+d], imm8: the displacement is not last', '83 3d d 07'],
    ['9 cmp dword [rip+d], imm32', '81 3d d 01 02 03 04'],
    ['9 mov dword [rip+d], imm32', 'c7 05 d 01 02 03 04'],
    ['9 cmp word [rip+d], imm16', '66 81 3d d 01 02'],
    ['9 test byte [rip+d], imm8', 'f6 05 d 20'],
    ['9 imul rax, [rip+d], imm32', '48 69 05 d 01 02 03 04'],
    ['9 bt dword [rip+d], imm8', '0f ba 25 d 07'],
    ['9 pcmpistri xmm0, [rip+d], imm8', '66 0f 3a 63 05 d 0c'],
    ['9 vpcmpistri xmm0, [rip+d], imm8', 'c4 e3 79 63 05 d 0c'],
    ['9 vblendvps xmm0, xmm1, [rip+d], xmm2: is4', 'c4 e3 71 4a 05 d 20'],
    ['10 REX.B that meant nothing: mov rax, [rip+d]', '49 8b 05 d'],
    ['10 REX.X and REX.B: add [rip+d], r9', '4f 01 0d d'],
    ['10 VEX.B inverted: vmovsd xmm0, [rip+d]', 'c4 c1 7b 10 05 d'],
    ['10 EVEX.X and B: vmovups zmm0, [rip+d]', '62 91 7c 48 10 05 d'],
    ['11 EIP-relative load from below 4 GB', '67 8b 05 d'],
    ['11 EIP-relative store with REX.W', '67 48 89 0d d'],
    ['12 fs: with RIP base is an offset', '64 48 8b 05 d'],
    ['12 gs: with RIP base is an offset', '65 48 03 05 d'],
    ['13 mul', 'f7 25 d'],
    ['13 div', '48 f7 35 d'],
    ['13 imul', '48 f7 2d d'],
    ['13 idiv byte', 'f6 3d d'],
    ['13 cmpxchg', '0f b1 0d d'],
    ['13 lock cmpxchg', 'f0 48 0f b1 0d d'],
    ['13 cmpxchg8b', '0f c7 0d d'],
    ['13 lock cmpxchg16b', 'f0 48 0f c7 0d d'],
    ['13 fxsave', '0f ae 05 d'],
    ['13 xsave, with edx:eax', '0f ae 25 d'],
    ['13 xrstor', '0f ae 2d d'],
    ['13 lgdt, which only the kernel may: its fault is the same', '0f 01 15 d'],
    ['13 mulx, with rdx', 'c4 e2 8b f6 0d d'],
    ['13 mulx into both scratch registers', 'c4 e2 f3 f6 05 d'],
    ['13 enqcmd', 'f2 0f 38 f8 05 d'],
    ['13 vmptrld, where there is no VMX', '0f c7 35 d'],
    ['14 push [rip+d] over a live red zone', 'ff 35 d'],
    ['14 pop [rip+d]: rsp rises before the store', '8f 05 d'],
    ['14 call [rip+d]', 'ff 15 d'],
    ['14 jmp [rip+d]', 'ff 25 d'],
    ['14 mov rsp, [rip+d]', '48 8b 25 d'],
    ['14 lea rsp, [rip+d]', '48 8d 25 d'],
    ['14 add rsp, [rip+d]', '48 03 25 d'],
    ['14 xchg rsp, [rip+d]', '48 87 25 d'],
    ['14 push word [rip+d]', '66 ff 35 d'],
    ['14 pop word [rip+d]', '66 8f 05 d'],
    ['15 lea rax', '48 8d 05 d'],
    ['15 lea eax: cut to 32 bits, zero-extended', '8d 05 d'],
    ['15 lea ax: 16 bits are merged', '66 8d 05 d'],
    ['15 lea with a segment that it ignores', '64 48 8d 05 d'],
    ['16 fld qword', 'dd 05 d'],
    ['16 fnstenv', 'd9 35 d'],
    ['16 addss', 'f3 0f 58 05 d'],
    ['16 movaps, 16 bytes aligned', '0f 28 05 d'],
    ['16 vmovsd', 'c5 fb 10 05 d'],
    ['16 vaddpd ymm', 'c5 f5 58 05 d'],
    ['16 vmovups zmm0{k1}, [rip+d]: masked', '62 f1 7c 49 10 05 d'],
    ['16 vmovups [rip+d]{k1}, zmm0: masked store', '62 f1 7c 49 11 05 d'],
    ['16 vaddps zmm0, zmm0, [rip+d]{1to16}: broadcast', '62 f1 7c 58 58 05 d'],
    ['16 vaddsd: disp8*N plays no part', '62 f1 ff 08 58 05 d'],
    ['16 vpgatherdd ymm0, [ymm1*4+d], ymm2', 'c4 e2 6d 90 04 8d d'],
    ['16 vpscatterdd [zmm17*4+d]{k1}, zmm3', '62 f2 7d 41 a0 1c 8d d'],
    ['18 lock xadd', 'f0 48 0f c1 05 d'],
    ['18 xchg, which locks by itself', '48 87 05 d'],
    ['18 lock inc byte', 'f0 fe 05 d'],
    ['18 movdir64b', '66 0f 38 f8 05 d'],
    ['18 movdiri', '0f 38 f9 05 d'],
    ['18 prefetcht0: nothing is accessed', '0f 18 0d d'],
    ['18 clflush', '0f ae 3d d'],
    ['18 nop dword', '0f 1f 05 d'],
  ])('%s', async (_, pattern) => {
    const next = randomNumbers(18)
    const made = template(pattern)
    const cases = DISTANCES.flatMap((distance) =>
      Array.from({ length: STATES }, () => makeCase(made, distance, () => harness.newState(), next)),
    )
    const ran = await runCases(harness, cases, undefined, next)
    expect(ran.filter(({ outcome }) => outcome.what === 'differs' || outcome.what === 'refused')).toEqual([])
    const isPrivileged = ran.every(({ outcome }) => outcome.what === 'faulted')
    if (isPrivileged) expect(wrongBySymbols(made)).toBeUndefined()
    else if (!isHint(made.instruction))
      expect(
        ran.filter(({ outcome }) => outcome.what === 'same' && outcome.changed).length / ran.length,
      ).toBeGreaterThan(0.8)
  })

  it('16 REX2 and APX (d5): iced knows none of it, so nothing claims to move it', () => {
    // REX2 before mov rax, [rip+d] decodes as nothing.
    expect(() => template('d5 08 8b 05 d')).toThrow(/is no instruction/)
  })
})
