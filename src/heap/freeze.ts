/**
 * Giving records up on purpose: a frozen object never moves again, and forgets what only moves of its own would need.
 */
import { RelocError } from '../core/errors.ts'
import { type Fields, LINK, type Owner } from './fields.ts'
import type { CodeObject } from './object.ts'
import type { HeapState } from './state.ts'

/**
 * Throws `refused` while an old copy of it runs, `not-verified` where its bytes are not its own: they could
 * never be told again.
 */
export function freeze(state: HeapState, object: CodeObject): void {
  const { block, handle } = object
  for (const retired of state.retired)
    if (retired.object === object)
      throw new RelocError(
        'refused',
        `${handle.name} is not frozen: an old copy of it may still run. Freeze it when that has drained.`,
      )
  if (state.canonical(block) !== object.canonical)
    throw new RelocError('not-verified', `${handle.name} is not frozen: its code is not what was added.`)
  object.frozen = true
  block.fields = followingFields(block.fields)
  object.canonical = state.canonical(block)
}

/** The fields that change when other objects move. */
function followingFields({ offsets, groups, splits }: Fields): Fields {
  const follows = ({ target, anchor }: { target: Owner; anchor: Owner }): boolean =>
    target >= LINK || anchor >= LINK
  const kept: number[] = []
  const following = groups.filter(follows).map((group) => {
    const from = kept.length
    kept.push(...offsets.subarray(group.from, group.to))
    return { ...group, from, to: kept.length }
  })
  const columns = offsets instanceof Uint16Array ? Uint16Array.from(kept) : Uint32Array.from(kept)
  return { offsets: columns, groups: following, splits: splits.filter(follows) }
}
