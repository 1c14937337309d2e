/** Addresses that no instruction holds alone, in every way that code puts them together. */
import { CodeHeap } from '../../../src/heap/heap.ts'
import type { CodeHandle } from '../../../src/heap/object.ts'
import { BOTH, type Family, must, thrown } from './family.ts'

const word = (value: bigint, width: 4 | 8): number[] => [
  ...new Uint8Array(new BigUint64Array([BigInt.asUintN(8 * width, value)]).buffer).subarray(0, width),
]
const low = (value: bigint): number[] => word(value, 4)
const high = (value: bigint): number[] => word(value >> 32n, 4)
/** The upper half for a lower one that is added with its sign. */
const highOfSum = (value: bigint): number[] => word((value - BigInt.asIntN(32, value)) >> 32n, 4)
const KEY = 0x5a5a_5a5a_5a5a_5a5an

/** Functions that return an address; `between`: instructions that have nothing to do with it. */
const IDIOMS: Readonly<Record<string, (to: bigint, between: readonly number[]) => number[]>> = {
  // mov eax, low; mov edx, high; shl rdx, 32; or rax, rdx
  or: (to, between) => [
    ...[0xb8, ...low(to), ...between, 0xba, ...high(to), 0x48, 0xc1, 0xe2, 0x20, ...between],
    ...[0x48, 0x09, 0xd0, 0xc3],
  ],
  // mov ecx, high; shl rcx, 32; mov edx, low; lea rax, [rcx+rdx]
  lea: (to, between) => [
    ...[0xb9, ...high(to), 0x48, 0xc1, 0xe1, 0x20, ...between, 0xba, ...low(to)],
    ...[0x48, 0x8d, 0x04, 0x11, 0xc3],
  ],
  // mov eax, high; shl rax, 32; add rax, low
  add: (to, between) => [
    ...[0xb8, ...highOfSum(to), 0x48, 0xc1, 0xe0, 0x20, ...between, 0x48, 0x05, ...low(to), 0xc3],
  ],
  // mov rax, to - n; add rax, n
  sum: (to, between) => [
    0x48,
    0xb8,
    ...word(to - 0x1000_0030n, 8),
    ...between,
    0x48,
    0x05,
    0x30,
    0,
    0,
    0x10,
    0xc3,
  ],
  // mov rax, to + n; sub rax, n
  difference: (to, between) => [
    ...[0x48, 0xb8, ...word(to + 0x1000_0000n, 8), ...between, 0x48, 0x2d, 0, 0, 0, 0x10, 0xc3],
  ],
  // mov rcx, to - n; lea rax, [rcx+n]
  displacement: (to, between) => [
    ...[0x48, 0xb9, ...word(to - 0x1000_0030n, 8), ...between, 0x48, 0x8d, 0x81, 0x30, 0, 0, 0x10, 0xc3],
  ],
  // mov rax, to ^ key; mov rcx, key; xor rax, rcx
  xor: (to, between) => [
    ...[0x48, 0xb8, ...word(to ^ KEY, 8), ...between, 0x48, 0xb9, ...word(KEY, 8), 0x48, 0x31, 0xc8, 0xc3],
  ],
  // push low; mov dword [rsp+4], high; pop rax
  push: (to, between) => [0x68, ...low(to), ...between, 0xc7, 0x44, 0x24, 0x04, ...high(to), 0x58, 0xc3],
  // mov dword [rsp-16], low; mov dword [rsp-12], high; mov rax, [rsp-16]
  stores: (to, between) => [
    ...[0xc7, 0x44, 0x24, 0xf0, ...low(to), ...between, 0xc7, 0x44, 0x24, 0xf4, ...high(to)],
    ...[0x48, 0x8b, 0x44, 0x24, 0xf0, 0xc3],
  ],
}

/** Nothing, `xor r8d, r8d`, `mov r9, rdi; inc r9`. */
const BETWEEN: readonly (readonly number[])[] = [[], [0x45, 0x31, 0xc0], [0x49, 0x89, 0xf9, 0x49, 0xff, 0xc1]]

const MANAGED = 0x2000_0000_0000n

interface Piece {
  readonly handle: CodeHandle
  readonly make: (to: bigint) => number[]
  readonly now: () => bigint
}

const pieces: Family = {
  name: 'pieces',
  title: 'addresses in pieces follow code and roots, and are refused where a jump enters between the pieces',
  makers: BOTH,
  run(run) {
    const { next } = run
    const memory = run.memory(64 << 10, 0x1234_8000_0000n)
    const heap = new CodeHeap(memory, { managed: [{ start: MANAGED, length: 1n << 43n }] })
    // Halves of its own: both change with the move to the heap.
    const made = memory.base - 0x1_7000_0000n
    let root = MANAGED + 0x8000_0000n
    const target = heap.add({ bytes: Uint8Array.of(0x31, 0xc0, 0xc3), base: made, name: 'target' })
    const all: Piece[] = []
    for (const [name, idiom] of Object.entries(IDIOMS))
      for (const [i, between] of BETWEEN.entries()) {
        const make = (to: bigint): number[] => idiom(to, between)
        const base = made + BigInt(0x100 * all.length + 0x40)
        const which = all.length % 3
        const to = [base, heap.entry(target), root][which]
        const handle = heap.add({ bytes: Uint8Array.from(make(to)), base, name: `${name} ${i}` })
        const now = (): bigint => [heap.entry(handle), heap.entry(target), root][which]
        all.push({ handle, make, now })
      }
    checkAll()
    for (let i = 0; i < 30; i++) {
      const pick = next(4)
      const { handle } = all[next(all.length)]
      if (pick === 0) heap.compact({ mode: next(2) === 0 ? 'slide' : 'drain' })
      else if (pick === 1) heap.move(handle)
      else if (pick === 2) heap.move(target, { to: memory.base + BigInt(0x8000 + 16 * next(0x700)) })
      else {
        const by = BigInt(next(2 ** 31)) * BigInt(next(2 ** 12))
        if (root + by < MANAGED + (1n << 43n)) {
          heap.forwardRoots((address) => address + by)
          root += by
        }
      }
      run.count('moves')
      checkAll()
    }
    must(heap.verify().length === 0, 'not verified')
    refuseEntered()

    function checkAll(): void {
      for (const { handle, make, now } of all) {
        const position = Number(heap.entry(handle) - memory.base)
        const bytes = make(now())
        if (memory.call !== undefined)
          must(heap.call(handle) === now(), `${handle.name} returns another address`)
        must(
          Buffer.compare(memory.bytes.slice(position, position + bytes.length), Uint8Array.from(bytes)) === 0,
          `${handle.name} holds another address`,
        )
        run.count('checks')
      }
    }

    /** Between the halves another register may hold anything: `inc edi; jne` leads there. */
    function refuseEntered(): void {
      const jump = [0xff, 0xc7, 0x75, 0xf0, 0xc3]
      const bytes = Uint8Array.from([...IDIOMS.or(made, []).slice(0, -1), ...jump])
      must(thrown(() => heap.add({ bytes, base: made })) === 'refused', 'a jump into the middle was taken')
      run.count('refused')
    }
  },
}

export const PIECES: readonly Family[] = [pieces]
