/** What iced says about one decoded instruction, as the layout word of a leaf. */

import * as iced from 'iced-x86'
import { CodeExt, type Decoder, type Instruction } from 'iced-x86'
import { Flow } from '../../src/x86/instruction.ts'
import { Layout, Unique } from '../../src/x86/layout.ts'

const { Code, FlowControl, OpKind } = iced

const WIDTH: ReadonlyMap<number, number> = new Map([
  [OpKind.Immediate8, 1],
  [OpKind.Immediate16, 2],
  [OpKind.Immediate8to16, 2],
  [OpKind.Immediate32, 3],
  [OpKind.Immediate8to32, 3],
  [OpKind.Immediate64, 4],
  [OpKind.Immediate8to64, 4],
  [OpKind.Immediate32to64, 4],
])

/**
 * The layout word of an instruction whose memory operand, if any, has mod = 0 and no displacement.
 * `opcodeEnd`: bytes up to and with the opcode; `sib`: there is a SIB byte.
 */
export function describe(
  instruction: Instruction,
  decoder: Decoder,
  opcodeEnd: number,
  memoryKey: boolean,
  sib: boolean,
): number {
  const constants = decoder.getConstantOffsets(instruction)
  const { immediateSize, immediateSize2, displacementSize } = constants
  constants.free()
  const kinds = Array.from({ length: instruction.opCount }, (_, i) => instruction.opKind(i))
  const near = kinds.includes(OpKind.NearBranch16) || kinds.includes(OpKind.NearBranch64)
  const memory = kinds.includes(OpKind.Memory)
  const known = immediateSize + immediateSize2 + displacementSize
  const after = instruction.length - opcodeEnd - known
  const rest = after > 0 && sib ? after - 1 : after
  if (rest < 0 || rest > 2)
    throw new Error(`cannot describe ${Code[instruction.code]}: ${rest} bytes unexplained`)
  const hasModrm = rest > 0
  const immediate = near ? 0 : immediateSize
  let word = known + Math.max(0, rest - 1)
  word |= immediate << Layout.immediateShift
  word |= (near ? immediateSize : 0) << Layout.branchShift
  if (immediate > 0) word |= Math.max(...kinds.map((kind) => WIDTH.get(kind) ?? 0)) << Layout.widthShift
  word |= flowOf(instruction, near) << Layout.flowShift
  if (hasModrm) word |= Layout.hasModrm
  if (hasModrm && (memory || !memoryKey)) word |= Layout.memory
  if (memory && instruction.isVsib) word |= Layout.vsib
  word |= uniqueOf(instruction.code) << Layout.uniqueShift
  if (memory && !hasModrm) word |= displacementSize > 0 ? Layout.moffs : Layout.implicitMemory
  if (immediateSize2 > 0) word |= Layout.immediate2
  if (kinds.includes(OpKind.NearBranch16)) word |= Layout.branch16
  return word
}

/** Which registers must differ, by iced's opcode information. */
export function uniqueOf(code: number): number {
  const info = CodeExt.opCode(code)
  const unique = info.requiresUniqueRegNums
    ? Unique.all
    : info.requiresUniqueDestRegNum
      ? Unique.destination
      : Unique.none
  info.free()
  return unique
}

function flowOf(instruction: Instruction, near: boolean): number {
  switch (instruction.flowControl) {
    case FlowControl.ConditionalBranch:
      return Flow.conditional
    case FlowControl.UnconditionalBranch:
      return Flow.jump
    case FlowControl.Call:
      return near ? Flow.call : Flow.system
    case FlowControl.Return:
      return Flow.ret
    case FlowControl.IndirectBranch:
      return Flow.indirectJump
    case FlowControl.IndirectCall:
      return Flow.indirectCall
    case FlowControl.XbeginXabortXend:
      return near ? Flow.xbegin : Flow.next
    case FlowControl.Interrupt:
      return instruction.code === Code.Int3 ? Flow.int3 : Flow.interrupt
    case FlowControl.Exception:
      return Flow.undefined
    default:
      return instruction.code === Code.Hlt ? Flow.halt : Flow.next
  }
}
