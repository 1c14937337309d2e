/** Programs that run native code: each in a process of its own, see `run.ts`. Results are plain JSON. */
import { readFileSync } from 'node:fs'
import { CodeHeap } from '../../../src/heap/heap.ts'
import { NativeMemory } from '../../../src/heap/native/memory.ts'
import { JitDump, PerfMap } from '../../../src/heap/native/perf.ts'
import { nativeMemory } from '../../../src/heap/native/reservation.ts'
import type { Block } from '../../../src/heap/object.ts'
import { evenOdd, refusal } from './parts.ts'

const BASE = 0x1000_0000n

/** The mappings of heaps, and those of them that can be written and executed (V8's own code can). */
function mappings(): { readonly wx: string[]; readonly heap: string[] } {
  const heap = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('memfd:x64-reloc '))
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

const imm64 = (value: bigint): number[] => [...new Uint8Array(new BigUint64Array([value]).buffer)]
const rel32 = (bytes: number[], at: number, from: bigint, to: bigint): Uint8Array => {
  const code = Uint8Array.from(bytes)
  new DataView(code.buffer).setInt32(at, Number(to - (from + BigInt(at + 4))), true)
  return code
}

/**
 * outer(a, b) = inner() + a + b, with a frame by push and sub; inner calls `callee` from a frame that only rbp finds.
 */
function outerInner(heap: CodeHeap, callee: bigint): ReturnType<CodeHeap['addAll']> {
  const outer = [
    ...[0x53, 0x48, 0x83, 0xec, 0x10], // push rbx; sub rsp, 16
    ...[0x48, 0x89, 0xfb, 0x48, 0x89, 0x34, 0x24], // mov rbx, rdi; mov [rsp], rsi
    ...[0xe8, 0, 0, 0, 0], // call inner
    ...[0x48, 0x01, 0xd8, 0x48, 0x03, 0x04, 0x24], // add rax, rbx; add rax, [rsp]
    ...[0x48, 0x83, 0xc4, 0x10, 0x5b, 0xc3], // add rsp, 16; pop rbx; ret
  ]
  const inner = [
    ...[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xe4, 0xf0], // push rbp; mov rbp, rsp; and rsp, -16
    ...[0x48, 0xb8, ...imm64(callee), 0xff, 0xd0], // mov rax, callee; call rax
    ...[0xc9, 0xc3], // leave; ret
  ]
  return heap.addAll([
    { bytes: rel32(outer, 13, BASE, BASE + 0x100n), base: BASE, name: 'outer' },
    { bytes: Uint8Array.from(inner), base: BASE + 0x100n, name: 'inner' },
  ])
}

export interface LiveMove {
  readonly result: string
  readonly after: string
  readonly moved: number
  /** The old places, while the call was running. */
  readonly old: 'poison' | 'code' | 'mixed'
  readonly draining: number
  readonly oldAfter: 'poison' | 'code' | 'mixed'
  readonly violations: number
  readonly kept: string[]
}

/** JavaScript, called back by code of the heap, compacts the heap under it. */
function liveMove(mode: 'slide' | 'drain'): LiveMove {
  const memory = nativeMemory<Block>({ size: 1 << 20 })
  const heap = new CodeHeap(memory)
  let work: () => bigint = () => 0n
  const callee = heap.callback(() => work(), 0)
  const filler = heap.add({ bytes: new Uint8Array(2000).fill(0xc3), base: BASE, name: 'filler' })
  const [outer, inner] = outerInner(heap, callee)
  heap.free(filler)
  const places = [outer, inner].map((handle) => Number(heap.entry(handle) - memory.base))
  const look = (): LiveMove['old'] => {
    const bytes = places.map((place) => memory.bytes[place] === 0xcc)
    return bytes.every(Boolean) ? 'poison' : bytes.some(Boolean) ? 'mixed' : 'code'
  }
  const seen = { moved: 0, old: 'mixed' as LiveMove['old'], draining: 0, violations: 0, kept: [] as string[] }
  work = () => {
    const report = heap.compact({ mode })
    seen.moved = report.moves.length
    seen.kept = report.kept.map(({ handle, reason }) => `${handle.name}: ${reason}`)
    seen.old = look()
    seen.draining = heap.drain()
    seen.violations = heap.verify().length
    return 1000n
  }
  const result = heap.call(outer, [30n, 4n]).toString()
  work = () => 7n
  const after = heap.call(outer, [1n, 2n]).toString()
  const done = { ...seen, result, after, oldAfter: look() }
  return { ...done, violations: done.violations + heap.verify().length }
}

export const liveSlide = (): LiveMove => liveMove('slide')
export const liveDrain = (): LiveMove => liveMove('drain')

/** even and odd, 10,000 frames deep, that call back at the bottom, where the heap is compacted. */
export function deepSlide(): {
  readonly result: string
  readonly moved: number
  readonly violations: number
  readonly milliseconds: number
} {
  const heap = new CodeHeap(nativeMemory<Block>({ size: 1 << 20 }))
  const seen = { moved: 0, violations: 0, milliseconds: 0 }
  const callee = heap.callback(() => {
    const start = performance.now()
    seen.moved = heap.compact().moves.length
    seen.milliseconds = performance.now() - start
    seen.violations = heap.verify().length
    return 5n
  }, 0)
  const half = (from: bigint, other: bigint): Uint8Array => {
    const head = [0x48, 0x85, 0xff, 0x74, 0x09, 0x48, 0xff, 0xcf, 0xe8, 0, 0, 0, 0, 0xc3]
    // At the bottom: push rbx; mov rax, callee; call rax; pop rbx; ret
    return rel32([...head, 0x53, 0x48, 0xb8, ...imm64(callee), 0xff, 0xd0, 0x5b, 0xc3], 9, from, other)
  }
  const filler = heap.add({ bytes: new Uint8Array(2000).fill(0xc3), base: BASE, name: 'filler' })
  const [even] = heap.addAll([
    { bytes: half(BASE, BASE + 0x100n), base: BASE, name: 'even' },
    { bytes: half(BASE + 0x100n, BASE), base: BASE + 0x100n, name: 'odd' },
  ])
  heap.free(filler)
  const result = heap.call(even, [10_000n]).toString()
  return { result, ...seen }
}

/**
 * What pins: a frame that cannot be walked, and a code pointer in a saved register. `outer` keeps the address
 * of `data` in rbx and lowers rsp by a register, so that nobody knows where its caller's return address is;
 * `inner` calls back.
 */
export function pinnedFrames(): {
  readonly result: string
  readonly kept: string[]
  readonly moved: string[]
  readonly refused: string
} {
  const memory = nativeMemory<Block>({ size: 1 << 20 })
  const heap = new CodeHeap(memory)
  const seen = { kept: [] as string[], moved: [] as string[], refused: '' }
  let callee = 0n
  callee = heap.callback(() => {
    const { kept, moves } = heap.compact()
    seen.kept = kept.map(({ handle, reason }) => `${handle.name}: ${reason}`)
    seen.moved = moves.map(({ handle }) => handle.name)
    return 1n
  }, 0)
  const filler = heap.add({ bytes: new Uint8Array(2000).fill(0xc3), base: BASE, name: 'filler' })
  const inner = Uint8Array.from([0x53, 0x48, 0xb8, ...imm64(callee), 0xff, 0xd0, 0x5b, 0xc3])
  const bytes = [
    ...[0x53, 0x48, 0x8d, 0x1d, 0, 0, 0, 0], // push rbx; lea rbx, [rip + pointed]
    ...[0x4c, 0x29, 0xe4], // sub rsp, r12
    ...[0xe8, 0, 0, 0, 0], // call inner
    ...[0x48, 0x03, 0x03, 0x4c, 0x01, 0xe4, 0x5b, 0xc3], // add rax, [rbx]; add rsp, r12; pop rbx; ret
  ]
  const outer = rel32(bytes, 12, BASE, BASE + 0x100n)
  new DataView(outer.buffer).setInt32(4, 0x200 - 8, true)
  const setup = rel32(
    [0x41, 0x54, 0x41, 0xbc, 0x10, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x41, 0x5c, 0xc3], // push r12; mov r12d, 16; call outer; pop r12; ret
    9,
    BASE + 0x300n,
    BASE,
  )
  const [, , , start] = heap.addAll([
    { bytes: outer, base: BASE, name: 'outer' },
    { bytes: inner, base: BASE + 0x100n, name: 'inner' },
    {
      bytes: Uint8Array.of(41, 0, 0, 0, 0, 0, 0, 0),
      base: BASE + 0x200n,
      name: 'pointed',
      hints: { ranges: [{ start: 0, end: 8, kind: 'data' }] },
      entries: [],
    },
    { bytes: setup, base: BASE + 0x300n, name: 'setup' },
    { bytes: Uint8Array.of(0xc3), base: BASE + 0x400n, name: 'free' },
  ])
  heap.free(filler)
  const result = heap.call(start).toString()
  const release = heap.hold()
  seen.refused = refusal(() => heap.compact())
  release()
  return { result, ...seen }
}

/**
 * Spins at one place, moves, spins at another, all the while a jitdump is written into the directory given as
 * the next argument.
 */
export function profiled(): { readonly from: string; readonly to: string; readonly path: string } {
  const dump = new JitDump(process.argv[3])
  const heap = new CodeHeap(nativeMemory<Block>({ size: 1 << 20 }), { sideTables: [dump] })
  // mov rcx, rdi; 1: dec rcx; jnz 1b; ret
  const bytes = Uint8Array.of(0x48, 0x89, 0xf9, 0x48, 0xff, 0xc9, 0x75, 0xfb, 0xc3)
  const spin = heap.add({ bytes, base: BASE, name: 'spinning' })
  const from = heap.entry(spin)
  heap.call(spin, [300_000_000n])
  heap.move(spin, { to: from + 0x8000n })
  heap.call(spin, [300_000_000n])
  dump.close()
  return { from: from.toString(16), to: heap.entry(spin).toString(16), path: dump.path }
}

/** A heap beside C functions that it calls with 32 bits; and what a far one says. */
export function nearby(): {
  readonly distances: number[]
  readonly results: string[]
  readonly apart: string
  readonly far: string
} {
  const outside = new NativeMemory()
  // mov eax, n; ret
  const functions = [0x1234_5678_0000n, 0x1234_5678_0000n + 0x7000_0000n].map((address, i) => {
    outside.map(address, 4096)
    outside.write(address, Uint8Array.of(0xb8, 41 + i, 0, 0, 0, 0xc3))
    outside.protect(address, 4096, 'rx')
    return address
  })
  const memory = nativeMemory<Block>({ size: 16 << 20, near: functions })
  const heap = new CodeHeap(memory)
  const { start, end } = heap.reservation
  const distances = functions.flatMap((address) => [start, end].map((edge) => Number(edge - address)))
  // sub rsp, 8; call address; add rsp, 8; ret
  const call = (address: bigint): Uint8Array =>
    rel32([0x48, 0x83, 0xec, 8, 0xe8, 0, 0, 0, 0, 0x48, 0x83, 0xc4, 8, 0xc3], 5, start - 0x1000n, address)
  const add = (address: bigint): ReturnType<CodeHeap['add']> =>
    heap.add({ bytes: call(address), base: start - 0x1000n, name: 'caller' })
  const callers = functions.map(add)
  const results: string[] = []
  for (const to of [start + 0x1000n, end - 0x1000n])
    callers.forEach((handle, i) => {
      heap.move(handle, { to: to + BigInt(0x100 * i) })
      results.push(heap.call(handle).toString())
    })
  let far = ''
  try {
    const base = start + 0x6000_0000n
    heap.add({ bytes: rel32([0xe8, 0, 0, 0, 0, 0xc3], 1, base, start + 0xb000_0000n), base, name: 'far' })
  } catch (error) {
    far = String(error)
  }
  const apart = refusal(() => nativeMemory({ near: [functions[0], functions[0] + 0x1_2000_0000n] }))
  return { distances, results, apart, far }
}

/** Moves and then spins, with a perf map of it. */
export function mapped(): { readonly at: string; readonly path: string } {
  const map = new PerfMap()
  const heap = new CodeHeap(nativeMemory<Block>({ size: 1 << 20, views: 1 }), { sideTables: [map] })
  const bytes = Uint8Array.of(0x48, 0x89, 0xf9, 0x48, 0xff, 0xc9, 0x75, 0xfb, 0xc3)
  const spin = heap.add({ bytes, base: BASE, name: 'spinning there' })
  heap.move(spin, { to: heap.entry(spin) + 0x8000n })
  heap.call(spin, [300_000_000n])
  map.close()
  return { at: heap.entry(spin).toString(16), path: map.path }
}

/** What callees return that fits in no register, or is no integer, and one that returns nothing. */
export function strangeResults(): string[] {
  const heap = new CodeHeap(nativeMemory<Block>())
  return [-1n, undefined, 2n ** 64n, 5, true, 'x'].map((value) => {
    const address = new Uint8Array(BigUint64Array.of(heap.callback(() => value as bigint, 0)).buffer)
    const bytes = Uint8Array.of(0x53, 0x48, 0xb8, ...address, 0xff, 0xd0, 0x5b, 0xc3)
    const caller = heap.add({ bytes, base: BASE })
    let result = ''
    const code = refusal(() => {
      result = heap.call(caller).toString(16)
    })
    return result === '' ? code : result
  })
}

/** A callee that closes the heap that it is called from, and the use of a heap that is closed. */
export function closing(): { readonly running: string; readonly result: string; readonly after: string } {
  const heap = new CodeHeap(nativeMemory<Block>())
  let running = ''
  const callee = heap.callback(() => {
    running = refusal(() => heap.close())
    return 7n
  }, 0)
  const address = new Uint8Array(BigUint64Array.of(callee).buffer)
  // push rbx; mov rax, callee; call rax; pop rbx; ret
  const bytes = Uint8Array.of(0x53, 0x48, 0xb8, ...address, 0xff, 0xd0, 0x5b, 0xc3)
  const caller = heap.add({ bytes, base: BASE })
  const result = heap.call(caller).toString()
  heap.close()
  return { running, result, after: refusal(() => heap.call(caller)) }
}
