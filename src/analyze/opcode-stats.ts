/** The trained statistics. */
import type { Instruction } from '../x86/instruction.ts'
import { OPCODE_STATS } from './generated/opcode-stats.ts'
import { opcodeSlot } from './opcode-key.ts'

/** A slot's character is its score above this: nothing has to be expanded before the first is asked for. */
export const SCORE_BIAS = 78

let stats = OPCODE_STATS

/** Log-likelihood ratio of code against data for the form of an instruction, in sixteenths. */
export const opcodeScore = (instruction: Instruction): number =>
  stats.charCodeAt(opcodeSlot(instruction)) - SCORE_BIAS

/** For leave-one-out trials: other scores, by slot. */
export function useOpcodeScores(scores: Int8Array): void {
  stats = Array.from(scores, (score) => String.fromCharCode(score + SCORE_BIAS)).join('')
}
