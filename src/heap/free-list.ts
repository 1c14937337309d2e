/**
 * Free ranges in address order, as a treap whose nodes know the longest range below them: the lowest range
 * that fits is found, taken and given back in logarithmic time. Ranges that touch are one, always.
 *
 * Lowest fit keeps what lives long together at the low end; priorities are a hash of the position, so that
 * the same calls give the same places everywhere.
 */
import { GRANULE } from './registry.ts'

interface Node {
  start: number
  size: number
  /** Greatest `size` in this subtree. */
  longest: number
  readonly priority: number
  left: Node | undefined
  right: Node | undefined
}

const hashOf = (start: number): number => {
  const h = Math.imul(start ^ (start >>> 15), 0x2c1b_3c6d)
  return Math.imul(h ^ (h >>> 12), 0x297a_2d39) >>> 0
}

/** Brings `longest` up to date. */
function refresh(node: Node): void {
  let { size } = node
  if (node.left !== undefined && node.left.longest > size) size = node.left.longest
  if (node.right !== undefined && node.right.longest > size) size = node.right.longest
  node.longest = size
}

/** Nodes below `start`, and the rest. */
function split(node: Node | undefined, start: number): [Node | undefined, Node | undefined] {
  if (node === undefined) return [undefined, undefined]
  if (node.start < start) {
    const [low, high] = split(node.right, start)
    node.right = low
    refresh(node)
    return [node, high]
  }
  const [low, high] = split(node.left, start)
  node.left = high
  refresh(node)
  return [low, node]
}

/** All of `low` lies below all of `high`. */
function join(low: Node | undefined, high: Node | undefined): Node | undefined {
  if (low === undefined) return high
  if (high === undefined) return low
  if (low.priority > high.priority) {
    low.right = join(low.right, high)
    refresh(low)
    return low
  }
  high.left = join(low, high.left)
  refresh(high)
  return high
}

const alignUp = (position: number, align: number): number => Math.ceil(position / align) * align

export class FreeList {
  #root: Node | undefined
  #count = 0
  #total = 0
  /** Address of position 0 modulo the greatest alignment: alignment is that of addresses. */
  readonly #phase: number

  /** @param phase low bits of the address of position 0 */
  constructor(phase = 0) {
    this.#phase = phase
  }

  /** Number of free ranges. */
  get count(): number {
    return this.#count
  }

  /** Free bytes. */
  get total(): number {
    return this.#total
  }

  /** Bytes of the longest free range. */
  get longest(): number {
    return this.#root?.longest ?? 0
  }

  /** A copy that changes on its own. */
  clone(): FreeList {
    const copy = new FreeList(this.#phase)
    for (const { start, size } of this) copy.free(start, size)
    return copy
  }

  /** Takes the lowest `size` bytes whose address is a multiple of `align`. Returns their position, or -1. */
  take(size: number, align: number = GRANULE): number {
    // Whatever is this much longer fits for certain; only where nothing is, each range is looked at.
    const certain = size + align - GRANULE
    const node = this.#lowest(certain) ?? this.#lowestAligned(size, align)
    if (node === undefined) return -1
    const position = this.#aligned(node.start, align)
    this.#cut(node.start, node.size, position, size)
    return position
  }

  /** Takes exactly `[position, position + size)`; false where it is not all free. */
  takeAt(position: number, size: number): boolean {
    const node = this.#around(position)
    if (node === undefined || position + size > node.start + node.size) return false
    this.#cut(node.start, node.size, position, size)
    return true
  }

  /** Gives `[position, position + size)` back. It must not be free. */
  free(position: number, size: number): void {
    let start = position
    let end = position + size
    const before = position === 0 ? undefined : this.#around(position - 1)
    const after = this.#around(end)
    if (before !== undefined) {
      start = before.start
      this.#remove(before)
    }
    if (after !== undefined) {
      end = after.start + after.size
      this.#remove(after)
    }
    this.#insert(start, end - start)
  }

  /** By address. */
  *[Symbol.iterator](): IterableIterator<{ readonly start: number; readonly size: number }> {
    const path: Node[] = []
    for (let node = this.#root; node !== undefined || path.length > 0; ) {
      for (; node !== undefined; node = node.left) path.push(node)
      const next = path.pop()!
      yield next
      node = next.right
    }
  }

  #aligned(start: number, align: number): number {
    return alignUp(start + this.#phase, align) - this.#phase
  }

  #lowest(size: number): Node | undefined {
    let node = this.#root
    if (node === undefined || node.longest < size) return undefined
    for (;;) {
      if (node.left !== undefined && node.left.longest >= size) node = node.left
      else if (node.size >= size) return node
      else node = node.right!
    }
  }

  #lowestAligned(size: number, align: number): Node | undefined {
    if (align <= GRANULE || this.longest < size) return undefined
    for (const range of this)
      if (this.#aligned(range.start, align) + size <= range.start + range.size)
        return this.#around(range.start)
    return undefined
  }

  /** The range that holds `position`. */
  #around(position: number): Node | undefined {
    let node = this.#root
    while (node !== undefined) {
      if (position < node.start) node = node.left
      else if (position >= node.start + node.size) node = node.right
      else return node
    }
    return undefined
  }

  /** Takes `[position, position + taken)` out of the range at `start`. */
  #cut(start: number, size: number, position: number, taken: number): void {
    const rest = start + size - position - taken
    if (position === start && rest > 0) {
      // The commonest case, and the order of the nodes stays: the range begins later.
      this.#shorten(start, taken)
      return
    }
    this.#remove({ start, size })
    if (position > start) this.#insert(start, position - start)
    if (rest > 0) this.#insert(position + taken, rest)
  }

  #shorten(start: number, by: number): void {
    const path: Node[] = []
    let node = this.#root!
    while (node.start !== start) {
      path.push(node)
      node = (start < node.start ? node.left : node.right)!
    }
    node.start += by
    node.size -= by
    this.#total -= by
    refresh(node)
    for (let i = path.length - 1; i >= 0; i--) refresh(path[i])
  }

  #insert(start: number, size: number): void {
    const node: Node = {
      start,
      size,
      longest: size,
      priority: hashOf(start),
      left: undefined,
      right: undefined,
    }
    const [low, high] = split(this.#root, start)
    this.#root = join(join(low, node), high)
    this.#count++
    this.#total += size
  }

  #remove({ start, size }: { readonly start: number; readonly size: number }): void {
    const [low, rest] = split(this.#root, start)
    const [, high] = split(rest, start + 1)
    this.#root = join(low, high)
    this.#count--
    this.#total -= size
  }
}
