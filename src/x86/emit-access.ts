/**
 * Memory operands out of reach: the same access through a scratch register, and pushes and pops, whose stack
 * is not where the veneer has it.
 */
import { fillEffects, RegisterEffects } from './effects.ts'
import { adjustStack, loadStack, moveImmediate, pop, push, RSP, stackAddress, storeStack } from './emit.ts'
import { detour, type FarContext, type NoFarForm, refuse, saving, scratchRegisters } from './emit-detour.ts'
import { deeper, farAddress, loadOperand, needsHelper, storeOperand, withBase } from './emit-operand.ts'
import { Encoding, type Instruction, Memory, Prefix } from './instruction.ts'

const NO_REGISTER = refuse('the instruction uses every register that could hold its address')

const effects = new RegisterEffects()

/** Mask of the registers that `instruction` reads or writes. */
export function usedRegisters(instruction: Instruction): number {
  fillEffects(instruction, effects)
  return effects.reads | effects.writes
}

/** What is done in the place of an access with an immediate out of reach. */
export interface OtherAccess {
  /** The instruction without immediate; where there is a `value`, it takes that from `register`, by ModRM.reg. */
  readonly bytes: (register: number) => Uint8Array
  readonly value?: bigint
  /** Emits what comes after it. */
  readonly behind?: () => void
}

/**
 * The general case: the same instruction with a scratch register as its base. `operand` is undefined where
 * the memory operand stays as it is.
 */
export function farAccess(
  context: FarContext,
  instruction: Instruction,
  operand: bigint | undefined,
  other: OtherAccess = { bytes: () => context.bytes },
): Uint8Array | NoFarForm {
  const used = usedRegisters(instruction)
  // rsp as more than a base.
  if (isStackOperand(instruction)) return throughStandIn(context, instruction, operand!, used)
  const needsValue = other.value !== undefined || (operand !== undefined && needsHelper(instruction))
  const { area, fields } = context
  const count = (operand === undefined ? 0 : 1) + (needsValue ? 1 : 0)
  const isExtensible = operand !== undefined && hasRex(instruction)
  const scratch = scratchRegisters(count, used, fields.dead, isExtensible)
  if (scratch === undefined) return NO_REGISTER
  const base = scratch.registers[0]
  const value = scratch.registers[count - 1]
  return detour(context, () =>
    saving(context, scratch.saved, 0, (depth) => {
      if (operand !== undefined) area.emit(farAddress(instruction, base, operand, depth, value))
      if (other.value !== undefined) area.emit(moveImmediate(value, other.value))
      const bytes = other.bytes(value)
      area.emit(
        operand === undefined
          ? deeper(bytes, instruction, depth)
          : withBase(bytes, instruction, base, undefined),
      )
      other.behind?.()
    }),
  )
}

/** Whether there is a REX prefix, whose B may extend another base. */
const hasRex = ({ encoding, prefixes }: Instruction): boolean =>
  encoding === Encoding.legacy && (prefixes & Prefix.rex) !== 0

/** Whether rsp is an operand beside the memory operand. */
function isStackOperand(instruction: Instruction): boolean {
  const { memory } = instruction
  instruction.memory = Memory.absolute
  const used = usedRegisters(instruction)
  instruction.memory = memory
  return ((used >> RSP) & 1) !== 0
}

/** rsp is a register operand: a register stands in for it, and goes to a slot of its own that is popped last. */
function throughStandIn(
  context: FarContext,
  instruction: Instruction,
  operand: bigint,
  used: number,
): Uint8Array | NoFarForm {
  const scratch = scratchRegisters(2, used)
  if (scratch === undefined) return NO_REGISTER
  const [base, stand] = scratch.registers
  const { area, bytes, rules } = context
  const depth = rules.redZone + 24
  return detour(context, () => {
    area.emit(adjustStack(-rules.redZone - 8), push(base), push(stand))
    // Last of all, as a helper of the address until then.
    area.emit(farAddress(instruction, base, operand, depth, stand), stackAddress(stand, depth))
    area.emit(withBase(bytes, instruction, base, stand))
    area.emit(storeStack(16, stand), pop(stand), pop(base), pop(RSP))
  })
}

/** Bytes that a push or pop moves: 66h makes them 2, and REX.W undoes that. */
const stackSize = ({ prefixes }: Instruction): number =>
  (prefixes & Prefix.p66) !== 0 && (prefixes & Prefix.w) === 0 ? 2 : 8

/** `push [m]`: into a slot above what is saved. */
export function farPush(
  context: FarContext,
  instruction: Instruction,
  operand: bigint,
): Uint8Array | NoFarForm {
  const size = stackSize(instruction)
  const count = needsHelper(instruction) ? 2 : 1
  const scratch = scratchRegisters(count, usedRegisters(instruction), context.fields.dead)
  if (scratch === undefined) return NO_REGISTER
  const [value, helper] = scratch.registers
  return detour(context, () =>
    saving(context, scratch.saved, -size, (depth) => {
      context.area.emit(farAddress(instruction, value, operand, depth, helper))
      context.area.emit(loadOperand(instruction, value, value, size), storeStack(depth - size, value, size))
    }),
  )
}

/** `pop [m]`: rsp rises behind the store, but before it is a base. */
export function farPop(
  context: FarContext,
  instruction: Instruction,
  operand: bigint,
): Uint8Array | NoFarForm {
  const size = stackSize(instruction)
  const scratch = scratchRegisters(2, usedRegisters(instruction), context.fields.dead)
  if (scratch === undefined) return NO_REGISTER
  const [base, value] = scratch.registers
  return detour(context, () =>
    saving(context, scratch.saved, size, (depth) => {
      context.area.emit(farAddress(instruction, base, operand, depth + size, value))
      context.area.emit(loadStack(value, depth, size), storeOperand(instruction, value, base, size))
    }),
  )
}
