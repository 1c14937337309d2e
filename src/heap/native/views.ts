/**
 * Pages of code that are written and executed, and never both at once.
 *
 * Two views: one anonymous file mapped twice. The view that is executed is never writable; the other is never
 * executable, and allows nothing outside `open` and `close`. Where the system refuses that, one view: private
 * pages that are executed or written in turn.
 *
 * Both begin with nothing allowed; `commit` fills pages with `int3` and lets them run.
 */
import type { AddressLike } from '../../core/address.ts'
import { RelocError } from '../../core/errors.ts'
import { PAGE, POISON } from '../memory.ts'
import type { Machine } from './machine.ts'
import { NativeMemory } from './memory.ts'

/** Positions are bytes from the start, of whole pages. */
export interface Views {
  readonly memory: NativeMemory
  /** Address of position 0 where it runs. */
  readonly base: bigint
  /** What may be read where it is committed, from position 0 on. */
  readonly bytes: Uint8Array
  /** What may be written where it is open, from position 0 on. */
  readonly writable: Uint8Array
  /** Why no other thread may run code while pages are open, or undefined. */
  readonly oneThread: string | undefined
  commit(from: number, to: number): void
  open(from: number, to: number): void
  close(from: number, to: number): void
}

/** Maps at an address, or where the system likes it; returns where. */
export type MapAt = (address: AddressLike | undefined) => bigint

class TwoViews implements Views {
  readonly memory: NativeMemory
  readonly base: bigint
  readonly bytes: Uint8Array
  readonly writable: Uint8Array
  readonly oneThread: undefined
  readonly #file: number
  readonly #alias: bigint

  constructor(memory: NativeMemory, size: number, place: (map: MapAt) => bigint) {
    this.memory = memory
    this.#file = memory.createShared('x64-reloc', size)
    this.base = place((address) => memory.mapShared(this.#file, 0, address, size, 'none'))
    this.#alias = memory.mapShared(this.#file, 0, undefined, size, 'none')
    // A forked child shares the file: without this view it changes nothing under its parent.
    memory.keepFromChildren(this.#alias, size)
    this.bytes = memory.window(this.base, size)
    this.writable = memory.window(this.#alias, size)
  }

  commit(from: number, to: number): void {
    this.open(from, to)
    this.writable.fill(POISON, from, to)
    this.close(from, to)
    this.memory.replaceShared(this.#file, from, this.base + BigInt(from), to - from, 'rx')
  }

  open(from: number, to: number): void {
    this.memory.protect(this.#alias + BigInt(from), to - from, 'rw')
  }

  close(from: number, to: number): void {
    this.memory.protect(this.#alias + BigInt(from), to - from, 'none')
  }
}

class OneView implements Views {
  readonly memory: NativeMemory
  readonly base: bigint
  readonly bytes: Uint8Array
  readonly oneThread: string = 'pages that are written cannot be executed meanwhile'

  constructor(memory: NativeMemory, size: number, place: (map: MapAt) => bigint) {
    this.memory = memory
    this.base = place((address) => memory.map(address, size, 'none'))
    this.bytes = memory.window(this.base, size)
  }

  get writable(): Uint8Array {
    return this.bytes
  }

  commit(from: number, to: number): void {
    this.open(from, to)
    this.bytes.fill(POISON, from, to)
    this.close(from, to)
  }

  open(from: number, to: number): void {
    this.memory.protect(this.base + BigInt(from), to - from, 'rw')
  }

  close(from: number, to: number): void {
    this.memory.protect(this.base + BigInt(from), to - from, 'rx')
  }
}

/**
 * Views of `size` bytes, `most` of them or fewer, at a place that `place` chooses, with a page behind them
 * that holds `serialize`. What was written runs there: it was tried. Throws `unsupported`, with every
 * refusal, where the system lets no memory be code; nothing is mapped then.
 */
export function mapViews(machine: Machine, size: number, most: 1 | 2, place: (map: MapAt) => bigint): Views {
  const refusals: string[] = []
  for (const Maker of most === 2 ? [TwoViews, OneView] : [OneView]) {
    const memory = new NativeMemory(machine)
    try {
      const views = new Maker(memory, size + PAGE, place)
      proveViews(views, size)
      return views
    } catch (error) {
      memory.close()
      if (!(error instanceof RelocError) || error.code !== 'unsupported') throw error
      refusals.push(error.message)
    }
  }
  throw new RelocError(
    'unsupported',
    `The system lets no memory be code${most === 2 ? ', neither one file mapped twice nor pages that are written and executed in turn' : ''}. ${refusals.join(' ')}`,
  )
}

/** push rbx; xor eax, eax; xor ecx, ecx; cpuid; mov eax, value; pop rbx; ret: the thread that calls it serialises. */
const serializer = (value: number): Uint8Array =>
  Uint8Array.of(0x53, 0x31, 0xc0, 0x31, 0xc9, 0x0f, 0xa2, 0xb8, value, 0, 0, 0, 0x5b, 0xc3)

/**
 * Writes, runs, writes again, runs again: an emulator may keep what it translated before it was written
 * through another view.
 */
function proveViews(views: Views, at: number): void {
  views.commit(at, at + PAGE)
  for (const value of [1, 2]) {
    views.open(at, at + PAGE)
    views.writable.set(serializer(value), at)
    views.close(at, at + PAGE)
    if (serialize(views, at) !== value)
      throw new RelocError('unsupported', 'What is written to pages of code is not what runs there.')
  }
}

/** Runs the page at `at` that `mapViews` left: a serialising instruction. */
export const serialize = ({ memory, base }: Views, at: number): number =>
  Number(memory.call(base + BigInt(at)))
