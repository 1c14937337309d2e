/** Where relative operands point, as distances from the blob's base. */
import { readSigned } from '../core/bytes.ts'
import { type Instruction, Memory } from './instruction.ts'

/** Where a direct branch leads; -1 without one. */
export const branchTarget = (view: DataView, instruction: Instruction): number =>
  instruction.branchSize === 0 ? -1 : relativeTarget(view, instruction)!

/** What the relative operand, a branch's or a RIP operand, points at; undefined without one. */
export function relativeTarget(view: DataView, instruction: Instruction): number | undefined {
  const size = instruction.branchSize
  if (size === 0 && instruction.memory !== Memory.rip) return undefined
  const field = instruction.offset + (size === 0 ? instruction.displacementOffset : instruction.branchOffset)
  return instruction.offset + instruction.length + readSigned(view, field, size || 4)
}
