/**
 * Moves objects, all or none.
 *
 *   plan       where each goes
 *   check      every field of every block that changes can hold its new value; an object whose move makes one fail stays, and the
 *              rest is planned anew
 *   image      the new bytes are made in memory of our own, from the blocks as they are: old and new places may overlap. Neighbours that go
 *              equally far are one copy
 *   verify     each image has the canonical form of its object at the new places
 *   publish    in one write scope: places, callers' fields and code change together
 *   translate  whoever knows addresses is told
 *
 * Invariant: until the write scope is open nothing that anybody else sees has changed but `shift`, which is put back; from then on
 * nothing can fail but by a fault of this heap.
 */
import { hex } from '../core/address.ts'
import { formatProblem, RelocError } from '../core/errors.ts'
import { canonicalForm } from './canonical.ts'
import { applyFields, copyFields, failingField, fieldsFit, type Movement, settleFields } from './fields.ts'
import { Block, type CodeObject } from './object.ts'
import type { CompactMode, Placement } from './plan.ts'
import type { HeapState } from './state.ts'

/** One block that changes: it moves, or what it refers to does. */
interface Change extends Movement {
  readonly block: Block
  /** What lies at `to` afterwards: the block itself, or, draining, its copy. */
  readonly result: Block
  readonly to: number
  /** Its image in the scratch memory: whole granules, with the traps behind the code. */
  readonly at: number
}

/** Neighbours that stay neighbours. */
interface Run {
  readonly from: number
  readonly to: number
  readonly at: number
  size: number
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

/** What was moved, and what the plan in use kept. */
export interface Transacted {
  readonly moved: readonly MovedObject[]
  readonly kept: Placement['kept']
  /** Why blocks that the first plan moved stay. */
  readonly refused: ReadonlyMap<Block, string>
}

/**
 * Plans with `plan` and makes its moves. `plan` is called again, with more blocks that stay, for the moves that some field cannot follow.
 */
export function transact(
  state: HeapState,
  plan: (refused: ReadonlyMap<Block, string>) => Placement,
  options: TransactionOptions,
): Transacted {
  const refused = new Map<Block, string>()
  for (;;) {
    const placement = plan(refused)
    options.probe?.('plan')
    if (placement.moves.length === 0) return { moved: [], kept: placement.kept, refused }
    const transaction = new Transaction(state, placement, options)
    try {
      const failing = transaction.prepare()
      if (failing === undefined) return { moved: transaction.publish(), kept: placement.kept, refused }
      const before = refused.size
      for (const block of failing.stay) refused.set(block, failing.why)
      if (refused.size === before)
        throw new RelocError('refused', `No plan serves every field: ${failing.why}`)
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
  readonly #runs: Run[] = []
  /** Bytes of all images, and of the longest. */
  #size = 0
  #longest = 0

  constructor(state: HeapState, placement: Placement, options: TransactionOptions) {
    this.#state = state
    this.#placement = placement
    this.#options = options
    const { moves } = placement
    const drains = options.mode === 'drain'
    for (const { block, to } of moves) block.object.shift = to - block.position
    for (const { block, to } of moves) {
      // Draining, the old copy is a caller like others.
      if (!drains) block.transaction = this
      const result = drains ? new Block(block.object, to, copyFields(block.fields), block.links) : block
      this.#change(block, result, to)
    }
    for (const { block } of moves)
      for (const caller of block.object.callers)
        if (caller.transaction !== this) {
          caller.transaction = this
          this.#change(caller, caller, caller.position)
        }
  }

  #change(block: Block, result: Block, to: number): void {
    const { position, size, links } = block
    const at = this.#size
    this.#size += size
    this.#longest = Math.max(this.#longest, size)
    this.#changes.push({ block, result, to, at, shift: to - position, links })
    const last = this.#runs[this.#runs.length - 1]
    if (last !== undefined && last.from + last.size === position && last.to + last.size === to)
      last.size += size
    else this.#runs.push({ from: position, to, at, size })
  }

  /** Makes the images, checked. Or says which blocks have to stay so that fields which cannot take their new values keep their old ones, and why. */
  prepare(): { readonly stay: readonly Block[]; readonly why: string } | undefined {
    const { scratch, memory } = this.#state
    const { probe, verify } = this.#options
    probe?.('check')
    // Behind the images there is room to take one apart.
    scratch.reserve(this.#size + this.#longest)
    for (const { from, at, size } of this.#runs)
      scratch.bytes.set(memory.bytes.subarray(from, from + size), at)
    const stay: Block[] = []
    let why = ''
    for (const change of this.#changes) {
      const { block, at } = change
      if (!fieldsFit(block.fields, scratch.view, at, change)) {
        why ||= this.#whyNot(change)
        // Whatever of its ends moves: itself first, and where it does not move, what it refers to.
        if (change.shift !== 0) stay.push(block)
        else for (const link of block.links) if (link.shift !== 0) stay.push(link.block)
      } else if (stay.length === 0) {
        probe?.('image')
        applyFields(block.fields, scratch.view, at, change)
        if (verify) this.#verify(change)
      }
    }
    return stay.length === 0 ? undefined : { stay, why }
  }

  #whyNot(change: Change): string {
    const { block } = change
    const problem = failingField(block.fields, this.#state.codeOf(block), this.#state.address(block), change)
    return `${block.handle.name}: ${problem === undefined ? '' : formatProblem(problem)}`
  }

  #verify({ block, to, at }: Change): void {
    this.#options.probe?.('verify')
    const { scratch, memory } = this.#state
    scratch.bytes.copyWithin(this.#size, at, at + block.size)
    if (canonicalForm(scratch, this.#size, block, to) !== block.object.canonical)
      throw new RelocError(
        'not-verified',
        `${block.handle.name} would not be itself at ${hex(memory.base + BigInt(to))}: nothing was written. Its code was changed behind the heap's back, or this is a fault of the heap.`,
      )
  }

  publish(): MovedObject[] {
    const state = this.#state
    const { memory, scratch } = state
    const { moves, free } = this.#placement
    const drains = this.#options.mode === 'drain'
    let from = Number.POSITIVE_INFINITY
    let to = 0
    for (const run of this.#runs) {
      from = Math.min(from, run.from, run.to)
      to = Math.max(to, run.from + run.size, run.to + run.size)
    }
    this.#options.probe?.('publish')
    return memory.write(from, to, (writer) => {
      const moved = moves.map(({ block, to }) => ({ object: block.object, from: block.position, to }))
      if (!drains) for (const { block } of moves) memory.registry.delete(block)
      for (const change of this.#changes) {
        const { block, result, to } = change
        settleFields(result.fields, change)
        if (block === result && block.position === to) continue
        result.position = to
        memory.registry.add(result)
        if (block !== result) this.#replace(block, result)
      }
      for (const { to, at, size } of this.#runs) writer.write(to, scratch.bytes.subarray(at, at + size))
      if (!drains)
        for (const { from, to, size } of this.#runs)
          if (from !== to)
            for (const [start, end] of memory.registry.holes(from, from + size))
              writer.poison(start, end - start)
      state.free = free
      return moved
    })
  }

  /** From now on the object is entered at `result`; what runs in `block` goes on there. */
  #replace(block: Block, result: Block): void {
    result.object.block = result
    result.link()
    block.retired = true
    this.#state.retired.add(block)
  }

  /** Puts `shift` back, whatever happened. */
  end(): void {
    for (const { block } of this.#placement.moves) block.object.shift = 0
  }
}
