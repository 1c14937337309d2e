/**
 * Programs with something of their own on the stack when the heap moves under them. Each runs in a process of
 * its own, see `run.ts`.
 */
import { CodeHeap } from '../../../src/heap/heap.ts'
import { THIS_MACHINE } from '../../../src/heap/native/machine.ts'
import { NativeMemory } from '../../../src/heap/native/memory.ts'
import { nativeMemory } from '../../../src/heap/native/reservation.ts'
import type { Block, CodeHandle } from '../../../src/heap/object.ts'
import type { SiteInput } from '../../../src/table/from-sites.ts'
import { RelocationTable } from '../../../src/table/table.ts'
import { refusal } from './parts.ts'

const BASE = 0x1000_0000n
const le = (value: bigint, width: 4 | 8): number[] => [
  ...new Uint8Array(new BigUint64Array([value]).buffer).subarray(0, width),
]

/** A heap with a hole at its low end, so that whatever may move does, and a function that says what stays. */
function heapWithHole(managed?: { readonly start: bigint; readonly length: number }): {
  readonly heap: CodeHeap
  readonly punch: () => void
} {
  const heap = new CodeHeap(nativeMemory<Block>({ size: 1 << 20 }), {
    managed: managed === undefined ? [] : [managed],
  })
  const filler = heap.add({ bytes: new Uint8Array(500).fill(0xc3), base: BASE, name: 'filler' })
  return { heap, punch: () => heap.free(filler) }
}

/**
 * `push rbx; mov ebx, low; call callee; mov ecx, high; shl rcx, 32; or rbx, rcx`, then `last`; `pop rbx;
 * ret`: the address `of` in two pieces.
 */
function inPieces(
  heap: CodeHeap,
  of: bigint,
  callee: bigint,
  last: readonly number[],
  name: string,
): CodeHandle {
  const bytes = Uint8Array.of(
    ...[0x53, 0xbb, ...le(of & 0xffff_ffffn, 4), 0x48, 0xb8, ...le(callee, 8), 0xff, 0xd0],
    ...[0xb9, ...le(of >> 32n, 4), 0x48, 0xc1, 0xe1, 0x20, 0x48, 0x09, 0xcb],
    ...[...last, 0x5b, 0xc3],
  )
  const piece = (offset: number, shift: number) => ({ offset, width: 4, shift, operation: 'or' }) as const
  const sites: SiteInput[] = [
    { kind: 'split', pieces: [piece(2, 0), piece(19, 32)] },
    { kind: 'abs64', offset: 8 },
  ]
  const table = RelocationTable.fromSites(sites, {
    code: bytes,
    base: BASE,
    moved: heap.moved(BASE, bytes.length),
    runs: [{ start: 0, end: bytes.length }],
  })
  return heap.add({ bytes, base: BASE, table, name })
}

export interface Torn {
  readonly slide: { readonly kept: string[]; readonly result: string }
  readonly drain: { readonly kept: string[]; readonly result: string }
}

/**
 * Code that builds the address of other code from two pieces and calls back between them, where the heap is compacted.
 */
export function tornCallee(): Torn {
  const run = (mode: 'slide' | 'drain'): Torn['slide'] => {
    const { heap, punch } = heapWithHole()
    let kept: string[] = []
    const back = heap.callback(() => {
      kept = heap.compact({ mode }).kept.map(({ handle, reason }) => `${handle.name}: ${reason}`)
      return 0n
    }, 0)
    const callee = heap.add({ bytes: Uint8Array.of(0xb8, 42, 0, 0, 0, 0xc3), base: BASE, name: 'callee' })
    // call rbx
    const caller = inPieces(heap, heap.entry(callee), back, [0xff, 0xd3], 'caller')
    punch()
    const result = heap.call(caller).toString()
    // Nothing stands between the pieces now: both can move, and the pieces follow.
    heap.compact()
    return { kept, result: `${result} ${heap.call(caller)} ${heap.verify().length}` }
  }
  return { slide: run('slide'), drain: run('drain') }
}

/**
 * Code that holds a managed address in two pieces, and another in one, and calls back between the pieces,
 * where the managed memory moves.
 */
export function tornRoot(): {
  readonly inside: {
    readonly all: string
    readonly patch: string
    readonly words: string
    readonly held: string[]
    readonly others: number
  }
  readonly results: string[]
  readonly violations: number
} {
  const cells = new NativeMemory()
  const from = 0x7000_0000_0000n
  const to = from + 0x1_0000_1000n
  const cell = (address: bigint): DataView => new DataView(cells.view(address, 8, 'rw').buffer)
  cells.map(from, 4096)
  cells.map(to, 4096)
  for (const [i, base] of [from, to].entries())
    for (const at of [0n, 8n]) cell(base + at).setBigUint64(0, at + 10n * BigInt(i + 1), true)
  const { heap } = heapWithHole({ start: from, length: 0x1_0000_2000 })
  let work: () => void = () => {}
  const back = heap.callback(() => {
    work()
    return 0n
  }, 0)
  // mov rax, [rbx]
  const torn = inPieces(heap, from, back, [0x48, 0x8b, 0x03], 'torn')
  // mov rax, cell; mov rax, [rax]; ret
  const whole = heap.add({
    bytes: Uint8Array.of(0x48, 0xb8, ...le(from + 8n, 8), 0x48, 0x8b, 0x00, 0xc3),
    base: BASE,
    name: 'whole',
  })
  const inside = { all: '', patch: '', words: '', held: [] as string[], others: 0 }
  work = () => {
    inside.all = refusal(() => heap.forwardRoots((root) => root + to - from))
    inside.patch = refusal(() => heap.patchRoot(torn, 0, to))
    inside.words = refusal(() => heap.patchRoot(torn, 0, to, { words: [heap.entry(torn) + 20n] }))
    const held = heap.heldRoots()
    inside.held = held.map(String)
    inside.others = heap.forwardRoots((root) => (held.includes(root) ? root : root + to - from))
  }
  const results = [heap.call(torn), heap.call(whole)]
  work = () => {}
  heap.forwardRoots((root) => (root < to ? root + to - from : root))
  results.push(heap.call(torn), heap.call(whole))
  // Before its first piece and behind its last one, by words that were given.
  heap.patchRoot(torn, 0, from, { words: [heap.entry(torn)] })
  heap.patchRoot(torn, 0, from + 8n, { words: [heap.entry(torn) + 24n] })
  results.push(heap.call(torn))
  return { inside, results: results.map(String), violations: heap.verify().length }
}

/** A frame made by `enter`, which the heap does not follow: walked where the object declares that it keeps rbp. */
export function framePointers(): {
  readonly declared: { readonly kept: string[]; readonly moved: number; readonly result: string }
  readonly undeclared: { readonly kept: string[]; readonly moved: number; readonly result: string }
} {
  const run = (declared: boolean) => {
    const { heap, punch } = heapWithHole()
    let kept: string[] = []
    let moved = 0
    const back = heap.callback(() => {
      const report = heap.compact()
      kept = report.kept.map(({ handle, reason }) => `${handle.name}: ${reason}`)
      moved = report.moves.length
      return 40n
    }, 0)
    // enter 32, 0; mov rax, callee; call rax; leave; ret
    const bytes = (callee: bigint): Uint8Array =>
      Uint8Array.of(0xc8, 32, 0, 0, 0x48, 0xb8, ...le(callee, 8), 0xff, 0xd0, 0xc9, 0xc3)
    const framePointers = declared
    const inner = heap.add({ bytes: bytes(back), base: BASE, name: 'inner', framePointers })
    const middle = heap.add({ bytes: bytes(heap.entry(inner)), base: BASE, name: 'middle', framePointers })
    // push rax; mov rax, middle; call rax; add rax, 2; pop rcx; ret
    const outer = heap.add({
      bytes: Uint8Array.of(
        ...[0x50, 0x48, 0xb8, ...le(heap.entry(middle), 8), 0xff, 0xd0, 0x48, 0x83, 0xc0, 2, 0x59, 0xc3],
      ),
      base: BASE,
      name: 'outer',
    })
    punch()
    return { result: heap.call(outer).toString(), kept, moved }
  }
  return { declared: run(true), undeclared: run(false) }
}

/** A shadow stack: return addresses stay as they are, and code drains. */
export function shadowStack(): { readonly slide: string; readonly drain: string; readonly unknown: string } {
  const slide = (status: () => string): string => {
    const heap = new CodeHeap(nativeMemory<Block>({ size: 1 << 20 }, { ...THIS_MACHINE, status }))
    let said = ''
    const back = heap.callback(() => {
      try {
        heap.compact()
      } catch (error) {
        said = String(error)
      }
      return BigInt(heap.compact({ mode: 'drain' }).moves.length)
    }, 0)
    const filler = heap.add({ bytes: new Uint8Array(500).fill(0xc3), base: 0x1000n })
    const imm64 = [...new Uint8Array(new BigUint64Array([back]).buffer)]
    const bytes = Uint8Array.of(0x50, 0x48, 0xb8, ...imm64, 0xff, 0xd0, 0x59, 0xc3)
    const caller = heap.add({ bytes, base: 0x1000n })
    heap.free(filler)
    moved = heap.call(caller).toString()
    return said
  }
  let moved = ''
  const said = slide(() => 'Name:\tnode\nx86_Thread_features:\tshstk wrss \n')
  const drain = moved
  const unknown = slide(() => {
    throw new Error('ENOENT')
  })
  return { slide: said, drain, unknown }
}
