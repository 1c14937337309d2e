/**
 * What a move out of reach leaves behind in a table: which instructions give their place to a veneer's branch or to another form, and what they were.
 * A veneered table describes the *original* bytes and how far everything has moved since; a later move starts from those.
 */

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
