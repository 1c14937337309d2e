/**
 * Runs cases of the reach fuzzer: the instruction where it was and where it was moved to, in the same state, and what differs afterwards.
 */
import { hexBytes } from '../../src/core/bytes.ts'
import { type Relocation, relocate } from '../../src/relocate/relocate.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { formatInstruction } from '../../src/x86/iced.ts'
import { Encoding } from '../../src/x86/instruction.ts'
import type { NativeCase, NativeResult } from '../../test/support/native/batch.ts'
import { exitAddress, type NativeHarness } from '../../test/support/native/harness.ts'
import { type CpuState, diffStates } from '../../test/support/native/state.ts'
import type { Template } from './reach-cases.ts'

/** Where operands lie; branches go to the target, which leaves by exit 1. */
const DATA = 0x4000_0000_0000n
const WINDOW = 2048
const TARGET: bigint = DATA + 0x10_0000n
const STACK = 0x3000_0000_0000n
const HOME: bigint = DATA - 0x20_0000n
/** `absolute`: the code, and its data, which moves as far as the data must to be out of a 32-bit field's reach. */
const LOW_HOME = 0x1000_0000n
const LOW_DATA = 0x2000_0000n
const PAGE = 4096
const EDGE = 1n << 31n

/** Where the code goes: the edges are within a page of the last address from which a displacement reaches. */
export const DISTANCES = {
  near: DATA - 0x30_0000n,
  below: DATA - EDGE,
  above: DATA + EDGE,
  far: DATA - 100n * (1n << 30n),
  farthest: 0x7e00_0000_0000n,
} as const
export type Distance = keyof typeof DISTANCES

export interface ReachCase {
  readonly template: Template
  readonly distance: Distance
  readonly home: bigint
  readonly to: bigint
  readonly target: bigint
  readonly code: Uint8Array
  readonly state: CpuState
  readonly data: Uint8Array
  readonly stack: Uint8Array
}

export type Outcome =
  | { readonly what: 'same'; readonly changed: boolean }
  | { readonly what: 'faulted' }
  | { readonly what: 'refused' | 'differs'; readonly why: string }

/** May change what a move made, to see that it is found. */
export type Tamper = (moved: Relocation, item: ReachCase) => Relocation

export async function mapReach(harness: NativeHarness): Promise<void> {
  await harness.map(DATA, 4 * PAGE, 'rw')
  await harness.map(LOW_DATA, 4 * PAGE, 'rw')
  await harness.map(TARGET, PAGE, 'rx')
  await harness.map(STACK, 4 * PAGE, 'rw')
  await harness.map(HOME, 2 * PAGE, 'rx')
  await harness.map(LOW_HOME, 2 * PAGE, 'rx')
  for (const at of Object.values(DISTANCES)) await harness.map(at, 2 * PAGE, 'rx')
  // Branches go further than data, by as much as their target lies further up.
  for (const at of [DISTANCES.below, DISTANCES.above])
    await harness.map(at + (TARGET - DATA) - BigInt(PAGE), 2 * PAGE, 'rx')
  await harness.write(TARGET, leaveBy(1))
}

/** `jmp [rip]` and the address of an exit: leaves from anywhere, touching nothing. */
function leaveBy(index: number): Uint8Array {
  const code = new Uint8Array(14)
  code.set([0xff, 0x25])
  new DataView(code.buffer).setBigUint64(6, exitAddress(index), true)
  return code
}

/** A case of `template` at `distance`: random state, data, place of the operand. */
export function makeCase(
  template: Template,
  distance: Distance,
  harness: NativeHarness,
  next: () => number,
): ReachCase {
  const absolute = template.caseClass === 'absolute'
  const home = absolute ? LOW_HOME : HOME
  const data = randomBytes(WINDOW, next)
  const state = harness.newState()
  state.randomize(next)
  state.set('rsp', STACK + 0x1000n + BigInt(next() & 0xff8) - (next() % 8 === 0 ? BigInt(next() & 7) : 0n))
  const operand = 64 + (next() & 0x1ff & -alignment(template))
  prepare(template, state, data, operand)
  const { bytes, at, tail } = template
  const code = new Uint8Array(bytes.length + 14)
  code.set(bytes)
  code.set(leaveBy(0), bytes.length)
  const [base, segment] = [absolute ? LOW_DATA : DATA, BigInt(next() & 0x3f0)]
  let target = base + BigInt(operand)
  if (template.caseClass === 'branch') target = TARGET
  else if (template.segment !== undefined && template.caseClass !== 'lea') {
    if (template.segment === 'fs') state.fsBase = segment
    else state.gsBase = segment
    target -= segment
  }
  const view = new DataView(code.buffer)
  view.setInt32(at, Number(absolute ? target : target - home - BigInt(at + 4 + tail)), true)
  // Just so many bytes behind the page's start that the displacement is at the edge, one side or the other.
  const near = DISTANCES[distance]
  const by = distance === 'below' || distance === 'above' ? target - base - BigInt(at + 4 + tail) : 0n
  const shift = by + BigInt((next() % 5) - 2)
  const to = near + (shift > 0n ? shift : 0n)
  return { template, distance, home, to, target, code, state, data, stack: randomBytes(512, next) }
}

const randomBytes = (length: number, next: () => number): Uint8Array => {
  const bytes = new Uint8Array(length)
  const words = new Uint32Array(bytes.buffer)
  for (let i = 0; i < words.length; i++) words[i] = next()
  return bytes
}

function alignment({ caseClass, encoding, map }: Template): number {
  if (caseClass === 'lock') return 16
  return map > 0 || encoding !== Encoding.legacy || caseClass === 'absolute' ? 64 : 1
}

/** Operands that do not fault: a quotient that fits, masked exceptions, a target to go to. */
function prepare(
  { opcode, map, reg, register, isByte, branch }: Template,
  state: CpuState,
  data: Uint8Array,
  at: number,
): void {
  const view = new DataView(data.buffer)
  if (branch !== undefined) view.setBigUint64(at, TARGET, true)
  if (map === 0 && (opcode === 0xf6 || opcode === 0xf7) && reg >= 6) {
    if (isByte) state.set('rax', state.get('rax') & 0xffff_ffff_ffff_003fn)
    else {
      state.set('rax', state.get('rax') & 0x7fff_ffff_7fff_7fffn)
      state.set('rdx', 0n)
    }
    data[at] |= 0x40
    data[at] &= 0x7f
    data[at + 1] |= 1
    data[at + 3] |= 1
  }
  if (map === 0 && (opcode === 0xd9 || opcode === 0xdd) && (reg === 4 || reg === 5)) {
    data[at] |= 0x3f
    view.setUint16(at + 4, 0, true)
  }
  // A bit string: the register says how far from the operand.
  if (map === 1 && [0xa3, 0xab, 0xb3, 0xbb].includes(opcode) && register !== 4)
    state.set(register, state.get(register) & 0x7fn)
  if (map === 1 && opcode === 0xae && reg === 2)
    view.setUint32(at, 0x1f80 | ((data[at] << 13) & 0x6000), true)
}

/** The move of a case. Throws `refused`. */
export function moveCase({ template, home, to, code }: ReachCase): Relocation {
  const { at, tail, bytes, caseClass } = template
  const absolute = caseClass === 'absolute'
  const runs = [{ start: 0, end: bytes.length + 6 }]
  const site = absolute
    ? ({ offset: at, kind: 'abs32s' } as const)
    : ({ offset: at, kind: 'pc32', end: at + 4 + tail } as const)
  const moved = absolute ? [{ start: LOW_DATA, length: 4 * PAGE }] : []
  const table = RelocationTable.fromSites([site], { code, base: home, runs, moved })
  const also = absolute ? [{ from: LOW_DATA, to: DATA, length: 4 * PAGE }] : []
  return relocate(code, table, { to, also, veneers: true })
}

/** Runs cases, each at both places, and compares. */
export async function runCases(
  harness: NativeHarness,
  cases: readonly ReachCase[],
  tamper: Tamper = (moved) => moved,
): Promise<Outcome[]> {
  const moves = cases.map((item): Relocation | string => {
    try {
      return tamper(moveCase(item), item)
    } catch (error) {
      return (error as Error).message
    }
  })
  const runs: NativeCase[] = []
  for (const [i, item] of cases.entries()) {
    const moved = moves[i]
    if (typeof moved === 'string') continue
    const absolute = item.template.caseClass === 'absolute'
    runs.push(nativeCase(item, item.home, absolute ? LOW_DATA : DATA, item.code, undefined))
    runs.push(nativeCase(item, item.to, DATA, moved.bytes, moved.veneers))
  }
  const results = await harness.run(runs, { timeout: 5000 })
  let n = 0
  return cases.map((item, i): Outcome => {
    const moved = moves[i]
    if (typeof moved === 'string') return { what: 'refused', why: `${describe(item)}: ${moved}` }
    const [a, b] = [results[n], results[n + 1]]
    n += 2
    return compare(item, moved, a, b)
  })
}

function nativeCase(
  item: ReachCase,
  at: bigint,
  data: bigint,
  code: Uint8Array,
  veneers: Relocation['veneers'],
): NativeCase {
  const state = item.state.clone()
  state.rip = at
  const rsp = state.get('rsp')
  const writes = [
    { address: at, bytes: code },
    { address: data, bytes: item.data },
    { address: rsp - 256n, bytes: item.stack },
  ]
  if (veneers !== undefined) writes.push({ address: veneers.at, bytes: veneers.bytes })
  return {
    state,
    writes,
    reads: [
      { address: data, length: WINDOW },
      { address: rsp - 128n, length: 384 },
    ],
  }
}

function compare(item: ReachCase, moved: Relocation, a: NativeResult, b: NativeResult): Outcome {
  const fail = (why: string): Outcome => ({ what: 'differs', why: `${describe(item, moved)}: ${why}` })
  if (a.end !== 'exit' && b.end === a.end && a.signal === b.signal) return { what: 'faulted' }
  if (a.end !== b.end || a.exit !== b.exit)
    return fail(`${a.end} ${a.exit} ${a.signalName}, moved ${b.end} ${b.exit} ${b.signalName}`)
  const differences = diffStates(a.state, b.state)
  if (differences.length > 0)
    return fail(differences.map(({ register, a: x, b: y }) => `${register} ${x}, moved ${y}`).join('; '))
  if (Buffer.compare(a.memory[0], b.memory[0]) !== 0) return fail('memory')
  const [x, y] = [stackOf(item, a, 0n), stackOf(item, b, item.to - item.home)]
  if (Buffer.compare(x, y) !== 0) return fail(`stack ${hexBytes(x, 96, 160)}, moved ${hexBytes(y, 96, 160)}`)
  const changed =
    diffStates(item.state, a.state).length > 0 ||
    a.exit !== 0 ||
    Buffer.compare(a.memory[0], item.data) !== 0 ||
    Buffer.compare(a.memory[1], item.stack.subarray(128)) !== 0
  return { what: 'same', changed }
}

/** What the stack holds from the red zone up; a return address as it would be at home; without what an indirect branch may use. */
function stackOf({ template, stack }: ReachCase, result: NativeResult, delta: bigint): Uint8Array {
  const bytes = result.memory[1].slice()
  const { branch, caseClass } = template
  if (result.exit === 1 && branch === 'call') {
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    view.setBigUint64(120, view.getBigUint64(120, true) - delta, true)
    if (caseClass !== 'branch') bytes.set(stack.subarray(232, 248), 104)
  } else if (branch === 'jump' && caseClass !== 'branch') bytes.set(stack.subarray(240, 256), 112)
  return bytes
}

/** A case in one line. */
export function describe(item: ReachCase, moved?: Relocation): string {
  const { code, home, to, template, distance } = item
  const { length } = template.bytes
  const text = formatInstruction(code.slice(0, length), 0, home)
  const what = `${template.caseClass} ${distance} ${hexBytes(code, 0, length)} ${text} to 0x${to.toString(16)}`
  if (moved?.veneers === undefined) return what
  return `${what} -> ${hexBytes(moved.bytes, 0, length)} + ${hexBytes(moved.veneers.bytes)}`
}
