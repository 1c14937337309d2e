/**
 * Immediates that are addresses and no longer fit into 32 bits: most become the memory operand of the same
 * operation, a literal of 8 bytes. Where the program itself keeps only 32 bits (`cmp eax, imm32`, `mov dword
 * [m], imm32`) nothing can be done.
 */
import { moveImmediate, RSP } from './emit.ts'
import { farAccess } from './emit-access.ts'
import { detour, type FarContext, keeps32, type NoFarForm } from './emit-detour.ts'
import { prefixLength } from './emit-operand.ts'
import { Encoding, type Instruction, Memory, Prefix } from './instruction.ts'

/** REX.W and what extends the register in ModRM.reg. */
const wideRex = (register: number): number => 0x48 | (register >= 8 ? 4 : 0)
/** ModRM with this reg and a RIP-relative operand. */
const ripModrm = (register: number): number => ((register & 7) << 3) | 5

/** See `farForm`. */
export function farImmediate(
  context: FarContext,
  instruction: Instruction,
  immediate: bigint,
): Uint8Array | NoFarForm {
  const { area, bytes } = context
  const { opcode, modrm, prefixes, memory } = instruction
  const isWide = (prefixes & Prefix.w) !== 0
  const b = (prefixes & Prefix.rexB) === 0 ? 0 : 8
  if (instruction.encoding !== Encoding.legacy || instruction.map !== 0) return keeps32
  if (opcode === 0x68) return detour(context, () => area.emitWithLiteral([0xff, 0x35], immediate))
  const widened = widenedRegister(instruction)
  if (widened >= 0) return detour(context, () => area.emit(moveImmediate(widened, immediate)))
  if (!isWide) return keeps32
  if (opcode === 0x69) return farProduct(context, instruction, immediate)
  const operation = fromMemory(instruction)
  if (operation === undefined) return keeps32
  if (memory !== Memory.none) return withMemory(context, instruction, operation.store, immediate)
  const register = instruction.modrmOffset === 0 ? 0 : (modrm & 7) | b
  const form = [wideRex(register), operation.load, ripModrm(register)]
  const prefix = prefixLength(bytes) - 1
  const { length } = bytes
  if (prefix + form.length + 4 > length) return detour(context, () => area.emitWithLiteral(form, immediate))
  const patch = Uint8Array.from([...bytes.subarray(0, prefix), ...form, 0, 0, 0, 0])
  area.referToLiteral(patch, length - 4, context.fields.place + length, immediate)
  return patch
}

/**
 * The register of a `mov r32, imm32`, which becomes a `mov` of 64 bits as what it wrote was zero-extended; -1
 * for other instructions.
 */
export function widenedRegister({ encoding, map, opcode, modrm, memory, prefixes }: Instruction): number {
  const isMove = (opcode & 0xf8) === 0xb8 || (opcode === 0xc7 && memory === Memory.none)
  if (encoding !== Encoding.legacy || map !== 0 || !isMove) return -1
  if ((prefixes & (Prefix.w | Prefix.p66)) !== 0) return -1
  return ((opcode === 0xc7 ? modrm : opcode) & 7) | ((prefixes & Prefix.rexB) === 0 ? 0 : 8)
}

/**
 * Opcodes that do the same with a register and a memory operand: `load` reads memory (operation r, m),
 * `store` has it first (operation m, r).
 */
interface Operation {
  readonly load: number
  readonly store: number
}

function fromMemory({ opcode, modrm }: Instruction): Operation | undefined {
  const arithmetic = (n: number): Operation => ({ load: (n << 3) | 3, store: (n << 3) | 1 })
  if (opcode === 0x81) return arithmetic((modrm >> 3) & 7)
  if ((opcode & 0xc7) === 0x05) return arithmetic(opcode >> 3)
  if (opcode === 0xa9 || opcode === 0xf7) return { load: 0x85, store: 0x85 }
  return opcode === 0xc7 ? { load: 0x8b, store: 0x89 } : undefined
}

/** `imul r, s, imm32`: s first, then the product by the literal. */
function farProduct(
  context: FarContext,
  instruction: Instruction,
  immediate: bigint,
): Uint8Array | NoFarForm {
  const { area, bytes, fields } = context
  const { modrm, prefixes, modrmOffset } = instruction
  const to = ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) === 0 ? 0 : 8)
  if (to === RSP) return keeps32
  const load = bytes.slice(0, instruction.immediateOffset)
  load[modrmOffset - 1] = 0x8b
  const multiply = (): void => area.emitWithLiteral([wideRex(to), 0x0f, 0xaf, ripModrm(to)], immediate)
  if (instruction.memory === Memory.none) return detour(context, () => [area.emit([...load]), multiply()])
  return farAccess(context, instruction, fields.operand, { bytes: () => load, behind: multiply })
}

/** The operation on memory with the value in a scratch register. */
function withMemory(
  context: FarContext,
  instruction: Instruction,
  store: number,
  value: bigint,
): Uint8Array | NoFarForm {
  const { modrmOffset, immediateOffset, prefixes } = instruction
  const bytes = (register: number): Uint8Array => {
    const form = context.bytes.slice(0, immediateOffset)
    // REX.R stays 0: the scratch register is a low one. The opcode is the byte before ModRM.
    if ((prefixes & Prefix.rexR) !== 0) form[modrmOffset - 2] &= ~4
    form[modrmOffset - 1] = store
    form[modrmOffset] = (form[modrmOffset] & 0xc7) | (register << 3)
    return form
  }
  return farAccess(context, instruction, context.fields.operand, { bytes, value })
}
