/** The trained statistics. */
import { type FastTables, HEADS } from '../x86/fast.ts'
import type { Instruction } from '../x86/instruction.ts'
import { OPCODE_STATS } from './generated/opcode-stats.ts'
import { opcodeSlot } from './opcode-key.ts'

/** A slot's character is its score above this: nothing has to be expanded before the first is asked for. */
export const SCORE_BIAS = 78

let stats = OPCODE_STATS
const known = new Map<FastTables, Uint8Array>()

/** Log-likelihood ratio of code against data for the forms of a slot, in sixteenths. */
export const slotScore = (slot: number): number => stats.charCodeAt(slot) - SCORE_BIAS

/** The same for the form of an instruction. */
export const opcodeScore = (instruction: Instruction): number => slotScore(opcodeSlot(instruction))

/**
 * Scores by where the note of an instruction is, and behind those of all notes with REX.W: kept from one
 * analysis to the next by who looks them up. Above -1 - {@link SCORE_BIAS}; 0 where none was.
 */
export function knownScores(fast: FastTables): Uint8Array {
  let scores = known.get(fast)
  if (scores === undefined) known.set(fast, (scores = new Uint8Array(2 * HEADS)))
  return scores
}

/** For leave-one-out trials: other scores, by slot. */
export function useOpcodeScores(scores: Int8Array): void {
  known.clear()
  stats = Array.from(scores, (score) => String.fromCharCode(score + SCORE_BIAS)).join('')
}
