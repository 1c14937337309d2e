/**
 * What a move out of reach leaves behind in a table: which instructions give their place to a veneer's branch
 * or to another form, and what they were. A veneered table describes the *original* bytes and how far
 * everything has moved since; a later move starts from those.
 */
import { copyBytes, viewOf } from '../core/bytes.ts'
import { FIXED, groupSum, movedSum, type SiteGroup } from './groups.ts'
import type { Pieces } from './pieces.ts'

/** Veneers and literals of a blob. */
export interface Veneered {
  /** How far each covered range has moved since the replaced bytes were taken; signed. */
  readonly deltas: readonly bigint[]
  /** Instructions that were replaced in place: their bytes as they were before the move. */
  readonly replaced: Pieces
  /** Address of the veneers' first byte now, and how many bytes they are. */
  readonly at: bigint
  readonly length: number
}

/**
 * `code` with the replaced instructions as they were; their fields hold values of then. `code` itself where
 * there are none.
 */
export function withReplaced(code: Uint8Array, veneered: Veneered | undefined): Uint8Array {
  if (veneered === undefined) return code
  const original = copyBytes(code)
  veneered.replaced.writeTo(original)
  return original
}

/** Those of `offsets` (ascending) that lie in replaced instructions: fields that hold values of then. */
export function heldOffsets(offsets: Uint32Array, veneered: Veneered | undefined): Uint32Array {
  if (veneered === undefined) return new Uint32Array(0)
  const { replaced } = veneered
  let n = 0
  return offsets.filter((offset) => {
    while (n < replaced.length && replaced.end(n) <= offset) n++
    return n < replaced.length && replaced.start(n) <= offset
  })
}

/** How far the value of a group's field has moved since the replaced bytes were taken. */
function changeSince({ target, anchor }: SiteGroup, { deltas }: Veneered): bigint {
  const shift = (place: number): bigint => (place === FIXED ? 0n : deltas[place])
  return shift(target) - shift(anchor)
}

/** What the fields of a group hold together in the bytes that `withReplaced` gives. */
export const heldSum = (group: SiteGroup, veneered: Veneered | undefined): bigint =>
  veneered === undefined
    ? group.sum
    : movedSum({ ...group, offsets: heldOffsets(group.offsets, veneered) }, -changeSince(group, veneered))

/** `SiteGroup.sum` of a group whose fields are in `original`, the bytes that `withReplaced` gives. */
export function wholeSum(group: SiteGroup, original: Uint8Array, veneered: Veneered | undefined): bigint {
  const sum = groupSum(viewOf(original), group.kind, group.offsets)
  if (veneered === undefined) return sum
  const held = heldOffsets(group.offsets, veneered)
  return movedSum({ ...group, sum, offsets: held }, changeSince(group, veneered))
}
