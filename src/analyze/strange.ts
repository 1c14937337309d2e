/**
 * What reads like code and is none, told by where its relative operands point: those of code cluster. A
 * strange target alone proves nothing (code has a lonely import too), so it counts where nothing else speaks
 * for the reading: no branch leads there, or one leads into the middle.
 */
import { Instruction, type InstructionDecoder, Prefix } from '../x86/instruction.ts'
import { Form, type Forms } from './forms.ts'
import { Mark, markedInside } from './marks.ts'
import type { OutsideTargets } from './outside.ts'

/** Bytes of a run that can be chance, and of one that is. */
export const ISLAND = 256
const SPECK = 32
/** Bytes of data on both sides that make it one at any address. */
const LONELY = 64

export interface StrangeInput {
  readonly decoder: InstructionDecoder
  readonly marks: Uint8Array
  /** Low bits of the base. */
  readonly alignment: number
  /** Offsets that the code before them goes on to: where zones of doubt begin. */
  readonly goesOnTo: ReadonlySet<number>
  readonly forms: Forms
  /** Bytes of the moved range, and where operands point that leave it. */
  readonly span: number
  readonly outside: OutsideTargets
}

/** The runs without what only reads like code. */
export function dropStrange(input: StrangeInput, runs: readonly number[]): number[] {
  const kept: number[] = []
  const likely = withoutSpecks(input, runs)
  for (let i = 0; i < likely.length; i += 2) checkRun(input, likely[i], likely[i + 1], kept)
  return kept
}

type SpeckInput = Pick<StrangeInput, 'marks' | 'goesOnTo' | 'alignment'>

/** The runs without those that chance makes of data. */
export function withoutSpecks(input: SpeckInput, runs: readonly number[]): number[] {
  const kept: number[] = []
  // Where the next run begins that is no speck, from the last one backwards.
  const next = new Float64Array(runs.length / 2).fill(Number.POSITIVE_INFINITY)
  for (let i = next.length - 2; i >= 0; i--)
    next[i] = runs[2 * i + 3] - runs[2 * i + 2] >= SPECK ? runs[2 * i + 2] : next[i + 1]
  for (let i = 0; i < runs.length; i += 2) {
    const [start, end] = [runs[i], runs[i + 1]]
    const before = start - (kept.length > 0 ? kept[kept.length - 1] : Number.NEGATIVE_INFINITY)
    const isLonely = Math.min(before, next[i >> 1] - end) > LONELY
    if (!isSpeck(input, start, end, isLonely)) kept.push(start, end)
  }
  return kept
}

const LED = Mark.target | Mark.entry

/**
 * A few instructions between data that nothing leads to, at no round address or far from all code: tables of
 * bytes hold thousands of them.
 */
function isSpeck(
  { marks, goesOnTo, alignment }: SpeckInput,
  start: number,
  end: number,
  isLonely: boolean,
): boolean {
  if (end - start >= SPECK || start === 0 || (marks[start] & (LED | Mark.given)) !== 0) return false
  if (((alignment + start) & 7) !== 0) return !goesOnTo.has(start)
  if (!isLonely) return false
  for (let away = 0; away <= LONELY; away++)
    if (goesOnTo.has(start - away) || goesOnTo.has(end + away)) return false
  return true
}

/** Whether the instruction at `offset` has a relative operand that points to a strange place. */
function isStrange({ forms, span, outside }: StrangeInput, offset: number): boolean {
  const target = forms.target(offset, forms.at(offset))
  return target !== undefined && (target < 0 || target > span) && outside.score(target) < 0
}

/** Adds what stays of the run [start, end) to `kept`. */
function checkRun(input: StrangeInput, start: number, end: number, kept: number[]): void {
  const { decoder, forms, marks, goesOnTo } = input
  const instruction = new Instruction()
  const isChance = end - start <= ISLAND && (marks[start] & (LED | Mark.given)) === 0
  let from = start
  // A blob begins with code if that reads like code.
  let led = start === 0 || goesOnTo.has(start)
  for (let at = start; at < end; at += forms.at(at) & Form.lengthMask) {
    if ((marks[at] & LED) !== 0) led = true
    if (!isStrange(input, at)) continue
    if (isChance) return
    if (!led) {
      // Nothing leads to the start of this run: it begins where something does.
      const begin = nextLed(marks, decoder, at, end)
      if (begin < 0) continue
      from = at = begin
      led = true
      continue
    }
    decoder.decode(at, instruction)
    const middle = markedInside(marks, at, instruction.length)
    // Behind a lock prefix it is the same instruction.
    if (middle === at + 1 && (instruction.prefixes & Prefix.lock) !== 0) continue
    if (middle < 0 || !meet(decoder, at + instruction.length, middle, end)) continue
    if (at > from) kept.push(from, at)
    from = at = middle
  }
  if (end > from) kept.push(from, end)
}

/** The first instruction behind the one at `at` that something leads to, or -1. */
function nextLed(marks: Uint8Array, decoder: InstructionDecoder, at: number, end: number): number {
  const instruction = new Instruction()
  for (let next = at + decoder.decode(at, instruction); next < end; next += decoder.decode(next, instruction))
    if ((marks[next] & LED) !== 0) return next
  return -1
}

/** Whether decoding from `a` and from `b` comes upon the same start, before or at `end`. */
export function meet(decoder: InstructionDecoder, a: number, b: number, end: number): boolean {
  const instruction = new Instruction()
  let [x, y] = [a, b]
  while (x !== y) {
    const length = decoder.decode(Math.min(x, y), instruction)
    if (length === 0) return false
    if (x < y) x += length
    else y += length
    if (Math.max(x, y) > end) return false
  }
  return true
}
