/** The trained statistics. */
import { FAST_INDICES } from '../x86/fast.ts'
import type { Instruction } from '../x86/instruction.ts'
import { OPCODE_STATS } from './generated/opcode-stats.ts'
import { opcodeSlot } from './opcode-key.ts'

/** A slot's character is its score above this: nothing has to be expanded before the first is asked for. */
export const SCORE_BIAS = 78

let stats = OPCODE_STATS
let known: Uint8Array | undefined

/** Log-likelihood ratio of code against data for the form of an instruction, in sixteenths. */
export const opcodeScore = (instruction: Instruction): number =>
  stats.charCodeAt(opcodeSlot(instruction)) - SCORE_BIAS

/**
 * Scores by index of a fast entry, with REX.W or without, kept from one analysis to the next by who looks
 * them up: above -1 - {@link SCORE_BIAS}; 0 where none was.
 */
export const knownScores = (): Uint8Array => (known ??= new Uint8Array(2 * FAST_INDICES))

/** For leave-one-out trials: other scores, by slot. */
export function useOpcodeScores(scores: Int8Array): void {
  known = undefined
  stats = Array.from(scores, (score) => String.fromCharCode(score + SCORE_BIAS)).join('')
}
