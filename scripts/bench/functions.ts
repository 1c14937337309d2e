/** Cuts compiled code into what are most likely its functions, without symbols. */
import { sweep } from '../../src/x86/sweep.ts'

/** int3, or a nop of one to many bytes. */
function isPadding(text: Uint8Array, at: number): boolean {
  while (text[at] === 0x66 || text[at] === 0x2e) at++
  return text[at] === 0xcc || text[at] === 0x90 || (text[at] === 0x0f && text[at + 1] === 0x1f)
}

/** Does an instruction that starts with this byte end a function: ret, jmp? */
const endsFunction = (byte: number): boolean => byte === 0xc3 || byte === 0xe9 || byte === 0xeb

/** Branches over more bytes than this lead to another function, or are none. */
const FARTHEST = 1 << 14

/** The target of a conditional or a short branch, else -1. */
function innerTarget(view: DataView, start: number, end: number): number {
  const [first, second] = [view.getUint8(start), view.getUint8(Math.min(start + 1, end - 1))]
  if ((first & 0xf0) === 0x70 || first === 0xeb) return end + view.getInt8(end - 1)
  return first === 0x0f && (second & 0xf0) === 0x80 ? end + view.getInt32(end - 4, true) : -1
}

/**
 * Start and end of each: from a boundary of 16 bytes to the first `ret` or `jmp` that no branch before it
 * passes and that padding or another boundary follows, in whole instructions by linear decoding. What no such
 * end closes is left out.
 */
export function functionsOf(text: Uint8Array): Uint32Array {
  const { starts } = sweep(text)
  const view = new DataView(text.buffer, text.byteOffset, text.byteLength)
  const found: number[] = []
  let start = -1
  let furthest = 0
  for (let i = 1; i < starts.length; i++) {
    const [before, at] = [starts[i - 1], starts[i]]
    if (start >= 0) {
      const target = innerTarget(view, before, at)
      if (target < at + FARTHEST) furthest = Math.max(furthest, target)
      if (endsFunction(text[before]) && at > furthest && (at % 16 === 0 || isPadding(text, at))) {
        found.push(start, at)
        start = -1
      }
    }
    if (start < 0 && at % 16 === 0 && !isPadding(text, at)) start = at
  }
  return Uint32Array.from(found)
}
