/**
 * The canonical form of a block: its bytes with every field taken relative to the owners of its ends and every root taken out. It is the
 * same wherever the block and what it refers to lie, so one hash, taken when the object was added, tells at any time whether each field
 * holds what it must and every other byte is what it was.
 *
 * It shares nothing with how fields are changed: each is computed from the places as they are now, not from how far anything went.
 */
import { readField, viewOf, writeField } from '../core/bytes.ts'
import { contentHash } from '../table/hash.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import { joinPieces, movedValue, writePieces } from '../table/split.ts'
import { FIXED, type Fields, type Owner, SELF } from './fields.ts'
import { normaliseRoot, type Root } from './roots.ts'

/** Hash of the canonical form of `bytes`, which are not changed. `addressOf` is where an owner other than FIXED is. */
export function canonicalForm(
  bytes: Uint8Array,
  { groups, splits }: Fields,
  roots: readonly Root[],
  addressOf: (owner: Owner) => bigint,
): string {
  const copy = bytes.slice()
  const view = viewOf(copy)
  const at = (owner: Owner): bigint => (owner === FIXED ? 0n : addressOf(owner))
  for (const root of roots) normaliseRoot(copy, root)
  for (const { kind, target, anchor, offsets } of groups) {
    const { width } = KIND_ROWS[kind]
    const distance = at(target) - at(anchor)
    if (width === 4) subtract32(view, offsets, Number(BigInt.asIntN(32, distance)))
    else
      for (const offset of offsets) writeField(view, offset, width, readField(view, offset, width) - distance)
  }
  for (const { pieces, target, anchor } of splits) {
    const distance = at(target) - at(anchor)
    const rest = movedValue(joinPieces(view, pieces), pieces, distance, -distance)
    writePieces(
      view,
      pieces,
      pieces.map(({ shift, width }) => BigInt.asUintN(8 * width, rest >> BigInt(shift))),
    )
  }
  return contentHash(copy)
}

function subtract32(view: DataView, offsets: Uint32Array, distance: number): void {
  for (const offset of offsets) view.setInt32(offset, view.getInt32(offset, true) - distance, true)
}

/** Owners' addresses for `canonicalForm`. */
export const ownerAddress =
  (self: bigint, link: (owner: Owner) => bigint): ((owner: Owner) => bigint) =>
  (owner) =>
    owner === SELF ? self : link(owner)
