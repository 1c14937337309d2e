/**
 * What an instruction becomes when one of its address fields can no longer hold the address: another instruction of the same length in its place, and as a
 * rule a veneer that does in 64 bits what it did.
 *
 * Invariants. No veneer changes a flag, a register that its instruction does not change, or the red zone (the 128 bytes below rsp that signals leave alone): what it
 * saves lies below that, with rsp moved there, so that a signal at any point harms nothing. The memory operand is accessed once, by the same instruction: size, lock,
 * masks and broadcast are its own. Shadow stacks see a call where there was a call and nothing else; an indirect branch stays tracked (IBT) if it was,
 * and a direct one becomes `notrack`.
 *
 * The two exceptions are what the ABI says about a transfer of control: `call [m]` and `jmp [m]` go through [rsp-16, rsp) below the return
 * address (or the register that the caller names), which no callee may expect anything of.
 */
import { baseRegister, fillEffects, indexRegister, RegisterEffects } from './effects.ts'
import {
  addBase,
  adjustStack,
  loadStack,
  moveImmediate,
  pop,
  push,
  RSP,
  SCRATCH_REGISTERS,
  stackAddress,
  storeStack,
  type VeneerArea,
} from './emit.ts'
import { branchTo, detour, type FarField, type FarRules, type NoFarForm } from './emit-detour.ts'
import { farImmediate } from './emit-immediate.ts'
import { prefixLength, segmentPrefix, withBase, withoutAddressSize } from './emit-operand.ts'
import { Encoding, Flow, type Instruction, isRelativeBranch, Memory, Prefix } from './instruction.ts'

const KEPT_32 = 'Keep the target within reach, or build the code for another code model.'

/**
 * The bytes in the place of `bytes` (one instruction, decoded as `instruction`), as long as it is; what they need goes into `area`. Their displacements are filled in by
 * `area.finish`.
 */
export function farForm(
  bytes: Uint8Array,
  instruction: Instruction,
  field: FarField,
  area: VeneerArea,
  rules: FarRules,
): Uint8Array | NoFarForm {
  if (isRelativeBranch(instruction.flow)) return farBranch(bytes, instruction, field, area)
  if (field.at === instruction.displacementOffset) return farOperand(bytes, instruction, field, area, rules)
  return farImmediate(bytes, instruction, field, area, rules)
}

/** Direct branches keep their opcode and go to a stub; what they push or test stays what it was. */
function farBranch(
  bytes: Uint8Array,
  instruction: Instruction,
  { at, target, place }: FarField,
  area: VeneerArea,
): Uint8Array | NoFarForm {
  if (instruction.branchSize !== 4)
    return {
      reason: `a ${8 * instruction.branchSize}-bit branch reaches no veneer`,
      remedy: 'Let it branch to a 32-bit jump in its neighbourhood, or move its target along (`also`).',
    }
  const bnd = (instruction.prefixes & Prefix.f2) === 0 ? [] : [0xf2]
  const stub = area.stub(`${bnd.length} ${target}`, () =>
    area.emitWithLiteral([...bnd, 0x3e, 0xff, 0x25], target),
  )
  const patch = bytes.slice()
  area.referToVeneer(patch, at, place + bytes.length, stub)
  return patch
}

const effects = new RegisterEffects()

/** A memory operand that is out of reach: RIP-relative, or a displacement without base. */
function farOperand(
  bytes: Uint8Array,
  instruction: Instruction,
  { target, place }: FarField,
  area: VeneerArea,
  rules: FarRules,
): Uint8Array | NoFarForm {
  const { length, encoding, map, opcode, memory, prefixes } = instruction
  const index = indexRegister(instruction)
  const base = baseRegister(instruction)
  if (base === RSP) return { reason: 'an address beside rsp is no place in the blob', remedy: KEPT_32 }
  if ((prefixes & Prefix.p67) !== 0 && (index >= 0 || base >= 0 || (map === 2 && opcode === 0xf8)))
    return { reason: 'with the 67h prefix the CPU cuts other addresses, too', remedy: KEPT_32 }
  if (memory === Memory.moffs) {
    const end = prefixLength(bytes)
    const kept = [...withoutAddressSize([...bytes.subarray(0, end)]), bytes[end]]
    return detour(area, place, length, () => area.emit(kept, moveImmediate(0, target).slice(2)))
  }
  const isHint = encoding === Encoding.legacy && map === 1 && ignoresAddress(opcode)
  if (isHint || instruction.flow === Flow.undefined) return bytes.slice()
  if (encoding === Encoding.legacy && map === 0) {
    if (opcode === 0x8d) {
      const isLong = (prefixes & Prefix.w) !== 0 && (prefixes & Prefix.p67) === 0
      if (!isLong && memory !== Memory.rip)
        return { reason: 'the program keeps 32 bits of this address', remedy: KEPT_32 }
      if (memory === Memory.rip) return loadOfAddress(bytes, instruction, target, place, area)
    }
    if (opcode === 0xff && instruction.flow !== Flow.next)
      return farIndirect(bytes, instruction, target, place, area, rules)
    if (memory === Memory.rip || memory === Memory.eip || memory === Memory.absolute) {
      if (opcode === 0xff && ((instruction.modrm >> 3) & 7) === 6)
        return farPush(instruction, target, place, area, rules.redZone)
      if (opcode === 0x8f) return farPop(instruction, target, place, area, rules.redZone)
    } else if (opcode === 0x8f || (opcode === 0xff && ((instruction.modrm >> 3) & 7) === 6))
      return { reason: 'a push or pop through a table is served by no veneer', remedy: KEPT_32 }
  }
  fillEffects(instruction, effects)
  return farAccess(bytes, instruction, target, place, area, rules, effects.reads | effects.writes)
}

/** nop, prefetch and the hints among them: what they name is not accessed, no more than by ud1. (bndldx, 0F 1A and 0F 1B, do access it.) */
const ignoresAddress = (opcode: number): boolean =>
  opcode === 0x0d || opcode === 0x18 || (opcode >= 0x1c && opcode <= 0x1f)

/** `lea r, [rip + x]` is a load of the address from a literal, of any width; but a load looks at fs: and gs:. */
function loadOfAddress(
  bytes: Uint8Array,
  instruction: Instruction,
  target: bigint,
  place: number,
  area: VeneerArea,
): Uint8Array {
  const patch = bytes.map((byte, i) =>
    i < instruction.modrmOffset && (byte === 0x64 || byte === 0x65) ? 0x2e : byte,
  )
  patch[instruction.modrmOffset - 1] = 0x8b
  area.referToLiteral(patch, instruction.displacementOffset, place + bytes.length, target)
  return patch
}

/** Puts the address into `register`, as far as it is no index: the far displacement and the base. */
function farAddress(instruction: Instruction, register: number, target: bigint): number[] {
  const base = baseRegister(instruction)
  return [...moveImmediate(register, target), ...(base < 0 ? [] : addBase(register, base))]
}

/** The general case: the same instruction with a scratch register as its base; rsp as a register operand gets a stand-in. */
function farAccess(
  bytes: Uint8Array,
  instruction: Instruction,
  target: bigint,
  place: number,
  area: VeneerArea,
  { redZone }: FarRules,
  used: number,
): Uint8Array | NoFarForm {
  const [base, stand] = SCRATCH_REGISTERS.filter((register) => ((used >> register) & 1) === 0)
  const usesStack = ((used >> RSP) & 1) !== 0
  if (base === undefined || (usesStack && stand === undefined))
    return { reason: 'the instruction uses every register that could hold its address', remedy: KEPT_32 }
  return detour(area, place, instruction.length, () => {
    if (usesStack) {
      // One slot more, for the new rsp: popped last, when both registers are back.
      area.emit(adjustStack(-redZone - 8), push(base), push(stand), stackAddress(stand, redZone + 24))
      area.emit(farAddress(instruction, base, target), withBase(bytes, instruction, base, stand))
      area.emit(storeStack(16, stand), pop(stand), pop(base), pop(RSP))
    } else {
      area.emit(adjustStack(-redZone), push(base), farAddress(instruction, base, target))
      area.emit(withBase(bytes, instruction, base, undefined), pop(base), adjustStack(redZone))
    }
  })
}

/** `movabs rax, [target]`, `movabs [target], rax` of 8 bytes, or of 2. */
const moveAbsolute = (
  instruction: Instruction,
  opcode: 0xa1 | 0xa3,
  size: number,
  target: bigint,
): number[] => [
  ...segmentPrefix(instruction),
  size === 2 ? 0x66 : 0x48,
  opcode,
  ...moveImmediate(0, target).slice(2),
]

/** Bytes that a push or pop moves: 66h makes them 2, and REX.W undoes that. */
const stackSize = ({ prefixes }: Instruction): number =>
  (prefixes & Prefix.p66) !== 0 && (prefixes & Prefix.w) === 0 ? 2 : 8

/** `push [m]`: the slot first, then below the red zone. */
function farPush(
  instruction: Instruction,
  target: bigint,
  place: number,
  area: VeneerArea,
  redZone: number,
): Uint8Array {
  const size = stackSize(instruction)
  return detour(area, place, instruction.length, () => {
    area.emit(adjustStack(-redZone - size), push(0), moveAbsolute(instruction, 0xa1, size, target))
    area.emit(storeStack(redZone + 8, 0, size), pop(0), adjustStack(redZone))
  })
}

/** `pop [m]`: rsp rises behind the store. */
function farPop(
  instruction: Instruction,
  target: bigint,
  place: number,
  area: VeneerArea,
  redZone: number,
): Uint8Array {
  const size = stackSize(instruction)
  return detour(area, place, instruction.length, () => {
    area.emit(adjustStack(-redZone), push(0), loadStack(0, redZone + 8, size))
    area.emit(moveAbsolute(instruction, 0xa3, size, target), pop(0), adjustStack(redZone + size))
  })
}

/** `call [m]`, `jmp [m]`: a call or jump of the same length, to a veneer that goes on by a jump. */
function farIndirect(
  bytes: Uint8Array,
  instruction: Instruction,
  target: bigint,
  place: number,
  area: VeneerArea,
  { redZone, scratch }: FarRules,
): Uint8Array | NoFarForm {
  const form = (instruction.modrm >> 3) & 7
  if (form === 3 || form === 5)
    return { reason: 'a far call or jump is served by no veneer', remedy: KEPT_32 }
  if ((instruction.prefixes & (Prefix.p66 | Prefix.w)) === Prefix.p66)
    return { reason: 'the makers execute it differently with a 66h prefix', remedy: KEPT_32 }
  if (redZone === 0 && scratch === undefined)
    return {
      reason: 'without a red zone an indirect branch needs a register to go through',
      remedy: "Say which is free at calls and jumps (`scratch: 'r11'`), if one is.",
    }
  const track = bytes.subarray(0, prefixLength(bytes)).includes(0x3e) ? [0x3e] : []
  const start = area.length
  if (scratch === 'r11') {
    area.emit(farAddress(instruction, 11, target), loadThrough(instruction, 11), [...track, 0x41, 0xff, 0xe3])
  } else {
    const address = [indexRegister(instruction), baseRegister(instruction)]
    const register = SCRATCH_REGISTERS.find((candidate) => !address.includes(candidate))!
    area.emit(
      storeStack(-16, register),
      farAddress(instruction, register, target),
      loadThrough(instruction, register),
    )
    area.emit(storeStack(-8, register), loadStack(register, -16), [...track, 0xff, 0x64, 0x24, 0xf8])
  }
  area.end(start)
  return branchTo(area, form === 2 ? 0xe8 : 0xe9, place, instruction.length, start)
}

/** `mov register, [register]`, or with the instruction's index. */
function loadThrough(instruction: Instruction, register: number): number[] {
  const extended = register >= 8 ? 5 : 0
  const low = register & 7
  const index = indexRegister(instruction)
  if (index < 0) return [...segmentPrefix(instruction), 0x48 | extended, 0x8b, (low << 3) | low]
  const sib = (instruction.sib & 0xf8) | low
  return [...segmentPrefix(instruction), 0x48 | extended | (index >= 8 ? 2 : 0), 0x8b, (low << 3) | 4, sib]
}
