/** Programs that run native code: each in a process of its own, see `run.ts`. Results are plain JSON. */
import { readFileSync } from 'node:fs'
import { RelocError } from '../../../src/core/errors.ts'
import { CodeHeap } from '../../../src/heap/heap.ts'
import { nativeMemory } from '../../../src/heap/native/reservation.ts'
import type { Block } from '../../../src/heap/object.ts'

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
const evenOdd = (heap: CodeHeap): ReturnType<CodeHeap['addAll']> =>
  heap.addAll([
    { bytes: countdown(1, BASE, BASE + 0x100n), base: BASE, name: 'even' },
    { bytes: countdown(0, BASE + 0x100n, BASE), base: BASE + 0x100n, name: 'odd' },
  ])

const refusal = (work: () => unknown): string => {
  try {
    work()
    return 'none'
  } catch (error) {
    return error instanceof RelocError ? error.code : String(error)
  }
}

/** The mappings of heaps, and those of them that can be written and executed (V8's own code can). */
function mappings(): { readonly wx: string[]; readonly heap: string[] } {
  const heap = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('memfd:x64-reloc'))
  return { wx: heap.filter((line) => /^\S+ .w.?x/.test(line)), heap }
}

/** Calls between two objects that move over and over, together and one by one. */
export function cyclicCalls(): {
  readonly wrong: number
  readonly deep: string
  readonly violations: number
  readonly moved: number
} {
  const heap = new CodeHeap(nativeMemory<Block>({ size: 4 << 20 }))
  const filler = heap.add({ bytes: new Uint8Array(1000).fill(0xc3), base: BASE, name: 'filler' })
  const [even, odd] = evenOdd(heap)
  let wrong = 0
  let moved = 0
  const check = (): void => {
    for (let n = 0n; n < 20n; n++)
      if (heap.call(even, [n]) !== (n + 1n) % 2n || heap.call(odd, [n]) !== n % 2n) wrong++
  }
  check()
  for (let round = 0; round < 200; round++) {
    const mode = round % 3 === 0 ? 'drain' : 'slide'
    if (round % 2 === 0)
      heap.move(round % 4 === 0 ? even : odd, {
        mode,
        to: heap.reservation.start + BigInt(0x10000 + 64 * round),
      })
    else moved += heap.compact({ mode }).moves.length
    check()
  }
  heap.free(filler)
  moved += heap.compact().moves.length
  const deep = heap.call(even, [10_000n]).toString()
  return { wrong, deep, violations: heap.verify().length, moved }
}

/** What the views allow, inside and outside a scope, and that nothing is ever writable and executable. */
export function protection(): {
  readonly outside: string[]
  readonly inside: string[]
  readonly wx: number
  readonly refusals: string[]
  readonly mapsGrowth: number
} {
  const memory = nativeMemory<Block>({ size: 4 << 20 })
  const heap = new CodeHeap(memory)
  const [even, odd] = evenOdd(heap)
  const access = (): string[] => mappings().heap.map((line) => line.split(' ')[1])
  let wx = mappings().wx.length
  let inside: string[] = []
  const refusals: string[] = []
  const position = Number(heap.entry(even) - memory.base)
  memory.write(position, position + 32, (writer) => {
    inside = access()
    wx += mappings().wx.length
    refusals.push(
      refusal(() => writer.write(position + 16, new Uint8Array(4))),
      refusal(() => writer.write(position, new Uint8Array(64))),
      refusal(() => writer.write(0x10000, new Uint8Array(4))),
      refusal(() => writer.poison(position, 16)),
      refusal(() => memory.write(0, 16, () => undefined)),
    )
  })
  refusals.push(refusal(() => nativeMemory({ size: 4096, base: memory.base })))
  const before = mappings().heap.length
  for (let i = 0; i < 300; i++) {
    heap.move(even, { to: memory.base + BigInt(0x8000 + 32 * (i % 50)) })
    heap.move(odd, { to: memory.base + BigInt(0xc000 + 32 * (i % 50)) })
    heap.compact()
    wx += mappings().wx.length
  }
  return { outside: access(), inside, wx, refusals, mapsGrowth: mappings().heap.length - before }
}

/** A stub that never moves, called by address while its target moves. */
export function stableEntry(): string[] {
  const memory = nativeMemory<Block>({ size: 1 << 20 })
  const heap = new CodeHeap(memory)
  const [even] = evenOdd(heap)
  const stub = heap.stableEntry(even)
  const results: string[] = []
  for (const to of [0x8000n, 0x4000n, 0x20000n]) {
    heap.move(even, { to: memory.base + to })
    results.push(memory.call!(stub, [6n]).toString(), memory.call!(stub, [7n]).toString())
  }
  return results
}
