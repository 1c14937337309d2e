/**
 * Where objects go. A plan is data: which blocks move where, which stay and why, and the free ranges
 * afterwards. Nothing is changed.
 *
 * Both modes walk the blocks by address and give each the lowest range that fits. Sliding, the old places
 * count as free, so an object may overlap its own old place; none goes up. Draining, old places stay taken
 * until what runs there has left.
 */
import { optional, optionsRule, type Rule, wrongArgument } from '../core/options.ts'
import type { FreeList } from './free-list.ts'
import type { Block } from './object.ts'
import type { HeapState } from './state.ts'

export type CompactMode = 'slide' | 'drain'

/** How much one compaction may do; what is left moves in the next. */
export interface Budget {
  /** Bytes of code moved. */
  readonly bytes?: number | undefined
  /** Objects moved. */
  readonly objects?: number | undefined
}

const checkAmount: Rule<number> = (value, what) => {
  if (typeof value !== 'number' || !(value >= 0)) throw wrongArgument(value, what, 'a number from 0')
}

export const checkBudget: Rule<Budget> = optionsRule<Budget>('budget', {
  bytes: optional(checkAmount),
  objects: optional(checkAmount),
})

export interface PlannedMove {
  readonly block: Block
  readonly to: number
}

export interface Placement {
  /** By address; sliding, none of several goes up, so that none comes to lie where a later one is. */
  readonly moves: readonly PlannedMove[]
  /** What may not move, and why; by address. */
  readonly kept: readonly { readonly block: Block; readonly reason: string }[]
  /** The free ranges once the moves are made. */
  readonly free: FreeList
}

/** Why a block stays where it is. */
export type Reason = 'frozen' | 'pinned' | 'referenced' | 'running' | 'stub' | 'retired' | 'out of reach'

/** Why a block may not move now, whatever the destination; undefined: it may. */
export function reasonToStay(state: HeapState, block: Block): Reason | undefined {
  const { object } = block
  if (block.retired) return 'retired'
  if (object.fixed) return 'stub'
  if (object.frozen) return 'frozen'
  if (object.pins > 0) return 'pinned'
  // Mostly these sets are empty, and to look for an object costs even so.
  if (state.met.size > 0 && state.met.has(block)) return 'referenced'
  return state.running.size > 0 && state.running.has(block) ? 'running' : undefined
}

/** A plan for all blocks but those that `refused` names and those that have a reason to stay. */
export function planCompaction(
  state: HeapState,
  mode: CompactMode,
  budget: Budget,
  refused: ReadonlyMap<Block, string>,
): Placement {
  const blocks: Block[] = []
  const kept: Placement['kept'][number][] = []
  const all = state.memory.registry.list()
  for (const block of all) {
    const reason = (refused.size > 0 ? refused.get(block) : undefined) ?? reasonToStay(state, block)
    if (reason === undefined) blocks.push(block)
    else kept.push({ block, reason })
  }
  const free = mode === 'slide' ? state.freeBetween(kept.map(({ block }) => block)) : state.free.clone()
  let bytes = budget.bytes ?? Number.POSITIVE_INFINITY
  let objects = budget.objects ?? Number.POSITIVE_INFINITY
  const moves: PlannedMove[] = []
  for (const block of blocks) {
    const to = objects > 0 && bytes >= block.size ? destination(free, block) : block.position
    if (to !== block.position) {
      moves.push({ block, to })
      bytes -= block.size
      objects--
    } else if (mode === 'slide') free.takeAt(block.position, block.size)
  }
  return { moves, kept, free }
}

/** The lowest place, taken from `free`, or the block's own place, not taken. */
function destination(free: FreeList, block: Block): number {
  const to = free.take(block.size, block.object.align)
  if (to >= 0 && to < block.position) return to
  if (to >= 0) free.free(to, block.size)
  return block.position
}

/**
 * A plan for one block: to `to`, which must be free (or, sliding, its own), or to the lowest place that is not its own.
 */
export function planMove(
  state: HeapState,
  mode: CompactMode,
  block: Block,
  to: number | undefined,
): Placement | undefined {
  const free = state.free.clone()
  const anywhere = to === undefined
  if (mode === 'slide' && !anywhere) free.free(block.position, block.size)
  const position = anywhere ? free.take(block.size, block.object.align) : to
  if (position < 0 || (!anywhere && !free.takeAt(position, block.size))) return undefined
  if (mode === 'slide' && anywhere) free.free(block.position, block.size)
  return { moves: [{ block, to: position }], kept: [], free }
}
