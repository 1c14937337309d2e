/**
 * What an instruction becomes when its address fields can no longer hold the addresses: another instruction
 * of the same length in its place, and as a rule a veneer that does in 64 bits what it did.
 *
 * Invariants. No veneer changes a flag, a register that its instruction does not change, or the red zone (the
 * 128 bytes below rsp that signals leave alone): what it saves lies below that, with rsp moved there, so that
 * a signal at any point harms nothing. The memory operand is accessed once, by the same instruction: size,
 * lock, masks and broadcast are its own. Shadow stacks see a call where there was a call and nothing else.
 * What the ABI says about a transfer of control makes the one exception: see `farIndirect`.
 *
 * EIP-relative operands (67h) reach below 2^32 only, and are out of reach when what they point at moves
 * higher. An access goes to where that is now, by 64 bits: cut to 32 it would hit something else. A `lea`
 * gives what 32 bits hold of the address, as it does wherever it runs (and as a `lea r32` without 67h does).
 */
import { moveImmediate } from './emit.ts'
import { farAccess, farPop, farPush } from './emit-access.ts'
import type { VeneerArea } from './emit-area.ts'
import {
  detour,
  type FarContext,
  type FarFields,
  type FarRules,
  keeps32,
  type NoFarForm,
  refuse,
} from './emit-detour.ts'
import { farImmediate } from './emit-immediate.ts'
import { farIndirect } from './emit-indirect.ts'
import { prefixLength, withoutAddressSize } from './emit-operand.ts'
import { Encoding, Flow, type Instruction, Memory, Prefix } from './instruction.ts'

/**
 * The bytes in the place of `bytes` (one instruction, decoded as `instruction`), as long as it is, perhaps
 * themselves; what they need goes into `area`. Their displacements are filled in by `area.finish`.
 */
export function farForm(
  bytes: Uint8Array,
  instruction: Instruction,
  fields: FarFields,
  area: VeneerArea,
  rules: FarRules,
): Uint8Array | NoFarForm {
  const context: FarContext = { bytes, fields, area, rules }
  const { branch, operand, immediate } = fields
  if (branch !== undefined) return farBranch(context, instruction, branch)
  if (immediate !== undefined) return farImmediate(context, instruction, immediate)
  return operand === undefined ? bytes : farOperand(context, instruction, operand)
}

/** Direct branches keep their opcode and go to a stub; what they push or test stays what it was. */
function farBranch(
  { bytes, fields, area }: FarContext,
  instruction: Instruction,
  target: bigint,
): Uint8Array {
  const stub = area.stub(target, isBound(instruction))
  area.referToVeneer(bytes, instruction.branchOffset, fields.place + bytes.length, stub)
  return bytes
}

/** Whether a branch has a `bnd` prefix. */
export const isBound = ({ prefixes }: Instruction): boolean => (prefixes & Prefix.f2) !== 0

/** A memory operand that is out of reach: RIP-relative, or a displacement of 4 bytes. */
function farOperand(context: FarContext, instruction: Instruction, operand: bigint): Uint8Array | NoFarForm {
  const { encoding, map, opcode, memory, prefixes } = instruction
  const { bytes, area } = context
  const isCut = (prefixes & Prefix.p67) !== 0
  if (isCut && ((map === 2 && opcode === 0xf8) || hasVectorIndex(instruction)))
    return refuse('with the 67h prefix the CPU cuts other addresses, too')
  if (memory === Memory.moffs) {
    const end = prefixLength(bytes)
    const kept = [...withoutAddressSize([...bytes.subarray(0, end)]), bytes[end]]
    return detour(context, () => area.emit(kept, moveImmediate(0, operand).slice(2)))
  }
  const isHint = encoding === Encoding.legacy && map === 1 && ignoresAddress(opcode)
  if (isHint || instruction.flow === Flow.undefined) return bytes
  if (encoding === Encoding.legacy && map === 0) {
    const group = (instruction.modrm >> 3) & 7
    if (opcode === 0x8d) return farLea(context, instruction, operand)
    if (opcode === 0x8f) return farPop(context, instruction, operand)
    if (opcode === 0xff && group === 6) return farPush(context, instruction, operand)
    if (opcode === 0xff && instruction.flow !== Flow.next) return farIndirect(context, instruction, operand)
  }
  return farAccess(context, instruction, operand)
}

/**
 * nop, prefetch and the hints among them: what they name is not accessed, no more than by ud1. (bndldx, 0F 1A
 * and 0F 1B, do access it.)
 */
const ignoresAddress = (opcode: number): boolean =>
  opcode === 0x0d || opcode === 0x18 || (opcode >= 0x1c && opcode <= 0x1f)

/** A gather or scatter: the index is a vector. */
const hasVectorIndex = ({ encoding, map, opcode }: Instruction): boolean =>
  (encoding === Encoding.vex || encoding === Encoding.evex) &&
  map === 2 &&
  ((opcode & 0xfc) === 0x90 || (opcode & 0xfc) === 0xa0 || opcode === 0xc6 || opcode === 0xc7)

/**
 * `lea r, [rip + x]` is a load of the address from a literal, of any width; but a load looks at fs: and gs:,
 * and 67h would cut where the literal is.
 */
function farLea(context: FarContext, instruction: Instruction, operand: bigint): Uint8Array | NoFarForm {
  const { memory, prefixes, modrmOffset } = instruction
  const isCut = (prefixes & Prefix.p67) !== 0
  if (memory !== Memory.rip && memory !== Memory.eip) {
    const isLong = (prefixes & Prefix.w) !== 0 && !isCut
    return isLong ? farAccess(context, instruction, operand) : keeps32
  }
  const { bytes, area, fields } = context
  const ignored = [0x64, 0x65, 0x67]
  const patch = bytes.map((byte, i) => (i < modrmOffset - 1 && ignored.includes(byte) ? 0x2e : byte))
  patch[modrmOffset - 1] = 0x8b
  const next = fields.place + bytes.length
  const value = isCut ? BigInt.asUintN(32, operand) : operand
  area.referToLiteral(patch, instruction.displacementOffset, next, value)
  return patch
}
