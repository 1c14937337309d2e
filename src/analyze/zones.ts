/**
 * Which parts of a linear reading are in doubt. Reading every offset in every way is a hundred times slower than reading on, and
 * compiled code reads well: its branches land on instructions, nothing is invalid, its forms are those of code. What breaks one of these rules lies in a
 * zone that is read with all care; the rest is taken as it was swept.
 */
import type { InstructionDecoder } from '../x86/instruction.ts'
import type { Notable } from '../x86/notable.ts'
import { Ends, Outside } from '../x86/notable-rows.ts'
import type { StartBits } from '../x86/start-bits.ts'
import { FormScores } from './form-scores.ts'
import type { OutsideTargets } from './outside.ts'

const BLOCK_BITS = 8
/** Instructions looked at in each block, and what they must score together, in sixteenths. */
const SAMPLE = 6
const PLAUSIBLE = 64
/** Natural-logarithmic score below which a target outside is out of place. */
const STRANGE = -1.5

export interface SweptCode {
  readonly code: Uint8Array
  readonly decoder: InstructionDecoder
  /** Instruction starts of the linear reading. */
  readonly bits: StartBits
  readonly notable: Notable
  /** Offsets where nothing decodes. */
  readonly rejected: readonly number[]
  readonly entries: readonly number[]
}

/** The zones of doubt: pairs of offsets, ascending, disjoint. */
export function findZones(swept: SweptCode, outside: OutsideTargets): number[] {
  const { length } = swept.code
  const blocks = new Uint8Array((length >>> BLOCK_BITS) + 1)
  const flag = (offset: number): void => {
    blocks[offset >>> BLOCK_BITS] = 1
  }
  swept.rejected.forEach(flag)
  for (const entry of swept.entries) if (entry < length && !swept.bits.has(entry)) flag(entry)
  sampleForms(swept, blocks)
  checkEnds(swept, blocks)
  checkOutside(swept, outside, blocks)
  return mergeBlocks(blocks, length)
}

/** Flags the blocks whose first instructions are not of the forms that code has. */
function sampleForms({ code, decoder, bits }: SweptCode, blocks: Uint8Array): void {
  const scores = new FormScores(code, decoder)
  for (let block = 0; block < blocks.length; block++) {
    const end = (block + 1) << BLOCK_BITS
    let score = 0
    let seen = 0
    for (
      let at = bits.next(block << BLOCK_BITS);
      at >= 0 && at < end && seen < SAMPLE;
      at = bits.next(at + 1)
    ) {
      score += scores.at(at)
      seen++
    }
    if (score < (seen === SAMPLE ? PLAUSIBLE : 0)) blocks[block] = 1
  }
}

/** Flags both ends of what points into the middle of instructions, and code that is read as data. */
function checkEnds({ notable: { ends }, bits }: SweptCode, blocks: Uint8Array): void {
  const { count, starts, kinds, targets } = ends
  const { words } = bits
  for (let i = 0; i < count; i++) {
    const target = targets[i]
    const isRip = (kinds[i] & Ends.rip) !== 0
    // Most targets are outside (-1) or starts; which of both is no matter for a branch, in the machine's sense too.
    const inside = target & ~(target >> 31)
    const isGood = (target >> 31) | ((words[inside >>> 5] >>> (inside & 31)) & 1)
    if ((isGood !== 0 && !isRip) || target < 0) continue
    if (!isRip) {
      blocks[starts[i] >>> BLOCK_BITS] = 1
      blocks[target >>> BLOCK_BITS] = 1
    } else if ((kinds[i] & Ends.lea) === 0 && bits.lastUpTo(target) >= 0) blocks[target >>> BLOCK_BITS] = 1
  }
}

/** Flags what points to strange places outside, or by a field of one byte: compiled code does not leave a blob by a short branch. */
function checkOutside({ notable }: SweptCode, targets: OutsideTargets, blocks: Uint8Array): void {
  const { count, starts, distances, shapes } = notable.outside
  const strange = targets.below(STRANGE)
  for (let i = 0; i < count; i++)
    if ((shapes[i] & Outside.size) === 1 || strange.has(distances[i])) blocks[starts[i] >>> BLOCK_BITS] = 1
}

/** Flagged blocks with one more on each side, as ranges of offsets. */
function mergeBlocks(blocks: Uint8Array, length: number): number[] {
  const zones: number[] = []
  for (let block = 0; block < blocks.length; block++) {
    if (blocks[block] === 0) continue
    const start = Math.max(0, (block - 1) << BLOCK_BITS)
    const end = Math.min(length, (block + 2) << BLOCK_BITS)
    if (zones.length > 0 && start <= zones[zones.length - 1]) zones[zones.length - 1] = end
    else zones.push(start, end)
  }
  return zones
}
