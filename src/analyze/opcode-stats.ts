/** The trained statistics, decoded on first use. */
import type { Instruction } from '../x86/instruction.ts'
import { OPCODE_STATS } from './generated/opcode-stats.ts'
import { opcodeSlot } from './opcode-key.ts'

/** A slot's character is its score above this: scores of -64 to 48 become characters of ASCII, which are bytes without a loop. */
export const SCORE_BIAS = 78

let codes: Uint8Array | undefined

/** Log-likelihood ratio of code against data for the form of an instruction, in sixteenths. */
export const opcodeScore = (instruction: Instruction): number =>
  (codes ??= new TextEncoder().encode(OPCODE_STATS))[opcodeSlot(instruction)] - SCORE_BIAS

/** For leave-one-out trials: other scores, by slot. */
export function useOpcodeScores(scores: Int8Array): void {
  codes = Uint8Array.from(scores, (score) => score + SCORE_BIAS)
}
