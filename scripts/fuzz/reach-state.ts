/** The full random state of a case, and operands with which its instruction does something and does not fault. */
import { baseRegister, indexRegister } from '../../src/x86/effects.ts'
import { Encoding, Flow, type Instruction, Prefix } from '../../src/x86/instruction.ts'
import type { CpuState } from '../../test/support/native/state.ts'
import { isFarTransfer, isHint, type Template } from './reach-cases.ts'
import { CODE_SELECTOR, LOW_TARGET, STACK, TARGET } from './reach-places.ts'

const RSP = 4
const CARRY = 0x1
const PARITY = 0x4
const ZERO = 0x40
const SIGN = 0x80
const DIRECTION = 0x400
const OVERFLOW = 0x800
const ID = 0x20_0000
/** The status flags. */
export const STATUS = 0x8d5n
const ROUNDING = 0x6000
const X87_ROUNDING = 0x0c00
const X87_CONDITIONS = 0x4700

export const randomBytes = (length: number, next: () => number): Uint8Array => {
  const bytes = new Uint8Array(length)
  const words = new Uint32Array(bytes.buffer)
  for (let i = 0; i < words.length; i++) words[i] = next()
  return bytes
}

/** Everything random that an instruction could show a difference in. */
export function randomState(state: CpuState, next: () => number): void {
  state.randomize(next)
  state.rflags |= BigInt(next() & (DIRECTION | ID))
  state.mxcsr = 0x1f80 | (next() & ROUNDING)
  state.x87Control = 0x37f | (next() & X87_ROUNDING)
  state.x87Status = next() & X87_CONDITIONS
  state.fsBase = BigInt(next()) << 12n
  state.gsBase = BigInt(next()) << 12n
  state.set('rsp', STACK + 0x1000n + BigInt(next() & 0xff8) - (next() % 8 === 0 ? BigInt(next() & 7) : 0n))
}

/** What an operand in memory has to be a multiple of, lest it fault. */
export function alignmentOf({ caseClass, kind, instruction: { encoding, map } }: Template): number {
  // No operand may lie across 4 GB, where 32-bit addresses end.
  if (kind === 'eip32' || (kind === 'abs32' && caseClass !== 'immediate')) return 4096
  if (caseClass === 'lock') return 16
  if (caseClass === 'gather' || caseClass === 'immediate') return 8
  return map > 0 || encoding !== Encoding.legacy ? 64 : 8
}

/** Sets what the operand's address is made of beside the field. Returns how far that puts the operand. */
export function prepareAddress(
  template: Template,
  state: CpuState,
  operand: bigint,
  next: () => number,
): number {
  const { instruction, caseClass } = template
  if (caseClass === 'gather') {
    prepareIndices(instruction, state, next)
    return 0
  }
  const base = baseRegister(instruction)
  const index = indexRegister(instruction)
  if (caseClass === 'immediate') {
    // The operand of its own, where it has one, is at the same place in both runs.
    if (base >= 0 && base !== RSP && instruction.opcode !== 0x8d) state.set(base, operand)
    return 0
  }
  const step = alignmentOf(template)
  if ((instruction.prefixes & Prefix.p67) !== 0 && (base >= 0 || index >= 0))
    return prepareCut(instruction, state, -64 * (next() & 1), next)
  if (base >= 0) state.set(base, BigInt(step * (next() & 3)))
  if (index >= 0) state.set(index, BigInt(step * (next() & 1)))
  const scaled = index < 0 ? 0 : Number(state.get(index)) << (instruction.sib >> 6)
  return scaled + (base < 0 ? 0 : Number(state.get(base)))
}

/** Base and index that come to \`distance\` in 32 bits, and to anything in 64. */
function prepareCut(instruction: Instruction, state: CpuState, distance: number, next: () => number): number {
  const base = baseRegister(instruction)
  const index = indexRegister(instruction)
  const high = (low: number): bigint => (BigInt(next()) << 32n) | BigInt(low >>> 0)
  if (base === index) {
    state.set(base, high(0))
    return 0
  }
  const scale = instruction.sib >> 6
  const part = base < 0 ? distance & -(1 << scale) : next()
  if (index >= 0) state.set(index, high(base < 0 ? part >> scale : part))
  if (base < 0) return part
  const scaled = index < 0 ? 0 : part << scale
  state.set(base, high(distance - scaled))
  return distance
}

/** Small indices, a mask that lets some of them through. */
function prepareIndices(instruction: Instruction, state: CpuState, next: () => number): void {
  const { sib, prefixes, opcode, encoding } = instruction
  const isEvex = encoding === Encoding.evex
  const low = ((sib >> 3) & 7) | ((prefixes & Prefix.rexX) === 0 ? 0 : 8)
  for (const register of isEvex && state.vectorCount > 16 ? [low, low + 16] : [low]) {
    const indices = state.vector(register)
    const size = (opcode & 1) === 0 ? 4 : 8
    for (let i = 0; i < indices.length; i++) indices[i] = i % size === 0 ? next() & 31 : 0
    state.setVector(register, indices)
  }
  if (isEvex && state.vectorCount > 16) for (let i = 1; i < 8; i++) state.setOpmask(i, BigInt(next() | 1))
}

/** Registers with which it does not fault: a quotient that fits, a bit string that is not long. */
export function prepareRegisters({ instruction }: Template, state: CpuState): void {
  const { opcode, map, encoding, modrm, prefixes } = instruction
  const reg = (modrm >> 3) & 7
  if (encoding !== Encoding.legacy) return
  if (isDivision(instruction)) {
    const mask = opcode === 0xf6 ? 0xffff_ffff_ffff_003fn : 0x7fff_ffff_7fff_7fffn
    state.set('rax', state.get('rax') & mask)
    if (opcode === 0xf7) state.set('rdx', 0n)
  }
  const register = reg | ((prefixes & Prefix.rexR) === 0 ? 0 : 8)
  if (map === 1 && [0xa3, 0xab, 0xb3, 0xbb].includes(opcode) && register !== RSP)
    state.set(register, state.get(register) & 0x7fn)
}

/** The operand at `at` likewise: an odd divisor, masked exceptions, a target to go to. */
export function prepareData({ instruction, branch }: Template, data: Uint8Array, at: number): void {
  const { opcode, map, encoding, modrm } = instruction
  const view = new DataView(data.buffer)
  const reg = (modrm >> 3) & 7
  if (isFarTransfer(instruction)) {
    // m16:32; as m16:64, where the maker reads that, it leads to the second of the low targets.
    view.setBigUint64(at, LOW_TARGET | (CODE_SELECTOR << 32n), true)
    view.setUint16(at + 8, Number(CODE_SELECTOR), true)
  } else if (branch !== undefined) view.setBigUint64(at, TARGET, true)
  if (encoding !== Encoding.legacy) return
  if (isDivision(instruction)) {
    data[at] = (data[at] | 0x40) & 0x7f
    data[at + 1] |= 1
    data[at + 3] |= 1
  }
  if (map === 0 && (opcode === 0xd9 || opcode === 0xdd) && (reg === 4 || reg === 5)) {
    data[at] |= 0x3f
    view.setUint16(at + 4, 0, true)
  }
  if (map === 1 && opcode === 0xae) {
    if (reg === 2) view.setUint32(at, 0x1f80 | ((data[at] << 13) & ROUNDING), true)
    if (reg === 1 || reg === 5) prepareRestore(view, at)
  }
}

const isDivision = ({ map, opcode, modrm }: Instruction): boolean =>
  map === 0 && (opcode === 0xf6 || opcode === 0xf7) && ((modrm >> 3) & 7) >= 6

/** fxrstor, xrstor: a control word without reserved bits, a header that says what is there. */
function prepareRestore(view: DataView, at: number): void {
  view.setUint32(at + 24, 0x1f80, true)
  for (let i = 512; i < 576 && at + i + 4 <= view.byteLength; i += 4)
    view.setUint32(at + i, i === 512 ? 3 : 0, true)
}

/** Flags with which a conditional jump is taken; mostly, that is. */
export function prepareFlags(
  { instruction, caseClass }: Template,
  state: CpuState,
  next: () => number,
): boolean {
  if (instruction.flow !== Flow.conditional) return false
  if (caseClass === 'short' && instruction.opcode >= 0xe0) return prepareCount(instruction, state, next)
  if (next() % 32 === 0) return !isTaken(instruction.opcode & 15, Number(state.rflags))
  while (!isTaken(instruction.opcode & 15, Number(state.rflags)))
    state.rflags = (state.rflags & ~STATUS) | (BigInt(next()) & STATUS)
  return false
}

/** A count, and a zero flag, with which loop and jrcxz branch; mostly, that is. */
function prepareCount({ opcode, prefixes }: Instruction, state: CpuState, next: () => number): boolean {
  const isMeant = next() % 32 === 0
  // 67h: of 32 bits, whatever the upper half holds.
  const high = (prefixes & Prefix.p67) === 0 ? 0n : BigInt(next()) << 32n
  const [taken, not] = opcode === 0xe3 ? [0n, 7n] : [7n, 1n]
  state.set('rcx', high | (isMeant ? not : taken))
  if (opcode === 0xe0) state.rflags &= ~BigInt(ZERO)
  if (opcode === 0xe1) state.rflags |= BigInt(ZERO)
  return isMeant
}

function isTaken(condition: number, flags: number): boolean {
  const has = (mask: number): boolean => (flags & mask) !== 0
  const less = has(SIGN) !== has(OVERFLOW)
  const holds = [
    has(OVERFLOW),
    has(CARRY),
    has(ZERO),
    has(CARRY | ZERO),
    has(SIGN),
    has(PARITY),
    less,
    has(ZERO) || less,
  ][condition >> 1]
  return holds !== ((condition & 1) === 1)
}

/** Whether the instruction can change anything at all. */
export const canChange = ({ instruction }: Template): boolean => !isHint(instruction)
