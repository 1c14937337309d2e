/**
 * Moves, from what the user asks to what the side tables are told: stacks are looked at, a plan is made, the
 * transaction, the frames.
 */
import { type AddressLike, hex, toAddress } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { checkFunction, type OptionRules, oneOf, optional, optionsRule } from '../core/options.ts'
import type { Calls } from './calls.ts'
import type { CodeHandle, CodeObject } from './object.ts'
import { type Budget, type CompactMode, checkBudget, planCompaction, planMove, reasonToStay } from './plan.ts'
import { CodeMove, type SideTables } from './side-tables.ts'
import type { ReturnSlot } from './stack.ts'
import type { HeapState } from './state.ts'
import { transact } from './transaction.ts'

export interface CompactOptions {
  /**
   * `slide`: old places are free at once; nothing may be running that cannot be rewritten. `drain`: old
   * copies stay until nothing runs in them.
   */
  readonly mode?: CompactMode | undefined
  readonly budget?: Budget | undefined
  /** @internal */
  readonly probe?: ((step: string) => void) | undefined
}

export interface CompactReport {
  readonly moves: readonly CodeMove[]
  /** Bytes of code moved. */
  readonly bytes: number
  /** What stays although it could lie lower, and why. */
  readonly kept: readonly { readonly handle: CodeHandle; readonly reason: string }[]
  /** 1 - longest free range / free bytes. */
  readonly fragmentation: { readonly before: number; readonly after: number }
}

/** Of `CodeHeap.move`. */
export interface ObjectMoveOptions extends CompactOptions {
  /** An address that is free and aligned; by default the lowest place that fits. */
  readonly to?: AddressLike | undefined
}

const COMPACT_RULES: OptionRules<CompactOptions> = {
  mode: optional(oneOf('slide', 'drain')),
  budget: optional(checkBudget),
  probe: optional(checkFunction),
}
const checkCompactOptions = optionsRule<CompactOptions>('heap.compact', COMPACT_RULES)
const checkMoveOptions = optionsRule<ObjectMoveOptions>('heap.move', {
  ...COMPACT_RULES,
  to: optional(toAddress),
})

export class Mover {
  readonly #state: HeapState
  readonly #calls: Calls
  readonly #sideTables: SideTables
  readonly #verify: boolean

  /** @param verify whether every block is checked before it is published */
  constructor(state: HeapState, calls: Calls, sideTables: SideTables, verify: boolean) {
    this.#state = state
    this.#calls = calls
    this.#sideTables = sideTables
    this.#verify = verify
  }

  move({ handle, block, align }: CodeObject, options: ObjectMoveOptions): CodeMove {
    const state = this.#state
    const { mode = 'slide', to } = checkMoveOptions(options)
    const position = to === undefined ? undefined : this.#positionOf(toAddress(to, 'to'), align)
    // It is there: nothing changes, and nobody is told.
    if (position === block.position) return new CodeMove(block, position, state.memory.base)
    const returns = this.#calls.walk(mode)
    const reason = reasonToStay(state, block)
    if (reason !== undefined) throw new RelocError('refused', `${handle.name} does not move: ${reason}.`)
    const { moved, refused } = this.#transact(mode, returns, options, (stay) => {
      if (stay.has(block)) return { moves: [], kept: [], free: state.free }
      const placement = planMove(state, mode, block, position)
      if (placement === undefined)
        throw new RelocError('no-room', `${handle.name} needs ${block.size} free bytes where it shall go.`)
      return placement
    })
    if (moved.length === 0)
      throw new RelocError('refused', `${handle.name} does not move: ${refused.get(block) ?? ''}`)
    this.#sideTables.tell([(table) => table.onMove(moved)])
    return moved[0]
  }

  compact(options: CompactOptions): CompactReport {
    const state = this.#state
    const { mode = 'slide' } = checkCompactOptions(options)
    this.#calls.release()
    const returns = this.#calls.walk(mode)
    const before = state.fragmentation
    const { moved: moves, kept } = this.#transact(mode, returns, options, (refused) =>
      planCompaction(state, mode, options.budget ?? {}, refused),
    )
    if (moves.length > 0) this.#sideTables.tell([(table) => table.onMove(moves)])
    this.#calls.release()
    return {
      moves,
      bytes: moves.reduce((sum, move) => sum + move.length, 0),
      kept: kept
        .filter(({ block }) => !block.object.fixed && !block.retired)
        .map(({ block: { handle }, reason }) => ({ handle, reason })),
      fragmentation: { before, after: state.fragmentation },
    }
  }

  #positionOf(address: bigint, align: number): number {
    const position = this.#state.position(address)
    if (position < 0 || address % BigInt(align) !== 0n)
      throw new RelocError(
        'bad-argument',
        `${hex(address)} is no place for it: a multiple of ${align} in the reservation is needed.`,
      )
    return position
  }

  #transact(
    mode: CompactMode,
    returns: readonly ReturnSlot[],
    options: CompactOptions,
    plan: Parameters<typeof transact>[1],
  ): ReturnType<typeof transact> {
    const done = transact(this.#state, plan, { mode, verify: this.#verify, probe: options.probe })
    if (done.moved.length > 0) this.#calls.rewrite(returns)
    return done
  }
}
