/**
 * Whether a veneer may leave something else in a register: where every way on writes all of it before
 * anything reads it. By iced alone; calls, returns and indirect jumps end the search, as what lies behind
 * them is not known.
 */
import type { IcedCursor } from '../x86/iced.ts'
import { loadIced } from '../x86/iced.ts'

/** Instructions looked at on each way, and conditional branches followed both ways. */
const FAR_ENOUGH = 16
const FORKS = 4

/** What one instruction does with a register. */
type Use = 'reads' | 'writes' | 'leaves'

/**
 * Whether register `number` (rax is 0) is dead at offset `start` of the code, of `length` bytes, that `cursor` reads.
 */
export function isDeadAt(
  cursor: IcedCursor,
  length: number,
  start: number,
  number: number,
  forks: number = FORKS,
): boolean {
  const { FlowControl } = loadIced()
  for (let at = start, i = 0; i < FAR_ENOUGH; i++) {
    if (at >= length || cursor.decode(at) === 0) return false
    const use = useOf(cursor, number)
    if (use !== 'leaves') return use === 'writes'
    const { target } = cursor
    const { flowControl } = cursor.instruction
    at += cursor.length
    if (flowControl === FlowControl.Next) continue
    const isConditional = flowControl === FlowControl.ConditionalBranch
    const isJump = flowControl === FlowControl.UnconditionalBranch
    if ((!isConditional && !isJump) || target === undefined || target >= BigInt(length)) return false
    if (isConditional) {
      if (forks === 0 || !isDeadAt(cursor, length, at, number, forks - 1)) return false
      return isDeadAt(cursor, length, Number(target), number, forks - 1)
    }
    at = Number(target)
  }
  return false
}

function useOf({ instruction }: IcedCursor, number: number): Use {
  const { InstructionInfoFactory, OpAccess, Register, RegisterExt } = loadIced()
  const factory = new InstructionInfoFactory()
  const info = factory.info(instruction)
  let use: Use = 'leaves'
  for (const used of info.usedRegisters()) {
    const { register, access } = used
    used.free()
    if (!RegisterExt.isGPR(register) || RegisterExt.fullRegister(register) !== Register.RAX + number) continue
    const isWrite = access === OpAccess.Write
    if (!isWrite && access !== OpAccess.CondWrite) use = 'reads'
    else if (isWrite && RegisterExt.size(register) >= 4 && use === 'leaves') use = 'writes'
  }
  info.free()
  factory.free()
  return use
}
