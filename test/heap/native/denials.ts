/**
 * Programs on a system that refuses: by seccomp, by limits, by an injected table of calls. Each runs in a
 * process of its own, see `run.ts`.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { RelocError } from '../../../src/core/errors.ts'
import { CodeHeap } from '../../../src/heap/heap.ts'
import type { HeapMemory } from '../../../src/heap/memory.ts'
import { type Libc, type Machine, THIS_MACHINE } from '../../../src/heap/native/machine.ts'
import { nativeMemory } from '../../../src/heap/native/reservation.ts'
import type { Block } from '../../../src/heap/object.ts'
import { evenOdd, refusal } from './parts.ts'

const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
const libc = koffi.load(null)
const prctl = libc.func('int prctl(int, uint64_t, uint64_t, uint64_t, uint64_t)')
const setrlimit = libc.func('int setrlimit(int, void *)')
const waitpid = libc.func('int waitpid(int, void *, int)')

const EPERM = 1
const ENOMEM = 12
const RLIMIT_AS = 9
const EACCES = 13
const MPROTECT = 10
const MEMFD_CREATE = 319
const MEMBARRIER = 324

/** A system call that fails, where the arguments named (by index) have these values. */
interface Denial {
  readonly call: number
  readonly where?: readonly (readonly [index: number, value: number])[]
  readonly errno: number
}

/** From now on the kernel denies these to this thread (seccomp, a filter in classic BPF). There is no way back. */
function deny(...denials: readonly Denial[]): void {
  const program: (readonly [code: number, ifTrue: number, ifFalse: number, constant: number])[] = []
  for (const { call, where = [], errno } of denials) {
    program.push([0x20, 0, 0, 0], [0x15, 0, 1 + 2 * where.length, call])
    where.forEach(([index, value], i) => {
      program.push([0x20, 0, 0, 16 + 8 * index], [0x15, 0, 2 * (where.length - i) - 1, value])
    })
    program.push([0x06, 0, 0, 0x50000 | errno])
  }
  program.push([0x06, 0, 0, 0x7fff0000])
  const filter = Buffer.alloc(8 * program.length)
  program.forEach(([code, ifTrue, ifFalse, constant], i) => {
    filter.writeUInt16LE(code, 8 * i)
    filter[8 * i + 2] = ifTrue
    filter[8 * i + 3] = ifFalse
    filter.writeUInt32LE(constant >>> 0, 8 * i + 4)
  })
  const header = Buffer.alloc(16)
  header.writeUInt16LE(program.length, 0)
  header.writeBigUInt64LE(koffi.address(filter), 8)
  if (prctl(38, 1, 0, 0, 0) !== 0 || prctl(22, 2, koffi.address(header), 0, 0) !== 0)
    throw new Error('seccomp is not to be had here')
}

/** What this process holds of the system: mappings that are a heap's or look like one, and descriptors. */
const holdings = (): string[] => [
  ...readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('memfd:x64-reloc')),
  ...readdirSync('/proc/self/fd'),
]

/** What pages of a reservation allow, each access once. */
function accessOf({ base, size }: HeapMemory<Block>): string[] {
  const lines = readFileSync('/proc/self/maps', 'utf8').split('\n')
  const found = lines.flatMap((line) => {
    const [, from, to, access] = /^([0-9a-f]+)-([0-9a-f]+) (\S+)/.exec(line) ?? []
    if (from === undefined) return []
    return BigInt(`0x${from}`) < base + BigInt(size) && BigInt(`0x${to}`) > base ? [access] : []
  })
  return [...new Set(found)].sort()
}

export interface Survival {
  readonly oneThread: string | undefined
  /** Calls with a wrong result. */
  readonly wrong: number
  readonly moved: number
  /** What the reservation allows outside a write scope, and inside one. */
  readonly outside: string[]
  readonly inside: string[]
  readonly violations: number
  /** A call that compacts the heap under itself. */
  readonly live: string
  /** `hold`. */
  readonly held: string
}

/** Calls, moves, and a compaction under a running call. */
function survive(): Survival {
  const memory = nativeMemory<Block>({ size: 4 << 20 })
  const heap = new CodeHeap(memory)
  const filler = heap.add({ bytes: new Uint8Array(5000).fill(0xc3), base: 0x1000n })
  const [even, odd] = evenOdd(heap)
  let wrong = 0
  let moved = 0
  const check = (): void => {
    for (let n = 0n; n < 8n; n++)
      if (heap.call(even, [n]) !== (n + 1n) % 2n || heap.call(odd, [n]) !== n % 2n) wrong++
  }
  for (let i = 0; i < 20; i++) {
    heap.move(i % 2 === 0 ? even : odd, { to: memory.base + BigInt(0x4000 + 0x1040 * i) })
    check()
  }
  heap.free(filler)
  let inside: string[] = []
  memory.write(0, 16, () => {
    inside = accessOf(memory)
  })
  moved += heap.compact().moves.length
  check()
  const back = heap.callback((x) => {
    moved += heap.compact().moves.length
    return x + 1n
  }, 1)
  const hole = heap.add({ bytes: new Uint8Array(500).fill(0xc3), base: 0x1000n })
  const imm64 = [...new Uint8Array(new BigUint64Array([back]).buffer)]
  const caller = heap.add({
    bytes: Uint8Array.of(0x50, 0x48, 0xb8, ...imm64, 0xff, 0xd0, 0x59, 0xc3), // push rax; mov rax, back; call rax; pop rcx; ret
    base: 0x1000n,
  })
  heap.free(hole)
  const live = heap.call(caller, [41n]).toString()
  const held = refusal(() => heap.hold()())
  return {
    oneThread: memory.oneThread,
    wrong,
    moved,
    outside: accessOf(memory),
    inside,
    violations: heap.verify().length,
    live,
    held,
  }
}

/** No anonymous files: pages that are written and executed in turn. */
export function survivesWithoutFiles(): Survival {
  deny({ call: MEMFD_CREATE, errno: EPERM })
  return survive()
}

/** No membarrier. */
export function survivesWithoutBarrier(): Survival {
  deny({ call: MEMBARRIER, errno: EPERM })
  return survive()
}

/**
 * PR_SET_MDWE: no page is ever writable and executable, and none becomes executable. Node has to run with --jitless.
 */
export function survivesWithoutGain(): Survival & { readonly without: string } {
  if (prctl(65, 1, 0, 0, 0) !== 0) throw new Error('this kernel has no PR_SET_MDWE')
  const survived = survive()
  deny({ call: MEMFD_CREATE, errno: EPERM })
  return { ...survived, without: refusal(() => nativeMemory()) }
}

export const hasMdwe = (): boolean => prctl(66, 0, 0, 0, 0) === 0

/** Address space ends; nothing may become executable: what is thrown, and what of it stays. */
export function refuses(): { readonly codes: string[]; readonly messages: string[]; readonly left: number } {
  const before = holdings().length
  const codes: string[] = []
  const messages: string[] = []
  const attempt = (size: number): void => {
    try {
      nativeMemory({ size }).close()
      codes.push('none')
    } catch (error) {
      codes.push(error instanceof RelocError ? error.code : 'another')
      messages.push(String(error))
    }
  }
  const used = /^VmSize:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]
  const limit = (bytes: bigint): number =>
    setrlimit(RLIMIT_AS, new BigUint64Array([bytes, (1n << 64n) - 1n])) as number
  limit(BigInt(used) * 1024n + (256n << 20n))
  attempt(1 << 30)
  limit((1n << 64n) - 1n)
  attempt(1 << 30)
  deny({ call: MEMFD_CREATE, errno: EPERM }, { call: MPROTECT, where: [[2, 5]], errno: EACCES })
  attempt(1 << 20)
  return { codes, messages, left: holdings().length - before }
}

/** A heap whose writable view the system opens no more: what changes is refused, what is there runs. */
export function deniedLater(): {
  readonly codes: string[]
  readonly results: string[]
  readonly violations: number
  readonly deallocs: number
} {
  const seen = { deallocs: 0 }
  const sideTables = [{ onAdd: () => {}, onMove: () => {}, onDealloc: () => void seen.deallocs++ }]
  const heap = new CodeHeap(nativeMemory<Block>({ size: 1 << 20 }), { sideTables })
  const filler = heap.add({ bytes: new Uint8Array(500).fill(0xc3), base: 0x1000n })
  const [even] = evenOdd(heap)
  // Whole pages one by one: V8 opens longer ones for itself.
  const one = [
    [1, 4096],
    [2, 3],
  ] as const
  deny({ call: MPROTECT, where: one, errno: ENOMEM })
  const codes = [
    refusal(() => heap.add({ bytes: Uint8Array.of(0xc3), base: 0x1000n })),
    refusal(() => heap.move(even)),
    refusal(() => heap.stableEntry(even)),
    refusal(() => heap.callback(() => 0n, 0)),
    refusal(() => heap.free(filler)),
    refusal(() => heap.entry(filler)),
    refusal(() => heap.compact()),
  ]
  const results = [4n, 5n].map((n) => heap.call(even, [n]).toString())
  return { codes, results, violations: heap.verify().length, ...seen }
}

/** The calls of a machine, of which the `failing`-th of each program fails with ENOMEM. */
function failingMachine(failing: number): { readonly machine: Machine; readonly calls: () => number } {
  let count = 0
  let failed = false
  const guard =
    <A extends unknown[], R>(call: (...args: A) => R, failure: R) =>
    (...args: A): R => {
      failed = ++count === failing
      return failed ? failure : call(...args)
    }
  const libc = (real: Libc): Libc => ({
    ...real,
    mmap: guard(real.mmap, (1n << 64n) - 1n),
    munmap: guard(real.munmap, -1),
    mprotect: guard(real.mprotect, -1),
    madvise: guard(real.madvise, -1),
    memfd_create: guard(real.memfd_create, -1),
    ftruncate: guard(real.ftruncate, -1),
    membarrier: guard(real.membarrier, -1),
    errno: () => (failed ? ENOMEM : real.errno()),
  })
  return {
    machine: { ...THIS_MACHINE, libc: (loaded) => libc(THIS_MACHINE.libc(loaded)) },
    calls: () => count,
  }
}

/** One program, again and again, each time with a later call to the system failing, until none does. */
export function everyCallFails(): {
  readonly programs: number
  readonly refused: number
  readonly wrong: string[]
  readonly left: number
} {
  const wrong: string[] = []
  let refused = 0
  const before = holdings().length
  for (let failing = 1; ; failing++) {
    const { machine, calls } = failingMachine(failing)
    const check = (what: string, holds: boolean): void => {
      if (!holds) wrong.push(`${what}, with call ${failing} failing`)
    }
    /** Does `work`; where it is refused the heap must be whole, and doing it again must help. */
    const insist = <R>(what: string, work: () => R, whole: () => boolean): R => {
      try {
        return work()
      } catch (error) {
        refused++
        check(`${what}: ${String(error)}`, error instanceof RelocError && error.code === 'unsupported')
        check(`${what}: not whole`, whole())
        return work()
      }
    }
    const clean = (): boolean => holdings().length === before
    const memory = insist('nativeMemory', () => nativeMemory<Block>({ size: 3 << 20 }, machine), clean)
    const heap = insist(
      'CodeHeap',
      () => new CodeHeap(memory),
      () => memory.registry.count === 0,
    )
    const whole = (): boolean => heap.verify().length === 0
    const big = new Uint8Array(1_200_000)
    const ranges = [{ start: 0, end: big.length, kind: 'data' as const }]
    const filler = insist(
      'add',
      () => heap.add({ bytes: big, base: 0x1000n, entries: [], hints: { ranges } }),
      whole,
    )
    const [even, odd] = insist('addAll', () => evenOdd(heap), whole)
    const right = (): boolean => [0n, 1n, 2n, 3n].every((n) => heap.call(even, [n]) === (n + 1n) % 2n)
    const run = (): void => check('a result', insist('call', right, whole))
    run()
    insist('stableEntry', () => heap.stableEntry(odd), whole)
    heap.free(filler)
    check('after free', whole())
    insist('compact', () => heap.compact(), whole)
    run()
    insist('move', () => heap.move(even, { mode: 'drain' }), whole)
    run()
    check('at the end', whole())
    insist(
      'close',
      () => heap.close(),
      () => true,
    )
    check('left', clean())
    if (calls() < failing) return { programs: failing, refused, wrong, left: holdings().length - before }
  }
}

/** Code that forks; the child writes where the parent's writable view is, open. */
export function forked(): { readonly signal: number; readonly same: boolean } {
  const memory = nativeMemory<Block>({ size: 1 << 20 })
  const heap = new CodeHeap(memory)
  // push rbx; mov rbx, rdi; mov eax, 57 (fork); syscall; test eax, eax; jnz 1f; mov byte [rbx], 0x90; mov
  // eax, 60 (exit); syscall; 1: pop rbx; ret
  const fork = heap.add({
    bytes: Uint8Array.of(
      ...[0x53, 0x48, 0x89, 0xfb, 0xb8, 57, 0, 0, 0, 0x0f, 0x05, 0x85, 0xc0, 0x75, 0x0a],
      ...[0xc6, 0x03, 0x90, 0xb8, 60, 0, 0, 0, 0x0f, 0x05, 0x5b, 0xc3],
    ),
    base: 0x1000n,
  })
  const line = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .find((text) => text.includes('memfd:x64-reloc') && !text.startsWith(memory.base.toString(16)))
  const alias = BigInt(`0x${/^[0-9a-f]+/.exec(line ?? '')?.[0]}`)
  const before = memory.bytes.slice(0, 4096)
  const child = memory.write(0, 16, () => Number(memory.call!(heap.entry(fork), [alias])))
  const status = Buffer.alloc(4)
  waitpid(child, status, 0)
  return {
    signal: status.readInt32LE(0) & 0x7f,
    same: Buffer.compare(before, memory.bytes.slice(0, 4096)) === 0,
  }
}
