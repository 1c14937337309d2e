/**
 * Which parts of a linear reading are in doubt. Reading every offset in every way is a hundred times slower
 * than reading on, and compiled code reads well: its branches land on instructions, nothing is invalid, its
 * forms are those of code. What breaks one of these rules lies in a zone that is read with all care; the rest
 * is taken as it was swept.
 */
import { lowerBound } from '../core/search.ts'
import { type Cpu, Instruction, MAX_LENGTH } from '../x86/instruction.ts'
import type { Notable } from '../x86/notable.ts'
import { Ends, Outside, type Rows } from '../x86/notable-rows.ts'
import { createTableDecoder } from '../x86/scanner.ts'
import type { StartBits } from '../x86/start-bits.ts'
import { BLOCK_BITS } from './form-sampler.ts'
import type { OutsideTargets } from './outside.ts'

/** Natural-logarithmic score below which a target outside is out of place. */
const STRANGE = -1.5

export interface SweptCode {
  readonly code: Uint8Array
  /** Instruction starts of the linear reading. */
  readonly bits: StartBits
  readonly notable: Notable
  /** By block: whether its forms are not those of code. */
  readonly strange: Uint8Array
  /** Offsets where nothing decodes. */
  readonly rejected: readonly number[]
  readonly entries: readonly number[]
  readonly cpu: Cpu | undefined
}

/** The zones of doubt: pairs of offsets, ascending, disjoint. */
export function findZones(swept: SweptCode, outside: OutsideTargets): number[] {
  const { length } = swept.code
  const blocks = swept.strange.slice()
  const flag = (offset: number): void => {
    blocks[offset >>> BLOCK_BITS] = 1
  }
  const cut = cutOff(swept)
  for (const offset of swept.rejected) if (offset < cut) flag(offset)
  for (const entry of swept.entries) if (entry < length && !swept.bits.has(entry)) flag(entry)
  checkEnds(swept, blocks, cut)
  checkOutside(swept, outside, blocks, cut)
  const zones = mergeBlocks(blocks, length)
  if (cut === length) return zones
  if (zones[zones.length - 1] >= cut) zones[zones.length - 1] = length
  else zones.push(cut, length)
  return zones
}

/**
 * Where the instruction begins that the blob's end cuts off: a blob of whole blocks, not of functions. Its
 * length, where there is none.
 */
function cutOff({ code, rejected, cpu }: SweptCode): number {
  const { length } = code
  const at = rejected.find((offset) => offset > length - MAX_LENGTH)
  if (at === undefined) return length
  const rest = new Uint8Array(2 * MAX_LENGTH)
  rest.set(code.subarray(at))
  return createTableDecoder(rest, { cpu }).decode(0, new Instruction()) > length - at ? at : length
}

/** How many rows are of instructions before `offset`. */
const rowsBefore = ({ starts, count }: Rows, offset: number): number =>
  lowerBound(starts.subarray(0, count), offset)

/** Flags both ends of what points into the middle of instructions, and code that is read as data. */
function checkEnds({ notable: { ends }, bits, code }: SweptCode, blocks: Uint8Array, cut: number): void {
  const { starts, kinds, targets } = ends
  const count = rowsBefore(ends, cut)
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
    } else if ((kinds[i] & Ends.lea) === 0 && bits.lastUpTo(target) >= 0 && !isConstant(code, bits, target))
      blocks[target >>> BLOCK_BITS] = 1
  }
}

/** Whether what is read at `target` is the constant of a `mov r64, imm64`: V8's code reads those again and again. */
const isConstant = (code: Uint8Array, bits: StartBits, target: number): boolean =>
  target >= 2 &&
  bits.has(target - 2) &&
  (code[target - 2] & 0xfe) === 0x48 &&
  (code[target - 1] & 0xf8) === 0xb8

/**
 * Flags what points to strange places outside, or by a field of one byte: compiled code does not leave a blob
 * by a short branch.
 */
function checkOutside(
  { notable, code }: SweptCode,
  targets: OutsideTargets,
  blocks: Uint8Array,
  cut: number,
): void {
  const { starts, distances, shapes } = notable.outside
  const count = rowsBefore(notable.outside, cut)
  const strange = targets.below(STRANGE, code.length)
  // By low bits: most distances need not be looked for.
  const mask = Math.min(0xffff, (1 << (32 - Math.clz32(8 * strange.size))) - 1)
  const maybe = new Uint8Array(mask + 1)
  for (const distance of strange) maybe[distance & mask] = 1
  for (let i = 0; i < count; i++) {
    const distance = distances[i]
    const isStrange = maybe[distance & mask] !== 0 && strange.has(distance)
    if (isStrange || (shapes[i] & Outside.size) === 1) blocks[starts[i] >>> BLOCK_BITS] = 1
  }
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
