/**
 * What a value looks like, apart from where it points: round numbers, text, pairs of small numbers, and what
 * stands beside a word of data.
 */
import type { Window } from './window.ts'

/**
 * Evidence that a value is a number for people: a power of two, or one less, a multiple of 2^16 or 10^4, two
 * equal halves.
 */
export function roundness(low: number, high: number): number {
  if (high !== 0 || low < 0x1_0000) return 0
  if ((low & (low - 1)) === 0 || (low & (low + 1)) === 0) return low <= 0x40_0000 ? -9.5 : -6
  if ((low & 0xffff) === 0 || ((low + 1) & 0xffff) === 0) return low < 0x100_0000 ? -4 : -1.5
  // Half of the bits agree by chance once in 65,536 times.
  if (low >>> 16 === (low & 0xffff)) return -12
  if (low % 100_000 === 0) return -6
  if (low % 10_000 === 0) return -2
  return (low & 0xfff) === 0 ? -1 : 0
}

const isPrintable = (byte: number): boolean => byte >= 0x20 && byte < 0x7f

/** Whether the three low bytes are printable, and the fourth is or is zero. */
function isText(low: number): boolean {
  const last = low >>> 24
  const low3 = isPrintable(low & 0xff) && isPrintable((low >>> 8) & 0xff) && isPrintable((low >>> 16) & 0xff)
  return low3 && (last === 0 || isPrintable(last))
}

/** How many printable bytes, line ends among them, stand right before `offset`: at most 8. */
function textBefore(view: DataView, offset: number): number {
  let count = 0
  for (let at = offset - 1; at >= 0 && count < 8; at--, count++) {
    const byte = view.getUint8(at)
    if (!isPrintable(byte) && byte !== 9 && byte !== 10) break
  }
  return count
}

/** Whether the text before `offset` ends there, by the byte in front of it that counts it (Pascal). */
function isCounted(view: DataView, offset: number): boolean {
  let start = offset - 1
  while (start >= 0 && offset - start <= 255 && isPrintable(view.getUint8(start))) start--
  return start >= 0 && view.getUint8(start) === offset - 1 - start
}

/** Whether the 16 bits at `offset` are a small number that is not 0, or a letter: 1 to 255. */
const isSmallUnit = (view: DataView, offset: number): boolean =>
  view.getUint8(offset) !== 0 && view.getUint8(offset + 1) === 0

/** How many such units stand right before `offset`: at most 4. */
function unitsBefore(view: DataView, offset: number): number {
  let count = 0
  for (let at = offset - 2; at >= 0 && count < 4 && isSmallUnit(view, at); at -= 2) count++
  return count
}

/**
 * Evidence against words that are text, equal bytes, or two small numbers. `whole`: of 8 bytes, the upper 4
 * of them 0 behind a text.
 */
export function wordLooks(view: DataView, offset: number, low: number, high: number, whole: boolean): number {
  if (high !== 0) return high < 0x100 && low < 0x1_0000 ? -6 : 0
  let evidence = 0
  // The last word of a text goes on where it stands before: behind 8 such bytes 26 words were text, and 5 of
  // 113,000 pointers looked so.
  if (whole && isText(low)) {
    const before = textBefore(view, offset)
    if (before >= 4 && !isCounted(view, offset)) evidence -= before === 8 ? 10 : 5
  }
  // So does the last word of small 16-bit numbers, or of text in UTF-16.
  if (isSmallUnit(view, offset) && isSmallUnit(view, offset + 2)) {
    const before = unitsBefore(view, offset)
    evidence -= before === 4 ? 10 : before >= 2 ? 5 : 0
  }
  const [b0, b1, b2] = [low & 0xff, (low >>> 8) & 0xff, (low >>> 16) & 0xff]
  if (b0 === b1 && b1 === b2) evidence -= 10
  return evidence
}

/** Evidence of the neighbours: pointers stand beside pointers. `size` is 8 or 4 bytes. */
export function neighbours(view: DataView, window: Window, offset: number, size: number): number {
  let beside = 0
  for (const step of [-2 * size, -size, size, 2 * size]) {
    const at = offset + step
    if (at < 0 || at + size > view.byteLength) continue
    const low = view.getUint32(at, true)
    const high = size === 8 ? view.getUint32(at + 4, true) : 0
    if (window.has(low, high) && roundness(low, high) === 0) beside += 2
  }
  if (beside === 0) return size === 8 ? -1.5 : 0
  return Math.min(beside, size === 8 ? 4 : 8)
}
