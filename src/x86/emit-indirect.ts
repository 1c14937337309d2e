/**
 * `call [m]` and `jmp [m]` out of reach, near and far.
 *
 * A veneer copies the pointer below the stack pointer and goes on through the copy, all registers being what
 * they were: [rsp-24, rsp) below the return address, of which no callee may expect anything, belongs to the
 * transfer. A near call calls the veneer, so return address and shadow stack are what they were. A far call
 * happens in the veneer, which jumps back: a far return looks for its frame on the shadow stack, and only a
 * far call puts it there; so its return address lies in the veneer.
 *
 * Indirect branch tracking: the original indirect branch is tracked, unless it says `notrack`, and what it
 * leads to begins with an endbr64 if the process has tracking on. The veneer's last branch keeps the
 * original's choice: tracked, it proves what the original proved; `notrack` there would let pass what the
 * original did not. (Direct branches were never tracked, and their targets need no endbr64: their stubs say
 * `notrack`.)
 */
import { wrapAddress } from '../core/address.ts'
import { baseRegister, indexRegister } from './effects.ts'
import { loadStack, movePrefix, storeStack } from './emit.ts'
import { branchTo, detour, type FarContext, type NoFarForm, refuse, scratchRegisters } from './emit-detour.ts'
import { farAddress, loadOperand, needsHelper, prefixLength } from './emit-operand.ts'
import { type Instruction, Prefix } from './instruction.ts'

/** ModRM.reg of opcode FF. */
const CALL = 2
const CALL_FAR = 3
const JUMP_FAR = 5

/** Bytes of a pointer that are loaded together: their offset in it, and how many. */
type Part = readonly [offset: number, size: number]

/** See `farForm`. */
export function farIndirect(
  context: FarContext,
  instruction: Instruction,
  operand: bigint,
): Uint8Array | NoFarForm {
  const form = (instruction.modrm >> 3) & 7
  const isFar = form === CALL_FAR || form === JUMP_FAR
  if (needsHelper(instruction)) return refuse('with the 67h prefix the CPU cuts its index, too')
  return isFar
    ? throughFarPointer(context, instruction, operand, form)
    : throughPointer(context, instruction, operand, form)
}

function throughPointer(
  context: FarContext,
  instruction: Instruction,
  operand: bigint,
  form: number,
): Uint8Array | NoFarForm {
  const { area, bytes, rules } = context
  if ((instruction.prefixes & (Prefix.p66 | Prefix.w)) === Prefix.p66)
    return refuse('the makers execute it differently with a 66h prefix')
  if (rules.redZone === 0 && rules.scratch === undefined)
    return refuse(
      'without a red zone an indirect branch needs a register to go through',
      "Say which is free at calls and jumps (`scratch: 'r11'`), if one is.",
    )
  const isFree = rules.scratch === 'r11' && (addressRegisters(instruction) & bit(11)) === 0
  if (rules.redZone === 0 && !isFree) return refuse('its address is made of the only register that is free')
  const kept = [...bytes.subarray(0, prefixLength(bytes))].filter((byte) => byte === 0x3e || byte === 0xf2)
  const start = area.length
  // A call has pushed the return address before its veneer forms the address.
  const depth = form === CALL ? 8 : 0
  if (isFree) {
    area.emit(farAddress(instruction, 11, operand, depth), loadOperand(instruction, 11, 11))
    area.emit([...kept, 0x41, 0xff, 0xe3])
  } else {
    copyPointer(context, instruction, operand, [[0, 8]], -8, depth)
    area.emit([...kept, 0xff, 0x64, 0x24, -8 & 0xff])
  }
  area.end(start)
  return branchTo(context, form === CALL ? 0xe8 : 0xe9, start)
}

/** m16:16, m16:32, m16:64: an offset, then a selector. */
function throughFarPointer(
  context: FarContext,
  instruction: Instruction,
  operand: bigint,
  form: number,
): Uint8Array | NoFarForm {
  const { area, rules } = context
  if (rules.redZone === 0) return refuse('without a red zone a far pointer has no place on its way')
  const { prefixes } = instruction
  const size = (prefixes & Prefix.w) !== 0 ? 8 : (prefixes & Prefix.p66) !== 0 ? 2 : 4
  const parts: readonly Part[] = [
    [0, size],
    [size, 2],
  ]
  const branch = [...movePrefix(size, 0), 0xff, 0x44 | (form << 3), 0x24, -16 & 0xff]
  const start = area.length
  const emit = (): void => {
    copyPointer(context, instruction, operand, parts, -16, 0)
    area.emit(branch)
  }
  if (form === CALL_FAR) return detour(context, emit)
  emit()
  area.end(start)
  return branchTo(context, 0xe9, start)
}

/** Copies the pointer to [rsp + to]; the register that it goes through is saved below and loaded again. */
function copyPointer(
  { area }: FarContext,
  instruction: Instruction,
  operand: bigint,
  parts: readonly Part[],
  to: number,
  depth: number,
): void {
  const [register] = scratchRegisters(1, addressRegisters(instruction))!.registers
  area.emit(storeStack(to - 8, register))
  for (const [offset, size] of parts)
    area.emit(
      farAddress(instruction, register, wrapAddress(operand + BigInt(offset)), depth),
      loadOperand(instruction, register, register, size),
      storeStack(to + offset, register, size),
    )
  area.emit(loadStack(register, to - 8))
}

/** Mask of base and index. */
const addressRegisters = (instruction: Instruction): number =>
  bit(baseRegister(instruction)) | bit(indexRegister(instruction))
const bit = (register: number): number => (register < 0 ? 0 : 1 << register)
