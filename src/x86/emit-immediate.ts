/**
 * Immediates that are addresses and no longer fit into 32 bits: most become the memory operand of the same operation, a literal of 8 bytes. Where the program itself keeps
 * only 32 bits (`cmp eax, imm32`, `mov dword [m], imm32`) nothing can be done.
 */
import { baseRegister, fillEffects, RegisterEffects } from './effects.ts'
import {
  adjustStack,
  int32,
  moveImmediate,
  pop,
  push,
  RSP,
  SCRATCH_REGISTERS,
  type VeneerArea,
} from './emit.ts'
import { detour, type FarField, type FarRules, type NoFarForm } from './emit-detour.ts'
import { prefixLength } from './emit-operand.ts'
import { Encoding, type Instruction, Memory, Prefix } from './instruction.ts'

const refused: NoFarForm = {
  reason: 'the program keeps 32 bits of this address',
  remedy: 'Choose a destination whose addresses fit the field, or build the code for another code model.',
}

/** REX.W and what extends the register in ModRM.reg. */
const wideRex = (register: number): number => 0x48 | (register >= 8 ? 4 : 0)
/** ModRM with this reg and a RIP-relative operand. */
const ripModrm = (register: number): number => ((register & 7) << 3) | 5

/** See `farForm`. */
export function farImmediate(
  bytes: Uint8Array,
  instruction: Instruction,
  { target, place }: FarField,
  area: VeneerArea,
  rules: FarRules,
): Uint8Array | NoFarForm {
  const { opcode, length, modrm, prefixes, memory } = instruction
  const isWide = (prefixes & Prefix.w) !== 0
  const b = (prefixes & Prefix.rexB) === 0 ? 0 : 8
  if (instruction.encoding !== Encoding.legacy || instruction.map !== 0) return refused
  if (opcode === 0x68) return detour(area, place, length, () => area.emitWithLiteral([0xff, 0x35], target))
  const isMove = opcode === 0xc7 && memory === Memory.none
  if (opcode >= 0xb8 && opcode <= 0xbf && !isWide)
    return detour(area, place, length, () => area.emit(moveImmediate((opcode & 7) | b, target)))
  if (isMove && !isWide)
    return detour(area, place, length, () => area.emit(moveImmediate((modrm & 7) | b, target)))
  if (!isWide) return refused
  const operation = fromMemory(instruction)
  if (operation === undefined) return refused
  if (memory !== Memory.none) return withMemory(bytes, instruction, operation, target, place, area, rules)
  if (opcode === 0x69) return farProduct(instruction, target, place, area)
  const register = instruction.modrmOffset === 0 ? 0 : (modrm & 7) | b
  const form = [wideRex(register), operation.load, ripModrm(register)]
  const prefix = prefixLength(bytes) - 1
  if (prefix + form.length + 4 > length)
    return detour(area, place, length, () => area.emitWithLiteral(form, target))
  const patch = Uint8Array.from([...bytes.subarray(0, prefix), ...form, 0, 0, 0, 0])
  area.referToLiteral(patch, length - 4, place + length, target)
  return patch
}

/** Opcodes that do the same with a register and a memory operand: `load` reads memory (operation r, m), `store` has it first (operation m, r). */
interface Operation {
  readonly load: number
  readonly store: number
}

function fromMemory({ opcode, modrm }: Instruction): Operation | undefined {
  const arithmetic = (n: number): Operation => ({ load: (n << 3) | 3, store: (n << 3) | 1 })
  if (opcode === 0x81) return arithmetic((modrm >> 3) & 7)
  if ((opcode & 0xc7) === 0x05) return arithmetic(opcode >> 3)
  if (opcode === 0xa9 || opcode === 0xf7) return { load: 0x85, store: 0x85 }
  if (opcode === 0xc7) return { load: 0x8b, store: 0x89 }
  return opcode === 0x69 ? { load: 0, store: 0 } : undefined
}

/** `imul r, s, imm32`: s first, then the product by the literal. */
function farProduct(
  { modrm, prefixes, length }: Instruction,
  target: bigint,
  place: number,
  area: VeneerArea,
): Uint8Array | NoFarForm {
  const to = ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) === 0 ? 0 : 8)
  if (to === RSP) return refused
  const rex = 0x48 | ((prefixes & Prefix.rexR) === 0 ? 0 : 4) | ((prefixes & Prefix.rexB) === 0 ? 0 : 1)
  return detour(area, place, length, () => {
    area.emit([rex, 0x8b, modrm])
    area.emitWithLiteral([wideRex(to), 0x0f, 0xaf, ripModrm(to)], target)
  })
}

const effects = new RegisterEffects()

/** The operation on memory with the value in a scratch register. */
function withMemory(
  bytes: Uint8Array,
  instruction: Instruction,
  { store }: Operation,
  target: bigint,
  place: number,
  area: VeneerArea,
  { redZone }: FarRules,
): Uint8Array | NoFarForm {
  const { modrmOffset, prefixes, length, memory } = instruction
  fillEffects(instruction, effects)
  const used = effects.reads | effects.writes
  const scratch = SCRATCH_REGISTERS.find((register) => ((used >> register) & 1) === 0)
  if (store === 0 || scratch === undefined || memory >= Memory.rip) return refused
  const head = [...bytes.subarray(0, modrmOffset)]
  // REX.R stays 0: the scratch register is a low one. The opcode is the byte before ModRM.
  if ((prefixes & Prefix.rexR) !== 0) head[modrmOffset - 2] &= ~4
  head[modrmOffset - 1] = store
  return detour(area, place, length, () => {
    area.emit(adjustStack(-redZone), push(scratch), moveImmediate(scratch, target))
    area.emit(
      head,
      operandBytes(bytes, instruction, scratch, redZone + 8),
      pop(scratch),
      adjustStack(redZone),
    )
  })
}

/** ModRM, SIB and displacement with another reg; an operand on the stack is `moved` bytes further up. */
function operandBytes(
  bytes: Uint8Array,
  instruction: Instruction,
  register: number,
  moved: number,
): number[] {
  const { modrm, modrmOffset, sib, displacementOffset, displacementSize, immediateOffset } = instruction
  const reg = register << 3
  if (baseRegister(instruction) !== RSP)
    return [(modrm & 0xc7) | reg, ...bytes.subarray(modrmOffset + 1, immediateOffset)]
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const displacement =
    displacementSize === 0
      ? 0
      : displacementSize === 1
        ? view.getInt8(displacementOffset)
        : view.getInt32(displacementOffset, true)
  return [0x84 | reg, sib, ...int32(displacement + moved)]
}
