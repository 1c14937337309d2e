/**
 * Makes a case that differs as simple as it can be and still differ: fewer prefixes, shorter bytes, a state of zeros.
 */
import { hexBytes } from '../../src/core/bytes.ts'
import type { NativeHarness } from '../../test/support/native/harness.ts'
import { type CpuState, GENERAL_REGISTERS } from '../../test/support/native/state.ts'
import { moveCase, type ReachCase } from './reach-case.ts'
import { templateOf } from './reach-cases.ts'
import { leaveBy } from './reach-places.ts'
import { describe, runCases, type Tamper } from './reach-run.ts'

/** A simpler case; undefined where there is none of that kind. */
type Step = (item: ReachCase) => ReachCase | undefined

const withState =
  (change: (state: CpuState) => void): Step =>
  (item) => {
    const state = item.state.clone()
    change(state)
    return { ...item, state }
  }

/** Without the byte at `i`, if it is a prefix: the instruction behind it stays one. */
const withoutPrefix =
  (i: number): Step =>
  (item) => {
    const { template, home, target, code, tail } = item
    const { bytes, at, kind, caseClass } = template
    if (i >= template.instruction.modrmOffset - 1 || template.reference !== undefined) return undefined
    const shorter = Uint8Array.from([...bytes.subarray(0, i), ...bytes.subarray(i + 1)])
    const field = new DataView(code.buffer).getInt32(at, true)
    try {
      const made = { ...templateOf(shorter, at - 1, kind, caseClass), caseClass }
      const moved = Uint8Array.from([...shorter, ...tail])
      const isRelative = kind === 'pc32' || kind === 'eip32'
      const value = isRelative ? Number(BigInt.asIntN(32, target - home.to - BigInt(shorter.length))) : field
      new DataView(moved.buffer).setInt32(at - 1, value, true)
      return { ...item, template: made, code: moved }
    } catch {
      return undefined
    }
  }

const withoutTail: Step = (item) => {
  const tail = leaveBy(0)
  return {
    ...item,
    tail,
    code: Uint8Array.from([...item.code.subarray(0, item.template.bytes.length), ...tail]),
  }
}

const STEPS: readonly Step[] = [
  withoutTail,
  (item) => ({ ...item, veneers: { redZone: item.veneers.redZone, scratch: item.veneers.scratch } }),
  (item) => ({ ...item, veneers: {} }),
  ...Array.from({ length: 8 }, () => withoutPrefix(0)),
  ...Array.from({ length: 4 }, (_, i) => withoutPrefix(i + 1)),
  (item) => ({ ...item, data: new Uint8Array(item.data.length) }),
  (item) => ({ ...item, stack: new Uint8Array(item.stack.length) }),
  withState((state) => {
    state.rflags = 0x202n
  }),
  withState((state) => {
    for (let i = 0; i < state.vectorCount; i++) state.setVector(i, new Uint8Array(state.vectorWidth))
  }),
  withState((state) => {
    for (let i = 0; i < 8; i++) state.x87(i).fill(0)
    state.x87Tags = 0
    state.x87Control = 0x37f
    state.mxcsr = 0x1f80
  }),
  withState((state) => {
    state.fsBase = 0n
    state.gsBase = 0n
  }),
  ...GENERAL_REGISTERS.filter((name) => name !== 'rsp').map((name) =>
    withState((state) => state.set(name, 0n)),
  ),
]

/** The simplest form of `item`, as text: its bytes at both places and what of the state is not zero. */
export async function reduceCase(harness: NativeHarness, item: ReachCase, tamper: Tamper): Promise<string> {
  let best = item
  let why = ''
  for (const step of [(same: ReachCase) => same, ...STEPS]) {
    const simpler = step(best)
    if (simpler === undefined) continue
    const [{ outcome }] = await runCases(harness, [simpler], tamper)
    if (outcome.what !== 'differs') continue
    best = simpler
    why = outcome.why
  }
  return `${why === '' ? describe(best, tamper(moveCase(best), best)) : why}; ${stateText(best)}`
}

function stateText({ state, data, stack }: ReachCase): string {
  const registers = GENERAL_REGISTERS.filter((name) => state.get(name) !== 0n)
  const values = registers.map((name) => `${name}=0x${state.get(name).toString(16)}`)
  const vectors = Array.from({ length: state.vectorCount }, (_, i) => i).filter((i) =>
    state.vector(i).some(Boolean),
  )
  return [
    ...values,
    `rflags=0x${state.rflags.toString(16)}`,
    ...vectors.map((i) => `vector${i}=${hexBytes(state.vector(i))}`),
    ...(data.some(Boolean) ? ['data random'] : []),
    ...(stack.some(Boolean) ? ['stack random'] : []),
  ].join(' ')
}
