/** What several programs are made of. */
import { RelocError } from '../../../src/core/errors.ts'
import type { CodeHeap } from '../../../src/heap/heap.ts'

const BASE = 0x1000_0000n

/** `n == 0 ? value : other(n - 1)`, as a call that is not a tail call. 23 bytes. */
function countdown(value: number, from: bigint, other: bigint): Uint8Array {
  const bytes = Uint8Array.of(
    ...[0x48, 0x85, 0xff], // test rdi, rdi
    ...[0x74, 0x09], // jz +9
    ...[0x48, 0xff, 0xcf], // dec rdi
    ...[0xe8, 0, 0, 0, 0], // call other
    0xc3,
    ...[0xb8, value, 0, 0, 0], // mov eax, value
    0xc3,
  )
  new DataView(bytes.buffer).setInt32(9, Number(other - (from + 13n)), true)
  return bytes
}

/** even(n) and odd(n), which call each other. */
export const evenOdd = (heap: CodeHeap): ReturnType<CodeHeap['addAll']> =>
  heap.addAll([
    { bytes: countdown(1, BASE, BASE + 0x100n), base: BASE, name: 'even' },
    { bytes: countdown(0, BASE + 0x100n, BASE), base: BASE + 0x100n, name: 'odd' },
  ])

export const refusal = (work: () => unknown): string => {
  try {
    work()
    return 'none'
  } catch (error) {
    return error instanceof RelocError ? error.code : String(error)
  }
}
