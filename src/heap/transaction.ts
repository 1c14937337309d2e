/**
 * Moves objects, all or none.
 *
 *   plan       where each goes
 *   check      every field of every block that changes can hold its new value; an object whose move makes one fail stays, and the
 *              rest is planned anew
 *   image      the new bytes are made in memory of our own, from the blocks as they are: old and new places may overlap
 *   verify     each image has the canonical form of its object at the new places
 *   publish    in one write scope: places, callers' fields and code change together
 *   translate  whoever knows addresses is told
 *
 * Invariant: until the write scope is open nothing that anybody else sees has changed but `place` and `shift`
 * of objects, which are put back; from then on nothing can fail but by a fault of this heap.
 *
 * Images are made some at a time, in memory that stays in the cache, and twice: to be verified, before
 * anything is written, and to be published. Neighbours that go equally far are one copy.
 */
import { hex } from '../core/address.ts'
import { formatProblem, RelocError } from '../core/errors.ts'
import { canonicalForm } from './canonical.ts'
import { applyFields, failingField, fieldsAreWords, fieldsFit, type Placed } from './fields.ts'
import { Block } from './object.ts'
import type { CompactMode, Placement } from './plan.ts'
import { CodeMove } from './side-tables.ts'
import type { HeapState } from './state.ts'

/** One block that changes: it moves, or what it refers to does. */
interface Change extends Placed {
  readonly block: Block
  /** What lies at `place` afterwards: the block itself, or, draining, its copy. */
  readonly result: Block
  readonly from: number
  readonly size: number
}

/** Bytes of images that are made at once. */
const BATCH = 128 << 10

export interface TransactionOptions {
  readonly mode: CompactMode
  /** Whether each image is checked before it is published. */
  readonly verify: boolean
  /** @internal Called at each step; what it throws ends the transaction. */
  readonly probe?: ((step: string) => void) | undefined
}

/** What was moved, and what the plan in use kept. */
export interface Transacted {
  readonly moved: readonly CodeMove[]
  readonly kept: Placement['kept']
  /** Why blocks that the first plan moved stay. */
  readonly refused: ReadonlyMap<Block, string>
}

/**
 * Plans with `plan` and makes its moves. `plan` is called again, with more blocks that stay, for the moves
 * that some field cannot follow.
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
  /** What changes where it is may be running meanwhile: in another thread. */
  readonly #patches: boolean

  constructor(state: HeapState, placement: Placement, options: TransactionOptions) {
    this.#state = state
    this.#placement = placement
    this.#options = options
    this.#patches = state.holds > 0
    const stamp = ++state.transactions
    const { moves } = placement
    const drains = options.mode === 'drain'
    for (const { block, to } of moves) {
      block.object.place = to
      block.object.shift = to - block.position
    }
    for (const { block, to } of moves) {
      // Draining, the old copy is a caller like others.
      if (!drains) block.transaction = stamp
      const result = drains ? new Block(block.object, to, block.fields, block.links) : block
      this.#change(block, result, to)
    }
    for (const { block } of moves)
      for (const caller of block.object.callers)
        if (caller.transaction !== stamp) {
          caller.transaction = stamp
          this.#change(caller, caller, caller.position)
        }
  }

  #change(block: Block, result: Block, place: number): void {
    const { position: from, size, links } = block
    this.#changes.push({ block, result, from, place, size, shift: place - from, links })
  }

  /**
   * Checks every field and every image. Or says which blocks have to stay, so that fields which cannot take
   * their new values keep their old ones.
   */
  prepare(): { readonly stay: readonly Block[]; readonly why: string } | undefined {
    this.#options.probe?.('check')
    const stay: Block[] = []
    let why = ''
    for (const change of this.#changes) {
      const { block, from, shift, links } = change
      const fits = fieldsFit(block.fields, this.#state.memory.bytes, from, change)
      const torn = this.#patches && shift === 0 && !fieldsAreWords(block.fields, from, change)
      if (fits && !torn) continue
      why ||= fits
        ? `${block.handle.name} refers to it by a field that is not written at once, and may be running.`
        : this.#whyNot(change)
      // Whatever of its ends moves: itself first, and where it does not move, what it refers to.
      if (shift !== 0) stay.push(block)
      else for (const link of links) if (link.shift !== 0) stay.push(link.block)
    }
    if (stay.length > 0) return { stay, why }
    // Now, since nothing may fail once the write scope is open.
    this.#state.scratch.reserve(this.#changes.reduce((most, { size }) => Math.max(most, size), BATCH))
    if (this.#options.verify) this.#images((batch) => this.#verify(batch))
    return undefined
  }

  #whyNot(change: Change): string {
    const { block } = change
    const problem = failingField(block.fields, this.#state.codeOf(block), this.#state.address(block), change)
    return `${block.handle.name}: ${problem === undefined ? '' : formatProblem(problem)}`
  }

  /** Makes all images, some at a time: `use` finds those of a batch one behind the other in the scratch memory. */
  #images(use: (batch: readonly Change[]) => void): void {
    const { scratch } = this.#state
    const changes = this.#changes
    for (let first = 0; first < changes.length; ) {
      let size = 0
      let end = first
      do size += changes[end++].size
      while (end < changes.length && size + changes[end].size <= BATCH)
      const batch = changes.slice(first, end)
      this.#runs(batch, ({ from }, length, at) =>
        scratch.bytes.set(this.#state.memory.bytes.subarray(from, from + length), at),
      )
      let at = 0
      for (const change of batch) {
        applyFields(change.block.fields, scratch.view, at, change)
        at += change.size
      }
      use(batch)
      first = end
    }
  }

  /** Neighbours that stay neighbours: the first of them, their bytes, and where their images are. */
  #runs(changes: readonly Change[], use: (first: Change, size: number, at: number) => void): void {
    let at = 0
    for (let i = 0; i < changes.length; ) {
      const first = changes[i]
      let end = first.from
      do end += changes[i++].size
      while (i < changes.length && changes[i].from === end && changes[i].shift === first.shift)
      use(first, end - first.from, at)
      at += end - first.from
    }
  }

  #verify(batch: readonly Change[]): void {
    const { scratch, memory } = this.#state
    let at = 0
    for (const { block, place, size } of batch) {
      this.#options.probe?.('verify')
      if (canonicalForm(scratch, at, block, place) !== block.object.canonical)
        throw new RelocError(
          'not-verified',
          `${block.handle.name} would not be itself at ${hex(memory.base + BigInt(place))}: nothing was written. Its code was changed behind the heap's back, or this is a fault of the heap.`,
        )
      at += size
    }
  }

  publish(): CodeMove[] {
    const { memory, scratch } = this.#state
    let from = Number.POSITIVE_INFINITY
    let to = 0
    for (const change of this.#changes) {
      from = Math.min(from, change.from, change.place)
      to = Math.max(to, change.from + change.size, change.place + change.size)
    }
    this.#options.probe?.('publish')
    return memory.write(from, to, (writer) => {
      const moved = this.#replace()
      this.#images((batch) =>
        this.#runs(batch, ({ place, shift }, size, at) => {
          const image = scratch.bytes.subarray(at, at + size)
          if (this.#patches && shift === 0) writer.patch(place, image)
          else writer.write(place, image)
        }),
      )
      this.#runs(this.#changes, ({ from }, size) => {
        for (const [start, end] of memory.registry.holes(from, from + size)) writer.poison(start, end - start)
      })
      return moved
    })
  }

  /** Lets every block be where it is to be. */
  #replace(): CodeMove[] {
    const state = this.#state
    const { registry, base } = state.memory
    const { moves, free } = this.#placement
    const moved = moves.map(({ block, to }) => new CodeMove(block, to, base))
    if (this.#options.mode === 'slide') for (const { block } of moves) registry.delete(block)
    for (const { block, result, place } of this.#changes) {
      if (block === result && block.position === place) continue
      result.position = place
      registry.add(result)
      if (block === result) continue
      result.object.block = result
      result.link()
      block.retired = true
      state.retired.add(block)
    }
    state.free = free
    return moved
  }

  /** Lets objects be where they are, whatever happened. */
  end(): void {
    for (const {
      block: { object },
    } of this.#placement.moves) {
      object.place = object.block.position
      object.shift = 0
    }
  }
}
