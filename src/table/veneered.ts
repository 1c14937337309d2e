/**
 * What a move out of reach leaves behind in a table: which instructions give their place to a veneer's branch or to another form, and what they were.
 * A veneered table describes the *original* bytes and how far everything has moved since; a later move starts from those.
 */
import { FIXED, movedSum, type SiteGroup } from './groups.ts'

/** An instruction that was replaced in place. */
export interface Replaced {
  /** Of its first byte, in bytes from the blob's start. */
  readonly offset: number
  /** Its bytes as they were before the move. */
  readonly bytes: Uint8Array
}

/** Veneers and literals of a blob. */
export interface Veneered {
  /** How far each covered range has moved since the replaced bytes were taken; signed. */
  readonly deltas: readonly bigint[]
  /** Ascending by offset. */
  readonly replaced: readonly Replaced[]
  /** Address of the veneers' first byte now, and how many bytes they are. */
  readonly at: bigint
  readonly length: number
}

/** `code` with the replaced instructions as they were; their fields hold values of then. `code` itself where there are none. */
export function withReplaced(code: Uint8Array, veneered: Veneered | undefined): Uint8Array {
  if (veneered === undefined) return code
  const original = code.slice()
  for (const { offset, bytes } of veneered.replaced) original.set(bytes, offset)
  return original
}

/** What the fields of a group hold together in the bytes that `withReplaced` gives: those of replaced instructions hold values of then. */
export function heldSum(group: SiteGroup, veneered: Veneered | undefined): bigint {
  if (veneered === undefined) return group.sum
  const { deltas, replaced } = veneered
  let [held, n] = [0, 0]
  for (const offset of group.offsets) {
    while (n < replaced.length && replaced[n].offset + replaced[n].bytes.length <= offset) n++
    if (n < replaced.length && replaced[n].offset <= offset) held++
  }
  const shift = (place: number): bigint => (place === FIXED ? 0n : deltas[place])
  const change = shift(group.target) - shift(group.anchor)
  return movedSum({ ...group, offsets: group.offsets.subarray(0, held) }, -change)
}
