/**
 * Moves objects, all or none.
 *
 *   plan       where each goes
 *   check      every field of every block that changes can hold its new value; an object whose move makes one fail stays, and the
 *              rest is planned anew
 *   image      the new bytes are made in memory of our own, each from the block as it is: old and new places may overlap
 *   verify     each image has the canonical form of its object at the new places
 *   publish    in one write scope: places, callers' fields and code change together
 *   translate  whoever knows addresses is told
 *
 * Invariant: until the write scope is open nothing that anybody else sees has changed but `shift`, which is put back; from then on
 * nothing can fail but by a fault of this heap.
 */
import { hex } from '../core/address.ts'
import { formatProblem, RelocError } from '../core/errors.ts'
import {
  applyFields,
  copyFields,
  type Fields,
  failingField,
  fieldsFit,
  LINK,
  type Owner,
  SELF,
  type ShiftOf,
  settleFields,
} from './fields.ts'
import { Block, type CodeObject } from './object.ts'
import type { CompactMode, Placement } from './plan.ts'
import type { HeapState } from './state.ts'

/** One block that changes: it moves, or what it refers to does. */
interface Change {
  readonly block: Block
  /** What lies at `to` afterwards: the block itself, or, draining, its copy. */
  readonly result: Block
  readonly to: number
  readonly shift: ShiftOf
  /** Whole granules, with the traps behind the code. */
  image: Uint8Array
}

export interface TransactionOptions {
  readonly mode: CompactMode
  /** Whether each image is checked before it is published. */
  readonly verify: boolean
  /** @internal Called at each step; what it throws ends the transaction. */
  readonly probe?: ((step: string) => void) | undefined
}

/** A move that was made. */
export interface MovedObject {
  readonly object: CodeObject
  /** Positions. */
  readonly from: number
  readonly to: number
}

/**
 * Plans with `plan` and makes its moves. `plan` is called again, with one block more that stays, for each move that some field cannot follow.
 */
export function transact(
  state: HeapState,
  plan: (refused: ReadonlySet<Block>) => Placement,
  options: TransactionOptions,
): { readonly moved: readonly MovedObject[]; readonly refused: ReadonlyMap<Block, string> } {
  const refused = new Map<Block, string>()
  const refusedBlocks = new Set<Block>()
  for (;;) {
    const placement = plan(refusedBlocks)
    options.probe?.('plan')
    const transaction = new Transaction(state, placement, options)
    try {
      const failing = transaction.failing()
      if (failing !== undefined) {
        const before = refusedBlocks.size
        for (const block of failing.stay) refusedBlocks.add(block)
        for (const block of failing.stay) refused.set(block, failing.why)
        if (refusedBlocks.size === before)
          throw new RelocError('refused', `No plan serves every field: ${failing.why}`)
        continue
      }
      return { moved: transaction.commit(), refused }
    } finally {
      transaction.end()
    }
  }
}

class Transaction {
  readonly #state: HeapState
  readonly #placement: Placement
  readonly #options: TransactionOptions
  readonly #changes: Change[] = []
  /** Where images are made, and how much of it is in use. */
  #scratch: Uint8Array = NOTHING
  #drawn = 0

  constructor(state: HeapState, placement: Placement, options: TransactionOptions) {
    this.#state = state
    this.#placement = placement
    this.#options = options
    const { moves } = placement
    for (const { block, to } of moves) block.object.shift = to - block.position
    const seen = new Set<Block>()
    for (const { block, to } of moves) {
      const drains = options.mode === 'drain'
      if (!drains) seen.add(block)
      const fields = drains ? copyFields(block.fields) : block.fields
      const result = drains ? new Block(block.object, to, fields, block.links) : block
      this.#change(block, result, to, to - block.position)
    }
    for (const { block } of moves)
      for (const caller of block.object.callers)
        if (!seen.has(caller)) {
          seen.add(caller)
          this.#change(caller, caller, caller.position, 0)
        }
  }

  #change(block: Block, result: Block, to: number, self: number): void {
    const { links } = block
    const shift = (owner: Owner): number =>
      owner < SELF ? 0 : owner === SELF ? self : links[owner - LINK].shift
    this.#changes.push({ block, result, to, shift, image: NOTHING })
  }

  /** The blocks that have to stay so that a field which cannot take its new value keeps its old one, and why. */
  failing(): { readonly stay: readonly Block[]; readonly why: string } | undefined {
    this.#options.probe?.('check')
    const stay: Block[] = []
    let why = ''
    for (const { block, shift } of this.#changes) {
      const { fields, object } = block
      if (fieldsFit(fields, this.#state.codeOf(block), shift)) continue
      why ||= this.#whyNot(fields, block, shift)
      // Whatever of its ends moves: itself first, and where it does not move, what it refers to.
      if (object.shift !== 0 && object.block === block) stay.push(block)
      else for (const link of block.links) if (link.shift !== 0) stay.push(link.block)
    }
    return stay.length === 0 ? undefined : { stay, why }
  }

  #whyNot(fields: Fields, block: Block, shift: ShiftOf): string {
    const problem = failingField(fields, this.#state.codeOf(block), this.#state.address(block), shift)
    return `${block.object.handle.name}: ${problem === undefined ? '' : formatProblem(problem)}`
  }

  commit(): MovedObject[] {
    if (this.#placement.moves.length === 0) return []
    this.#scratch = new Uint8Array(this.#changes.reduce((sum, { block }) => sum + block.size, 0))
    for (const change of this.#changes) this.#draw(change)
    if (this.#options.verify) for (const change of this.#changes) this.#verify(change)
    return this.#publish()
  }

  #draw(change: Change): void {
    this.#options.probe?.('image')
    const { block, shift } = change
    const image = this.#scratch.subarray(this.#drawn, (this.#drawn += block.size))
    image.set(this.#state.wholeOf(block))
    applyFields(block.fields, image, shift)
    change.image = image
  }

  #verify({ block, to, image }: Change): void {
    this.#options.probe?.('verify')
    const { object } = block
    const { memory } = this.#state
    const code = image.subarray(0, object.length)
    const form = this.#state.canonicalAt(
      code,
      block,
      block.fields,
      to,
      (link) => link.block.position + link.shift,
    )
    if (form !== object.canonical)
      throw new RelocError(
        'not-verified',
        `${object.handle.name} would not be itself at ${hex(memory.base + BigInt(to))}: nothing was written. Its code was changed behind the heap's back, or this is a fault of the heap.`,
      )
  }

  #publish(): MovedObject[] {
    const state = this.#state
    const { memory } = state
    const { moves, free } = this.#placement
    const drains = this.#options.mode === 'drain'
    let from = Number.POSITIVE_INFINITY
    let to = 0
    for (const change of this.#changes) {
      from = Math.min(from, change.block.position, change.to)
      to = Math.max(to, change.block.position + change.block.size, change.to + change.block.size)
    }
    this.#options.probe?.('publish')
    return memory.write(from, to, (writer) => {
      const moved = moves.map((move) => ({
        object: move.block.object,
        from: move.block.position,
        to: move.to,
      }))
      if (!drains) for (const { block } of moves) memory.registry.delete(block)
      // What is vacated is poisoned first: the new places may overlap it.
      if (!drains) for (const { block } of moves) writer.poison(block.position, block.size)
      for (const { block, result, to, shift } of this.#changes) {
        settleFields(result.fields, shift)
        if (block === result && block.position === to) continue
        result.position = to
        memory.registry.add(result)
        if (block === result) continue
        result.object.block = result
        result.link()
        block.retired = true
        state.retired.add(block)
      }
      for (const { result, image } of this.#changes) writer.write(result.position, image)
      state.free = free
      return moved
    })
  }

  /** Puts `shift` back, whatever happened. */
  end(): void {
    for (const { block } of this.#placement.moves) block.object.shift = 0
  }
}

const NOTHING = new Uint8Array(0)
