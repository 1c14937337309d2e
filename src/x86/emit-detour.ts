/** The branch in an instruction's place, the veneer that it goes to, and the registers that the veneer works with. */
import { adjustStack, pop, push } from './emit.ts'
import type { VeneerArea } from './emit-area.ts'

/** What veneers may use. */
export interface FarRules {
  /** Bytes below rsp that belong to the running function. */
  readonly redZone: 0 | 128
  /** A register that no veneer of an indirect call or jump need preserve. */
  readonly scratch: 'r11' | undefined
}

/** The fields of an instruction that are out of reach, by what they shall stand for; and where the instruction is. */
export interface FarFields {
  readonly branch?: bigint | undefined
  /** Of the displacement; given for a RIP-relative one within reach, too, where the immediate is out of reach. */
  readonly operand?: bigint | undefined
  readonly immediate?: bigint | undefined
  /** Offset of the instruction from the area's start, at its new place. */
  readonly place: number
  /** Mask of registers whose values nothing needs: see `Liveness.deadAt`. */
  readonly dead: number
}

/** Why there is no far form: a clause, and what the caller can do. */
export interface NoFarForm {
  readonly reason: string
  readonly remedy: string
}

/** One instruction to serve, and where and how. */
export interface FarContext {
  /** With its fields within reach as they must be. */
  readonly bytes: Uint8Array
  readonly fields: FarFields
  readonly area: VeneerArea
  readonly rules: FarRules
}

const KEPT_32 =
  'Choose a destination whose addresses fit the field, or build the code for another code model.'

export const refuse = (reason: string, remedy: string = KEPT_32): NoFarForm => ({ reason, remedy })
export const keeps32: NoFarForm = refuse('the program keeps 32 bits of this address')

/** A call or jump to the veneer at `start`, as long as the instruction: 67h does nothing to either. */
export function branchTo(
  { area, bytes: { length }, fields: { place } }: FarContext,
  opcode: 0xe8 | 0xe9,
  start: number,
): Uint8Array {
  const patch = new Uint8Array(length).fill(0x67)
  patch[length - 5] = opcode
  area.referToVeneer(patch, length - 4, place + length, start)
  return patch
}

/** A veneer that does `emit` and comes back behind the instruction; returns the jump to it. */
export function detour(context: FarContext, emit: () => void): Uint8Array {
  const { area, bytes, fields } = context
  const start = area.length
  emit()
  area.emitJump(fields.place + bytes.length)
  area.end(start)
  return branchTo(context, 0xe9, start)
}

/**
 * Registers that a veneer may work with, in order of preference: those that need no REX bit and no
 * displacement to be a base; then rbp.
 */
const SCRATCH_REGISTERS: readonly number[] = [0, 1, 2, 3, 6, 7, 5]
/** Those that may serve as a base where the instruction has a REX prefix: r12 would need a SIB byte. */
const EXTENDED_REGISTERS: readonly number[] = [8, 9, 10, 11, 14, 15, 13]

/** Registers for a veneer's own use, and those of them that it must save. */
export interface Scratch {
  readonly registers: readonly number[]
  readonly saved: readonly number[]
}

/**
 * `count` registers that are not in the mask `used`, dead ones first; the first may be extended if the
 * instruction allows that. Undefined where there are not as many.
 */
export function scratchRegisters(
  count: number,
  used: number,
  dead = 0,
  isExtensible = false,
): Scratch | undefined {
  const isDead = (register: number): boolean => ((dead >> register) & 1) !== 0
  const registers: number[] = []
  for (const register of SCRATCH_REGISTERS)
    if (registers.length < count && isDead(register)) registers.push(register)
  for (const register of SCRATCH_REGISTERS)
    if (registers.length < count && !isDead(register) && ((used >> register) & 1) === 0)
      registers.push(register)
  if (registers.length < count) return undefined
  const extended = isExtensible && !isDead(registers[0]) ? EXTENDED_REGISTERS.find(isDead) : undefined
  if (extended !== undefined && count > 0) registers[0] = extended
  return { registers, saved: registers.filter((register) => !isDead(register)) }
}

/**
 * Does `body` while `registers` are saved below the red zone, if there are any. `body` is told by how much
 * rsp is below its first value; `change` is what the instruction as a whole does to rsp: what it pushes is
 * above what is saved.
 */
export function saving(
  { area, rules: { redZone } }: FarContext,
  registers: readonly number[],
  change: number,
  body: (depth: number) => void,
): void {
  const down = (registers.length === 0 ? 0 : redZone) + Math.max(0, -change)
  area.emit(adjustStack(-down))
  for (const register of registers) area.emit(push(register))
  body(down + 8 * registers.length)
  for (let i = registers.length - 1; i >= 0; i--) area.emit(pop(registers[i]))
  area.emit(adjustStack(down + change))
}
