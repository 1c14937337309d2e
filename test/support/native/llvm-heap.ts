/**
 * LLVM's code in a heap that moves it: as an object file that we place, with its exact table, or as bytes
 * that LLVM's own JIT has placed and fixed, of which only the bytes are known. Runs in a process of its own:
 * `node llvm-heap.ts VERSION MODEL object|jit`, prints what came of it as JSON.
 */
import { pathToFileURL } from 'node:url'
import { analyze } from '../../../src/analyze/analyze.ts'
import type { Hints } from '../../../src/analyze/hints.ts'
import { RelocError } from '../../../src/core/errors.ts'
import { placeObject } from '../../../src/elf/place.ts'
import { CodeHeap } from '../../../src/heap/heap.ts'
import { NativeMemory } from '../../../src/heap/native/memory.ts'
import { nativeMemory } from '../../../src/heap/native/reservation.ts'
import type { Block, CodeHandle } from '../../../src/heap/object.ts'
import type { CodeMove, SideTable } from '../../../src/heap/side-tables.ts'
import { relocate } from '../../../src/relocate/relocate.ts'
import type { RelocationTable } from '../../../src/table/table.ts'
import { numbers } from '../tables.ts'
import { type CodeModel, findLlvm, type JitModule, type JitRoom, type JitSection, Llvm } from './llvm.ts'
import { FUNCTIONS, program } from './llvm-program.ts'

export interface LlvmReport {
  /** Bytes of code and constants, fields that its table holds. */
  readonly bytes: number
  readonly sites: number
  /** Results of LLVM's own JIT, and how many calls of moved code gave another. */
  readonly expected: readonly string[]
  readonly calls: number
  readonly wrong: number
  readonly moves: number
  /** Of these, moves while the code was on the stack. */
  readonly live: number
  /** Moves that were refused: the place was taken, or something pinned the code. */
  readonly refused: number
  readonly violations: number
}

const PROGRAM = 'program'
const ROOM = 0x10000
const ARGUMENTS = [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n, 20n, 1003n]
const ROUNDS = 40

/** Variables that point into code of the heap, and follow it. */
class Variables implements SideTable {
  readonly #memory: NativeMemory
  #table: RelocationTable | undefined
  #code = 0n

  constructor(memory: NativeMemory) {
    this.#memory = memory
  }
  /** From now on. `code`: where the code is that they point into now. */
  start(table: RelocationTable, code: bigint): void {
    this.#table = table
    this.#code = code
  }
  onAdd({ handle, address, code }: { handle: CodeHandle; address: bigint; code: Uint8Array }): void {
    if (handle.name === PROGRAM) this.#follow(address, code.length)
  }
  onMove(moves: readonly CodeMove[]): void {
    for (const { handle, to, length } of moves) if (handle.name === PROGRAM) this.#follow(to, length)
  }
  onDealloc(): void {}

  #follow(to: bigint, length: number): void {
    if (this.#table === undefined) return
    const { base, length: bytes } = this.#table
    const also = [{ from: this.#code, to, length }]
    const moved = relocate(this.#memory.read(base, bytes), this.#table, { to: base, also })
    this.#memory.write(base, moved.bytes)
    this.#table = moved.table
    this.#code = to
  }
}

/**
 * A program and where it is made for: what `heap.add` takes, its functions' offsets, and the table of its variables.
 */
interface Made {
  readonly bytes: Uint8Array
  readonly base: bigint
  readonly table?: RelocationTable
  readonly hints?: Hints
  readonly entries: readonly number[]
  readonly align: number
  readonly functions: readonly number[]
  readonly variables: RelocationTable
}

/**
 * Addresses: far up, but for what LLVM makes in its JIT with the small code model, which holds addresses of 31 bits.
 */
const bases = (
  model: CodeModel,
  how: string,
): { heap: bigint; code: bigint; data: bigint; reference: bigint } => {
  const low = model === 'small' && how === 'jit'
  // Low ones beyond where the heap of a process may begin.
  const heap = low ? 0x5400_0000n : 0x7e10_0000_0000n
  const reference = model === 'small' ? 0x7000_0000n : 0x7e20_0000_0000n
  return { heap, code: heap + 0x1000_0000n, data: heap + 0x1100_0000n, reference }
}

export function runLlvm(version: number, model: CodeModel, how: 'object' | 'jit'): LlvmReport {
  const llvm = new Llvm(findLlvm().find((library) => library.version === version)!)
  const text = program(version)
  const memory = new NativeMemory()
  const { heap: base, code, data, reference } = bases(model, how)
  const room = (at: bigint, to: bigint): { code: bigint; data: bigint; size: number } => {
    memory.map(at, ROOM)
    memory.map(to, ROOM)
    return { code: at, data: to, size: ROOM }
  }
  const plain = memory.callback((n) => n + 1n, 1)
  const jit = llvm.jit(
    text,
    model,
    memory,
    room(reference, reference + 0x100_0000n),
    new Map([['visit', plain]]),
  )
  memory.protect(reference, ROOM, 'rx')
  const expected = callAll((i, argument) => memory.call(jit.address(FUNCTIONS[i]), [argument]))

  const variables = new Variables(memory)
  const heap = new CodeHeap(nativeMemory<Block>({ base, size: 4 << 20 }), { sideTables: [variables] })
  let work: () => void = () => undefined
  const visit = heap.callback((n) => {
    work()
    return n + 1n
  }, 1)
  const made =
    how === 'object'
      ? placeProgram(llvm.compile(text, model), llvm, heap, visit, memory, room(code, data))
      : takeFromJit(llvm.jit(text, model, memory, room(code, data), new Map([['visit', visit]])), memory)
  variables.start(made.variables, made.base)
  const fillers = [1, 2, 3].map((i) =>
    heap.add({ bytes: new Uint8Array(5000 * i).fill(0xc3), base: 0x1000, name: 'filler' }),
  )
  const { functions: _, variables: __, ...input } = made
  const handle = heap.add({ ...input, name: PROGRAM })
  const moved = heap.moved(made.base, made.bytes.length)
  const sites = (made.table ?? analyze(made.bytes, { base: made.base, moved, hints: made.hints })).size
  const report = exercise(heap, handle, made, fillers, expected, (then) => {
    work = then
  })
  return { bytes: made.bytes.length, sites, expected, ...report }
}

/** The object, placed by us; what it writes has a place of its own. */
function placeProgram(
  object: Uint8Array,
  llvm: Llvm,
  heap: CodeHeap,
  visit: bigint,
  memory: NativeMemory,
  room: JitRoom,
): Made {
  const symbols = (name: string): bigint | undefined =>
    name === 'visit' ? visit : llvm.processSymbol(name) || undefined
  const placed = placeObject(object, { base: room.code, writable: room.data, symbols, stubs: 'all' })
  const { code, data } = placed
  memory.write(room.data, data!.bytes)
  return {
    bytes: code.bytes,
    base: code.base,
    table: code.table(heap.moved(code.base, code.span)),
    entries: code.entries,
    align: code.align,
    functions: FUNCTIONS.map((name) => Number(placed.symbol(name)! - code.base)),
    variables: data!.table([{ start: code.base, length: code.span }]),
  }
}

/** What LLVM's JIT left in memory: bytes, and which of them are code. They are taken away from where it put them. */
function takeFromJit({ sections, address }: JitModule, memory: NativeMemory): Made {
  const of = (...kinds: JitSection['kind'][]): JitSection[] =>
    sections.filter(({ kind }) => kinds.includes(kind))
  const span = (list: readonly JitSection[]): { base: bigint; length: number } => {
    const base = list.reduce((least, one) => (one.address < least ? one.address : least), list[0].address)
    return { base, length: Math.max(...list.map((one) => Number(one.address - base) + one.size)) }
  }
  const [code, data] = [span(of('code', 'constants')), span(of('data'))]
  const bytes = memory.read(code.base, code.length)
  const ranges = of('code', 'constants')
    .map(({ kind, address: at, size }) => {
      const start = Number(at - code.base)
      return { start, end: start + size, kind: kind === 'code' ? ('code' as const) : ('data' as const) }
    })
    .sort((a, b) => a.start - b.start)
  const functions = FUNCTIONS.map((name) => Number(address(name) - code.base))
  // The process's unwinder knows where these are.
  for (const { address: at, size, name } of of('code', 'constants'))
    if (name !== '.eh_frame') memory.write(at, new Uint8Array(size).fill(0xcc))
  return {
    bytes,
    base: code.base,
    hints: { ranges, entries: functions },
    entries: functions,
    align: 64,
    functions,
    variables: analyze(memory.read(data.base, data.length), {
      base: data.base,
      moved: [{ start: code.base, length: code.length }],
      hints: { ranges: [{ start: 0, end: data.length, kind: 'data' }] },
    }),
  }
}

/** Moves the program about, alone and in compactions, between calls and under them, and calls it. */
function exercise(
  heap: CodeHeap,
  handle: CodeHandle,
  made: Made,
  fillers: readonly CodeHandle[],
  expected: readonly string[],
  during: (work: () => void) => void,
): Pick<LlvmReport, 'calls' | 'wrong' | 'moves' | 'live' | 'refused' | 'violations'> {
  const next = numbers(1)
  const report = { calls: 0, wrong: 0, moves: 0, live: 0, refused: 0, violations: 0 }
  const { start } = heap.reservation
  const shake = (): number => {
    const mode = next(2) === 0 ? 'slide' : 'drain'
    try {
      if (next(3) === 0) return heap.compact({ mode }).moves.length
      heap.move(handle, { mode, to: start + BigInt(0x10_0000 + 0x1000 * next(0x200)) })
      return 1
    } catch (error) {
      if (!(error instanceof RelocError) || !['refused', 'no-room'].includes(error.code)) throw error
      report.refused++
      return 0
    }
  }
  for (let round = 0; round < ROUNDS; round++) {
    if (round === 5) heap.free(fillers[0], fillers[1])
    if (round > 0) report.moves += shake()
    during(() => {
      if (round > 0) report.live += shake()
    })
    const results = callAll((i, argument) => {
      const result = heap.call(handle, [argument], made.entries.indexOf(made.functions[i]))
      // This one counts, and does not begin anew.
      return FUNCTIONS[i] === 'bump' ? result - BigInt(round) * SUM : result
    })
    report.calls += results.length
    report.wrong += results.filter((result, i) => result !== expected[i]).length
    report.violations += heap.verify().length
  }
  return report
}

const SUM = ARGUMENTS.reduce((sum, argument) => sum + argument, 0n)
const callAll = (call: (i: number, argument: bigint) => bigint): string[] =>
  FUNCTIONS.flatMap((_, i) => ARGUMENTS.map((argument) => call(i, argument).toString()))

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [version, model, how] = process.argv.slice(2)
  process.stdout.write(JSON.stringify(runLlvm(Number(version), model as CodeModel, how as 'object' | 'jit')))
}
