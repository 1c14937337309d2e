/** A case of the reach fuzzer: a template with its state, its data, and the two places where it runs. */
import { type Relocation, relocate } from '../../src/relocate/relocate.ts'
import type { VeneerOptions } from '../../src/relocate/veneers.ts'
import { RelocationTable } from '../../src/table/table.ts'
import type { CpuState } from '../../test/support/native/state.ts'
import { isFarTransfer, type Template } from './reach-cases.ts'
import {
  ABSENT,
  DATA,
  type Distance,
  HOME,
  LOW_DATA,
  LOW_HOME,
  leaveBy,
  type Place,
  placeOfCode,
  placeOfData,
  RANGE,
  SHORT_HOME,
  SHORT_TARGET,
  TARGET,
  veneerPlace,
  WINDOW,
} from './reach-places.ts'
import {
  alignmentOf,
  prepareAddress,
  prepareData,
  prepareFlags,
  prepareRegisters,
  randomBytes,
  randomState,
} from './reach-state.ts'

export interface ReachCase {
  readonly template: Template
  readonly distance: Distance
  /** Where code and data are before the move, and after it. */
  readonly home: Place
  readonly away: Place
  /** What the field stands for at home. */
  readonly target: bigint
  /** The instruction and what follows it: moves into dead registers, and the way out. */
  readonly code: Uint8Array
  readonly tail: Uint8Array
  readonly state: CpuState
  readonly data: Uint8Array
  readonly stack: Uint8Array
  readonly veneers: VeneerOptions
  /** Of an immediate: the register from which the reference takes the moved value; else -1. */
  readonly register: number
  /** As it is on purpose: a jump that is not taken, an operand that is not there. */
  readonly isMeant: boolean
}

const RSP = 4
const isLow = ({ kind }: Template): boolean => kind !== 'pc32' && kind !== 'pc8'

const isRelative = ({ kind }: Template): boolean => kind !== 'abs32' && kind !== 'abs32s'

/** Behind a branch of 8 bits: a jump over int3, and where the island put there ends. */
const GAP = [0xeb, 8, ...Array.from({ length: 8 }, () => 0xcc)]
const ISLAND_END = 2 + 5

/**
 * Bytes behind the instruction: `mov r32, imm32` with what some unused registers hold, so that they are dead
 * before; then exit 0.
 */
function makeTail(used: number, state: CpuState, next: () => number): Uint8Array {
  const bytes: number[] = []
  for (let i = next() % 4 === 0 ? next() % 4 : 0; i > 0; i--) {
    const register = next() & 15
    if (((used >> register) & 1) !== 0 || register === RSP) continue
    const value = next()
    state.set(register, BigInt(value))
    if (register >= 8) bytes.push(0x41)
    bytes.push(0xb8 | (register & 7), value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24)
  }
  return Uint8Array.from([...bytes, ...leaveBy(0)])
}

/** What veneers may use, and where they are. */
function makeRules({ branch, instruction, used }: Template, to: bigint, next: () => number): VeneerOptions {
  // Without a red zone far transfers are refused, and branches by an address that r11 is a part of.
  const needsStack = isFarTransfer(instruction) || (branch !== undefined && ((used >> 11) & 1) !== 0)
  const redZone = next() % 4 !== 0 || needsStack
  const scratch = branch !== undefined && (!redZone || next() % 4 === 0) ? 'r11' : undefined
  return { redZone, scratch, at: veneerPlace(to, next()) }
}

/** A case of `template` at `distance`: random state, data, place of the operand. */
export function makeCase(
  template: Template,
  distance: Distance,
  newState: () => CpuState,
  next: () => number,
): ReachCase {
  const low = isLow(template)
  const { at, segment, caseClass, used, kind } = template
  const state = newState()
  randomState(state, next)
  const data = randomBytes(WINDOW, next)
  const step = alignmentOf(template)
  const isFar = distance === 'near' || distance === 'far' || distance === 'farthest'
  const isAbsent =
    isFar && !['branch', 'short', 'immediate', 'lea', 'hint'].includes(caseClass) && next() % 64 === 0
  const operand = isAbsent ? ABSENT : 64 + (next() & 0x1ff & -step)
  prepareRegisters(template, state)
  const moved = prepareAddress(template, state, state.get('rsp') + 32n, next)
  if (!isAbsent) prepareData(template, data, operand + moved)
  const isNotTaken = prepareFlags(template, state, next)
  const isShort = caseClass === 'short'
  const home = low ? { to: LOW_HOME, data: LOW_DATA } : { to: isShort ? SHORT_HOME : HOME, data: DATA }
  let target = isShort ? SHORT_TARGET : caseClass === 'branch' ? TARGET : home.data + BigInt(operand)
  if (segment !== undefined && caseClass !== 'lea') {
    const base = BigInt(next() & 0x3c0)
    if (segment === 'fs') state.fsBase = base
    else state.gsBase = base
    target -= base
  }
  const away = low
    ? placeOfData(distance, operand, kind === 'abs32s' ? 31 : 32, step, next())
    : placeOfCode(distance, target, template.bytes.length + (isShort ? ISLAND_END : 0), next())
  const register = template.reference === undefined ? -1 : referenceRegister(used, next)
  if (register >= 0) state.set(register, away.data + BigInt(operand))
  const tail = Uint8Array.from([
    ...(isShort ? GAP : []),
    ...makeTail(register < 0 ? used : used | (1 << register), state, next),
  ])
  const code = Uint8Array.from([...template.bytes, ...tail])
  const next32 = home.to + BigInt(template.bytes.length)
  const value = Number(BigInt.asIntN(32, isRelative(template) ? target - next32 : target))
  const view = new DataView(code.buffer)
  if (kind === 'pc8') view.setInt8(at, value)
  else view.setInt32(at, value, true)
  const veneers = makeRules(template, away.to, next)
  const stack = randomBytes(512, next)
  return {
    template,
    distance,
    home,
    away,
    target,
    code,
    tail,
    state,
    data,
    stack,
    veneers,
    register,
    isMeant: isNotTaken || isAbsent,
  }
}

function referenceRegister(used: number, next: () => number): number {
  for (;;) {
    const register = next() & 15
    if (register !== RSP && ((used >> register) & 1) === 0) return register
  }
}

/** The code that runs at home: its own, or the reference. */
export const homeCode = ({ template: { reference }, register, tail, code }: ReachCase): Uint8Array =>
  reference === undefined ? code : Uint8Array.from([...reference(register), ...tail])

/** The move of a case. Throws `refused`. */
export function moveCase({ template, home, away, target, code, tail, veneers }: ReachCase): Relocation {
  const { at, bytes, kind } = template
  const runs = [{ start: 0, end: bytes.length + tail.length - 8 }]
  const site = { offset: at, kind, target, end: isRelative(template) ? bytes.length : undefined }
  const low = isLow(template)
  const moved = low ? [{ start: LOW_DATA, length: RANGE }] : []
  const table = RelocationTable.fromSites([site], { code, base: home.to, runs, moved })
  const also = low ? [{ from: LOW_DATA, to: away.data, length: RANGE }] : []
  return relocate(code, table, { to: away.to, also, veneers })
}
