/** The trained statistics. */
import type { Instruction } from '../x86/instruction.ts'
import { OPCODE_STATS } from './generated/opcode-stats.ts'
import { opcodeSlot } from './opcode-key.ts'

/** A slot's character is its score above this: nothing has to be expanded before the first is asked for. */
export const SCORE_BIAS = 78

let stats = OPCODE_STATS

/** Log-likelihood ratio of code against data for the forms of a slot, in sixteenths. */
export const slotScore = (slot: number): number => stats.charCodeAt(slot) - SCORE_BIAS

/** The same for the form of an instruction. */
export const opcodeScore = (instruction: Instruction): number => slotScore(opcodeSlot(instruction))

/** For leave-one-out trials: other scores, by slot. */
export function useOpcodeScores(scores: Int8Array): void {
  stats = Array.from(scores, (score) => String.fromCharCode(score + SCORE_BIAS)).join('')
}
