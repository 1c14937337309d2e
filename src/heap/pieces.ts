/**
 * Addresses that code builds from several pieces. While an instruction pointer stands among the pieces of
 * one, half of it is in a register already: what it refers to must not change. Nobody else is concerned:
 * before the first piece and behind the last the bytes count, as they are then.
 *
 * `points` are the positions where code may stand (return addresses, and whatever may be one); undefined: anywhere.
 */
import { KIND_ROWS } from '../table/kinds.ts'
import type { SplitPiece } from '../table/site.ts'
import { isInWord, LINK, SELF } from './fields.ts'
import type { Block } from './object.ts'
import type { CompactMode } from './plan.ts'
import type { Root, RootField } from './roots.ts'
import type { HeapState } from './state.ts'

type Points = ReadonlySet<number> | undefined

/** Blocks of the heap, with the offsets in them, where code may stand. */
function* stands(state: HeapState, points: Points): IterableIterator<readonly [Block, number | undefined]> {
  const { registry } = state.memory
  if (points === undefined) for (const block of registry) yield [block, undefined]
  else
    for (const point of points) {
      const block = registry.find(point)
      if (block !== undefined) yield [block, point - block.position]
    }
}

/** Whether code that stands at `offset` (undefined: anywhere) may have read one of the pieces and not yet all. */
function among(pieces: readonly SplitPiece[], offset: number | undefined): boolean {
  if (offset === undefined) return true
  const first = Math.min(...pieces.map((piece) => piece.offset))
  const last = Math.max(...pieces.map((piece) => piece.offset + piece.width))
  return offset > first && offset <= last
}

/**
 * What may not move, since its address, or the distance to it, is being built now. Code that builds its own
 * may drain: it goes on in the old copy.
 */
export function tornBlocks(state: HeapState, points: Points, mode: CompactMode): Set<Block> {
  const torn = new Set<Block>()
  for (const [block, offset] of stands(state, points))
    for (const { pieces, target, anchor } of block.fields.splits)
      if (among(pieces, offset))
        for (const owner of [target, anchor])
          if (owner >= LINK) torn.add(block.links[owner - LINK].block)
          else if (owner === SELF && mode === 'slide') torn.add(block)
  return torn
}

/**
 * Roots that may not change: they are being built now, or code that may be running in another thread would
 * see a field of one half written.
 */
export function tornRoots(state: HeapState, points: Points): Set<Root> {
  const torn = new Set<Root>()
  const runs = points === undefined && state.holds > 0
  for (const [block, offset] of stands(state, points)) {
    const isTorn = ({ kind, offset: field, pieces }: RootField): boolean =>
      pieces !== undefined
        ? among(pieces, offset)
        : runs && !isInWord(block.position + field, KIND_ROWS[kind].width)
    for (const root of block.object.roots) if (root.fields.some(isTorn)) torn.add(root)
  }
  return torn
}
