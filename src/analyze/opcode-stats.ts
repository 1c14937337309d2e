/** The trained statistics, expanded on first use. */
import { OPCODE_STATS } from './generated/opcode-stats.ts'
import { BLOCKS, SLOTS } from './opcode-key.ts'

let expanded: Int8Array | undefined

/** Log-likelihood ratio of code against data for each form, in sixteenths of a natural logarithm. */
export function opcodeScores(): Int8Array {
  if (expanded !== undefined) return expanded
  const scores = new Int8Array(SLOTS)
  for (const { start, bits, unseen } of BLOCKS) scores.fill(unseen, start, start + (1 << bits))
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
