/**
 * Runs cases of the reach fuzzer: the instruction where it was and where it was moved to, in the same state,
 * and what differs afterwards.
 */
import { wrapAddress } from '../../src/core/address.ts'
import { hexBytes } from '../../src/core/bytes.ts'
import type { Relocation } from '../../src/relocate/relocate.ts'
import { formatInstruction } from '../../src/x86/iced.ts'
import { Prefix } from '../../src/x86/instruction.ts'
import type { NativeCase, NativeResult } from '../../test/support/native/batch.ts'
import type { NativeHarness } from '../../test/support/native/harness.ts'
import { diffStates } from '../../test/support/native/state.ts'
import { homeCode, makeCase, moveCase, type ReachCase } from './reach-case.ts'
import { isDirect, isFarTransfer } from './reach-cases.ts'
import { type Place, WINDOW } from './reach-places.ts'
import { canChange, STATUS } from './reach-state.ts'

export type Outcome =
  | { readonly what: 'same'; readonly changed: boolean; readonly taken: boolean }
  | { readonly what: 'faulted' }
  | { readonly what: 'refused' | 'differs'; readonly why: string }

/** May change what a move made, to see that it is found. */
export type Tamper = (moved: Relocation, item: ReachCase) => Relocation

/** Bytes of stack that are compared: from so far below rsp, and how many. */
const BELOW = 128
const STACK_WINDOW = 384
/** How often a case is made anew that faults at home or changes nothing. */
const ATTEMPTS = 4

export interface Ran {
  readonly item: ReachCase
  readonly outcome: Outcome
}

/**
 * Runs cases, each at both places, and compares. Those that do nothing at home are made anew first: `next`
 * gives random numbers.
 */
export async function runCases(
  harness: NativeHarness,
  items: readonly ReachCase[],
  tamper: Tamper = (moved) => moved,
  next?: () => number,
): Promise<Ran[]> {
  const cases = [...items]
  const atHome = await harness.run(cases.map(caseAtHome), { timeout: 5000 })
  for (let attempt = 0; attempt < ATTEMPTS && next !== undefined; attempt++) {
    const dull = [...cases.keys()].filter((i) => !cases[i].isMeant && isDull(cases[i], atHome[i]))
    if (dull.length === 0) break
    for (const i of dull) cases[i] = again(cases[i], attempt, harness, next)
    const results = await harness.run(
      dull.map((i) => caseAtHome(cases[i])),
      { timeout: 5000 },
    )
    for (const [n, i] of dull.entries()) atHome[i] = results[n]
  }
  const moves = cases.map((item): Relocation | string => {
    try {
      return tamper(moveCase(item), item)
    } catch (error) {
      return (error as Error).message
    }
  })
  const movable = [...cases.keys()].filter((i) => typeof moves[i] !== 'string')
  const away = await harness.run(
    movable.map((i) => caseAway(cases[i], moves[i] as Relocation)),
    { timeout: 5000 },
  )
  const resultOf = new Map(movable.map((i, n) => [i, away[n]]))
  return cases.map((item, i): Ran => {
    const moved = moves[i]
    if (typeof moved === 'string')
      return { item, outcome: { what: 'refused', why: `${describe(item)}: ${moved}` } }
    return { item, outcome: compare(item, moved, atHome[i], resultOf.get(i)!) }
  })
}

const isDull = (item: ReachCase, result: NativeResult): boolean =>
  result.end !== 'exit' || (canChange(item.template) && !hasChanged(item, result))

/** The same template and distance: with all flags turned, then in another state. */
function again(item: ReachCase, attempt: number, harness: NativeHarness, next: () => number): ReachCase {
  if (attempt > 0) return makeCase(item.template, item.distance, () => harness.newState(), next)
  const state = item.state.clone()
  state.rflags ^= STATUS
  return { ...item, state }
}

const caseAtHome = (item: ReachCase): NativeCase => nativeCase(item, item.home, homeCode(item), undefined)
const caseAway = (item: ReachCase, moved: Relocation): NativeCase =>
  nativeCase(item, item.away, moved.bytes, moved.veneers)

function nativeCase(
  item: ReachCase,
  { to, data }: Place,
  code: Uint8Array,
  veneers: Relocation['veneers'],
): NativeCase {
  const state = item.state.clone()
  state.rip = to
  const rsp = state.get('rsp')
  const writes = [
    { address: to, bytes: code },
    { address: data, bytes: item.data },
    { address: rsp - 256n, bytes: item.stack },
  ]
  if (veneers !== undefined) writes.push({ address: veneers.at, bytes: veneers.bytes })
  return {
    state,
    writes,
    reads: [
      { address: data, length: WINDOW },
      { address: rsp - BigInt(BELOW), length: STACK_WINDOW },
    ],
  }
}

function compare(item: ReachCase, moved: Relocation, a: NativeResult, b: NativeResult): Outcome {
  const fail = (why: string): Outcome => ({ what: 'differs', why: `${describe(item, moved)}: ${why}` })
  if (a.end !== b.end || a.exit !== b.exit || a.signal !== b.signal)
    return fail(`${a.end} ${a.exit} ${a.signalName}, moved ${b.end} ${b.exit} ${b.signalName}`)
  if (a.end !== 'exit') {
    const why = a.end === 'fault' ? differentFault(item, moved, a, b) : undefined
    return why === undefined ? { what: 'faulted' } : fail(why)
  }
  const differences = diffStates(a.state, b.state).filter(({ register }) => !isFree(item, a, register))
  if (differences.length > 0)
    return fail(differences.map(({ register, a: x, b: y }) => `${register} ${x}, moved ${y}`).join('; '))
  if (Buffer.compare(a.memory[0], b.memory[0]) !== 0) return fail('memory')
  const [x, y] = [stackOf(item, a, 0n), stackOf(item, b, item.away.to - item.home.to)]
  if (Buffer.compare(x, y) !== 0) return fail(`stack ${hexBytes(x, 96, 160)}, moved ${hexBytes(y, 96, 160)}`)
  return { what: 'same', changed: hasChanged(item, a), taken: a.exit === 1 }
}

/** A fault in a veneer maps to the instruction that it stands for, and is about the same operand. */
function differentFault(
  { template, home, away }: ReachCase,
  moved: Relocation,
  a: NativeResult,
  b: NativeResult,
): string | undefined {
  // A branch to nowhere faults there.
  if (template.reference === undefined && a.state.rip !== b.state.rip) {
    const old = Number(a.state.rip - home.to)
    const mapped = oldPlace(moved, Number(b.state.rip - away.to))
    if (mapped !== old) return `the fault of ${old} maps to ${mapped}`
  }
  const isSame =
    a.signalName !== 'SIGSEGV' ||
    a.address === b.address ||
    wrapAddress(a.address - home.data) === wrapAddress(b.address - away.data)
  return isSame ? undefined : `the fault is about ${a.address.toString(16)}, moved ${b.address.toString(16)}`
}

function oldPlace({ positions }: Relocation, at: number): number | string {
  try {
    return positions.toOld(at)
  } catch (error) {
    return (error as Error).message
  }
}

/** r11 behind a call or jump that was told so. */
const isFree = ({ veneers, template }: ReachCase, { exit }: NativeResult, register: string): boolean =>
  register === 'r11' && veneers.scratch === 'r11' && !isDirect(template) && exit === 1

const hasChanged = (item: ReachCase, result: NativeResult): boolean =>
  result.exit !== 0 ||
  Buffer.compare(result.memory[0], item.data) !== 0 ||
  Buffer.compare(result.memory[1], item.stack.subarray(256 - BELOW, 256 - BELOW + STACK_WINDOW)) !== 0 ||
  diffStates(item.state, result.state).length > 0

/**
 * What the stack holds from the red zone up; a return address as it would be at home; without what is free
 * for the veneer.
 */
function stackOf({ template, stack, veneers }: ReachCase, result: NativeResult, delta: bigint): Uint8Array {
  const bytes = result.memory[1].slice()
  const { branch } = template
  const isFar = isFarTransfer(template.instruction)
  const isCall = result.exit === 1 && branch === 'call' && !isFar
  /** Bytes in the window below `end`, as they were. */
  const forget = (start: number, end: number): void =>
    bytes.set(stack.subarray(256 - BELOW + start, 256 - BELOW + end), start)
  if (isCall) {
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    view.setBigUint64(BELOW - 8, view.getBigUint64(BELOW - 8, true) - delta, true)
  }
  const used = isCall ? BELOW - 8 : BELOW
  // An indirect branch goes through the 16 bytes below the return address.
  if (branch !== undefined && !isDirect(template)) forget(used - 16, used)
  // So does a far one, with more, and a far call returns to the veneer.
  if (isFar) forget(used - 24, used)
  if (veneers.redZone === false) forget(0, BELOW - pushed(template, isCall))
  return bytes
}

/** Bytes below rsp that belong to the instruction, though there is no red zone. */
function pushed({ instruction }: ReachCase['template'], isCall: boolean): number {
  const { opcode, map, modrm, prefixes } = instruction
  const isPush = map === 0 && (opcode === 0x68 || (opcode === 0xff && ((modrm >> 3) & 7) === 6))
  if (!isCall && !isPush) return 0
  return (prefixes & (Prefix.p66 | Prefix.w)) === Prefix.p66 ? 2 : 8
}

/** A case in one line. */
export function describe(item: ReachCase, moved?: Relocation): string {
  const { code, home, away, template, distance } = item
  const { length } = template.bytes
  const text = formatInstruction(code.slice(0, length), 0, home.to)
  const what = `${template.caseClass} ${distance} ${hexBytes(code, 0, length)} ${text} to 0x${away.to.toString(16)}`
  if (moved?.veneers === undefined) return what
  return `${what} -> ${hexBytes(moved.bytes, 0, length)} + ${hexBytes(moved.veneers.bytes)}`
}
