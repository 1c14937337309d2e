/** The trained statistics, expanded on first use. */
import { OPCODE_STATS } from './generated/opcode-stats.ts'
import { SLOTS, WIDE_SLOTS } from './opcode-key.ts'

/**
 * What a form is worth that neither code nor data of the training showed, in sixteenths. Compilers use few of the one-byte forms, and data is read as any of
 * them; all forms of the larger maps together are a thousand times as frequent in code as in data.
 */
export const UNSEEN = -16
export const UNSEEN_WIDE = 40

let expanded: Int8Array | undefined

/** Log-likelihood ratio of code against data for each form, in sixteenths of a natural logarithm. */
export function opcodeScores(): Int8Array {
  if (expanded !== undefined) return expanded
  const scores = new Int8Array(SLOTS).fill(UNSEEN).fill(UNSEEN_WIDE, WIDE_SLOTS)
  const bytes = atob(OPCODE_STATS)
  for (let i = 0, slot = 0; i < bytes.length; i += 2, slot++) {
    slot += bytes.charCodeAt(i)
    if (slot < scores.length) scores[slot] = bytes.charCodeAt(i + 1)
  }
  return (expanded = scores)
}

/** For training and leave-one-out trials. */
export function useOpcodeScores(scores: Int8Array): void {
  expanded = scores
}
