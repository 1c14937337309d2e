/**
 * What a heap is made of: its memory, which ranges are free, its objects. The parts of the heap share it;
 * users do not see it.
 */
import { hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { type AddressRange, type MovedRange, sortDisjoint, toRange } from '../core/range.ts'
import { canonicalForm } from './canonical.ts'
import { FreeList } from './free-list.ts'
import type { HeapMemory } from './memory.ts'
import type { Block, CodeHandle, CodeObject } from './object.ts'
import { Scratch } from './scratch.ts'

/** Stands for memory that was given back: to look at it would end the process. */
const CLOSED = new Proxy({} as HeapMemory<Block>, {
  get: () => {
    throw new RelocError('stale', 'The heap is closed: its memory was given back.')
  },
})

export class HeapState {
  #memory: HeapMemory<Block>
  readonly scratch: Scratch = new Scratch()
  /** Replaced as a whole when a transaction is published. */
  free: FreeList
  /** By index of their handles; undefined: freed. */
  readonly objects: (CodeObject | undefined)[] = []
  readonly #generations: number[] = []
  readonly #vacant: number[] = []
  /** Blocks that nothing enters any more and that may still be running. */
  readonly retired: Set<Block> = new Set()
  /** Transactions that were begun. */
  transactions = 0
  /** Calls through `CodeHeap.call` that have not returned: their stacks can be walked. */
  calls = 0
  /** Whatever else runs code of the heap, by the user's word. */
  holds = 0
  /** Blocks that a word of the last `pinAmbiguous` may point into. */
  readonly met: Set<Block> = new Set()
  /** Blocks that may not move because of what runs; as of the last walk. */
  running: ReadonlySet<Block> = new Set()

  /** Ranges that the user moves himself: ascending, disjoint, outside the reservation. */
  readonly managed: readonly AddressRange[]

  readonly #size: number
  readonly #base: number
  readonly #exact: boolean

  constructor(memory: HeapMemory<Block>, managed: readonly MovedRange[]) {
    this.#memory = memory
    this.#size = memory.size
    this.#base = Number(memory.base)
    this.#exact = Number.isSafeInteger(this.#base + memory.size)
    const ranges = managed.map(({ start, length }, i) => toRange(start, length, `managed[${i}]`))
    this.managed = sortDisjoint(
      [...ranges, this.reservation],
      'the reservation and the managed ranges',
    ).filter((range) => ranges.includes(range))
    this.free = new FreeList(Number(memory.base & 0xffff_ffffn))
    this.free.free(0, memory.size)
  }

  /** Throws `stale` at every use once the heap is closed. */
  get memory(): HeapMemory<Block> {
    return this.#memory
  }

  /**
   * Gives the memory back. Throws `refused` while code of the heap may be running: it would have nowhere to return to.
   */
  close(): void {
    if (this.#memory === CLOSED) return
    if (this.busy)
      throw new RelocError(
        'refused',
        `The heap is not closed: ${this.calls} calls are running and ${this.holds} holds are kept. Close it when they have ended.`,
      )
    this.#memory.close()
    this.#memory = CLOSED
  }

  /** The addresses of all places. */
  get reservation(): AddressRange {
    const { base, size } = this.memory
    return { start: base, end: base + BigInt(size) }
  }

  /** 1 - longest free range / free bytes: 0 where the free bytes are one range. */
  get fragmentation(): number {
    const { total, longest } = this.free
    return total === 0 ? 0 : 1 - longest / total
  }

  /** Whether code of the heap may be running. */
  get busy(): boolean {
    return this.calls + this.holds > 0
  }

  address(block: Block): bigint {
    return this.memory.base + BigInt(block.position)
  }

  /** The object of a handle. Throws `stale` where it was freed. */
  object(handle: CodeHandle): CodeObject {
    const object = this.objects[handle?.index]
    if (object === undefined || object.handle !== handle)
      throw new RelocError(
        'stale',
        `The handle of ${handle?.name ?? String(handle)} is stale: its object was freed, or it belongs to another heap.`,
      )
    return object
  }

  /** A handle for a new object; the object is entered by `admit`. */
  newHandle(name: string | undefined): CodeHandle {
    const index = this.#vacant.pop() ?? this.objects.push(undefined) - 1
    const generation = (this.#generations[index] ?? 0) + 1
    this.#generations[index] = generation
    return Object.freeze({ index, generation, name: name ?? `object ${index}` })
  }

  dropHandle({ index }: CodeHandle): void {
    this.objects[index] = undefined
    this.#vacant.push(index)
  }

  /** Position of an address in the reservation, or -1. */
  position(address: bigint): number {
    // Where the reservation lies below 2^53 a number tells what is in it; a bigint would be made for the difference.
    const distance = this.#exact ? Number(address) - this.#base : Number(address - this.memory.base)
    return distance >= 0 && distance < this.#size ? distance : -1
  }

  /** The block around an address. */
  blockAt(address: bigint): Block | undefined {
    const position = this.position(address)
    return position < 0 ? undefined : this.memory.registry.find(position)
  }

  /** The code of a block, as it is: not to be written, not to be kept. */
  codeOf(block: Block): Uint8Array {
    return this.memory.bytes.subarray(block.position, block.position + block.object.length)
  }

  /** The same with the traps behind it. */
  wholeOf(block: Block): Uint8Array {
    return this.memory.bytes.subarray(block.position, block.position + block.size)
  }

  /** The canonical form of a block as it is. */
  canonical(block: Block): number {
    this.scratch.reserve(block.size)
    this.scratch.bytes.set(this.wholeOf(block))
    return canonicalForm(this.scratch, 0, block, block.position)
  }

  /** Takes `size` bytes. Throws `no-room`. */
  allocate(size: number, align: number, name: string): number {
    const position = this.free.take(size, align)
    if (position >= 0) return position
    const { total, longest } = this.free
    const remedy =
      total >= size
        ? 'Compact the heap; what is pinned or still runs stays in the way.'
        : 'Free objects, or make the reservation larger.'
    throw new RelocError(
      'no-room',
      `${name} needs ${hex(size)} bytes; ${hex(total)} are free, the longest range has ${hex(longest)}. ${remedy}`,
    )
  }

  /** All that is free but for `obstacles`, which ascend. */
  freeBetween(obstacles: readonly Block[]): FreeList {
    const free = new FreeList(Number(this.memory.base & 0xffff_ffffn))
    let at = 0
    for (const { position, size } of obstacles) {
      if (position > at) free.free(at, position - at)
      at = position + size
    }
    if (at < this.memory.size) free.free(at, this.memory.size - at)
    return free
  }

  /** Gives the places of blocks back: poisoned, free, out of the reverse index. */
  release(blocks: readonly Block[]): void {
    if (blocks.length === 0) return
    const from = Math.min(...blocks.map((block) => block.position))
    const to = Math.max(...blocks.map((block) => block.position + block.size))
    this.memory.write(from, to, (writer) => {
      for (const block of blocks) {
        block.unlink()
        this.retired.delete(block)
        this.met.delete(block)
        this.memory.registry.delete(block)
        this.free.free(block.position, block.size)
        writer.poison(block.position, block.size)
      }
    })
  }
}
