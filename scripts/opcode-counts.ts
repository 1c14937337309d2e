/** Counts instruction forms in the code and in the data of a corpus. */
import { BLOCKS, type Block, opcodeSlot, SLOTS } from '../src/analyze/opcode-key.ts'
import { Instruction } from '../src/x86/instruction.ts'
import { createTableDecoder } from '../src/x86/scanner.ts'
import type { Case } from './corpus.ts'

/** Occurrences of each form in code and in data, of one origin. */
export interface Counts {
  readonly code: Float64Array
  readonly data: Float64Array
}

export const emptyCounts = (): Counts => ({ code: new Float64Array(SLOTS), data: new Float64Array(SLOTS) })

/** Adds what one case shows: code from its starts on, data at every offset. */
export function countCase(one: Case, counts: Counts): void {
  const instruction = new Instruction()
  for (const pair of one.pairs) {
    const decoder = createTableDecoder(pair.before)
    for (const { start, end, kind } of pair.ranges) {
      for (let at = start; at < end; ) {
        const length = decoder.decode(at, instruction)
        if (length > 0) (kind === 'code' ? counts.code : counts.data)[opcodeSlot(instruction)]++
        at += kind === 'code' && length > 0 ? length : 1
      }
    }
  }
}

/** What a slot is worth that neither code nor data fills. */
const blockAt = (slot: number): Block => BLOCKS.findLast(({ start }) => start <= slot)!

/** What a slot is worth that neither code nor data fills. */
const unseenScore = (slot: number): number => blockAt(slot).unseen

/**
 * Log-likelihood ratios in sixteenths, clipped to [-4, 3]; what is rare leans to what its whole block of
 * slots is worth.
 */
export function likelihoods(origins: Iterable<Counts>): Int8Array {
  const code = new Float64Array(SLOTS)
  const data = new Float64Array(SLOTS)
  const sum = (column: Float64Array): number => column.reduce((a, b) => a + b, 0)
  for (const counts of origins) {
    // An origin weighs with the square root of its size: large ones know more forms, but shall not rule.
    const [codes, datas] = [sum(counts.code), sum(counts.data)]
    for (let i = 0; i < SLOTS; i++) {
      if (codes > 0) code[i] += (counts.code[i] / codes) * Math.sqrt(codes)
      if (datas > 0) data[i] += (counts.data[i] / datas) * Math.sqrt(datas)
    }
  }
  const [codes, datas] = [sum(code), sum(data)]
  return Int8Array.from({ length: SLOTS }, (_, i) => {
    if (code[i] === 0 && data[i] === 0) return unseenScore(i)
    const { unseen, floor } = blockAt(i)
    const lean = Math.max(1, Math.exp(unseen / 16))
    const ratio = Math.log((code[i] / codes + floor * lean) / (data[i] / datas + floor))
    return Math.round(16 * Math.min(3, Math.max(-4, ratio)))
  })
}
