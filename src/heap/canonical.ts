/**
 * The canonical form of a block: its bytes with every field taken relative to the owners of its ends and every root taken out. It is the
 * same wherever the block and what it refers to lie, so one hash, taken when the object was added, tells at any time whether each field
 * holds what it must and every other byte is what it was.
 *
 * It does not know how far anything went: each field is compared with where things are now. Places are positions in the reservation, whose
 * own address never changes.
 */
import { viewOf } from '../core/bytes.ts'
import { contentHash } from '../table/hash.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import { joinPieces, movedValue, writePieces } from '../table/split.ts'
import { addToFields, FIXED, type Fields, type Owner } from './fields.ts'
import { normaliseRoot, type Root } from './roots.ts'

/** Hash of the canonical form of `bytes`, which are not changed. `positionOf` is where an owner other than FIXED is. */
export function canonicalForm(
  bytes: Uint8Array,
  { groups, splits }: Fields,
  roots: readonly Root[],
  positionOf: (owner: Owner) => number,
): string {
  const copy = bytes.slice()
  const view = viewOf(copy)
  const at = (owner: Owner): number => (owner === FIXED ? 0 : positionOf(owner))
  for (const root of roots) normaliseRoot(copy, root)
  for (const { kind, target, anchor, offsets } of groups)
    addToFields(view, KIND_ROWS[kind].width, offsets, at(anchor) - at(target))
  for (const { pieces, target, anchor, address } of splits) {
    const distance = BigInt(at(target) - at(anchor))
    const rest = movedValue(joinPieces(view, pieces), pieces, address, -distance)
    writePieces(
      view,
      pieces,
      pieces.map(({ shift, width }) => BigInt.asUintN(8 * width, rest >> BigInt(shift))),
    )
  }
  return contentHash(copy)
}
