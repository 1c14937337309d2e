/**
 * What the heap keeps of an object: a block is bytes at a place with their fields; an object has one block
 * that is entered, and while code drains, retired ones, which stay where they are and are kept right until
 * nothing runs in them.
 */
import type { Problem } from '../core/errors.ts'
import type { Fields } from './fields.ts'
import type { FrameState } from './frames.ts'
import { type Extent, GRANULE, sizeOf } from './registry.ts'
import type { Root } from './roots.ts'

/** Names an object. A handle that outlives its object is stale: using it throws. */
export interface CodeHandle {
  readonly index: number
  /** Counts the objects that had this index. */
  readonly generation: number
  readonly name: string
}

const NOBODY: ReadonlySet<Block> = new Set()
const NO_STUBS: ReadonlyMap<number, CodeObject> = new Map()

export class CodeObject {
  readonly handle: CodeHandle
  /** Bytes of code. */
  readonly length: number
  /** Of its address; a power of two, at least the granule. */
  readonly align: number
  /** Offsets where it is entered. */
  readonly entries: readonly number[]
  /** What analysis warned of. */
  problems: readonly Problem[] = []
  roots: readonly Root[] = []
  /**
   * Hash of the bytes with every field taken relative to its owners: the same at every place. `patchRoot`
   * does not change it.
   */
  canonical = 0
  /** Where it is entered; undefined only while it is made. */
  block!: Block
  /**
   * Blocks, of any object, with a field that moves with this object. Most objects have none, and an empty set
   * is as large as a small object.
   */
  callers: ReadonlySet<Block> = NOBODY
  /** Explicit pins. */
  pins = 0
  /** It never moves again; its fields are those that follow others. */
  frozen = false
  /** The object was freed; its blocks are still draining. */
  freed = false
  /** Position of `block`; during a transaction where it will be, and how far it goes to get there. */
  place = 0
  shift = 0
  /** Stubs that jump here and never move, by entry. */
  stubs: ReadonlyMap<number, CodeObject> = NO_STUBS
  /** A stub of the heap's own: it never moves. */
  readonly fixed: boolean
  /** Its frames keep rbp as a frame pointer. */
  readonly framePointers: boolean
  /** What is known at its return points; computed when a stack is first walked through it. */
  returnPoints: ReadonlyMap<number, FrameState> | undefined

  constructor(parts: {
    readonly handle: CodeHandle
    readonly length: number
    readonly align: number
    readonly entries: readonly number[]
    readonly fixed?: boolean | undefined
    readonly framePointers?: boolean | undefined
  }) {
    this.handle = parts.handle
    this.length = parts.length
    this.align = parts.align
    this.entries = parts.entries
    this.fixed = parts.fixed ?? false
    this.framePointers = parts.framePointers ?? false
  }

  addCaller(block: Block): void {
    if (this.callers.size === 0) this.callers = new Set([block])
    else (this.callers as Set<Block>).add(block)
  }

  dropCaller(block: Block): void {
    if (this.callers.has(block) && this.callers.size === 1) this.callers = NOBODY
    else (this.callers as Set<Block>).delete(block)
  }

  /** Bytes that it takes: the code, at least one trap byte behind it, and what is left of a granule. */
  get size(): number {
    return sizeOf(this.length)
  }
}

export class Block implements Extent {
  /** Bytes from the reservation's start. */
  position: number
  readonly size: number
  /** Of the object: who looks up an address needs no more than the block. */
  readonly length: number
  readonly handle: CodeHandle
  /** Nothing enters it any more; it stays until what runs in it has left. */
  retired = false
  readonly object: CodeObject
  fields: Fields
  /** What its LINK owners are. */
  readonly links: readonly CodeObject[]
  /** The number of the transaction that changes it, or was the last to. */
  transaction = 0

  constructor(object: CodeObject, position: number, fields: Fields, links: readonly CodeObject[]) {
    this.object = object
    this.position = position
    this.size = object.size
    this.length = object.length
    this.handle = object.handle
    this.fields = fields
    this.links = links
  }

  /** Enters this block into the reverse index of what it refers to. */
  link(): void {
    for (const target of this.links) target.addCaller(this)
  }

  unlink(): void {
    for (const target of this.links) target.dropCaller(this)
  }
}

/** The least alignment. */
export const LEAST_ALIGN: number = GRANULE
