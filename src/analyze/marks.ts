/** What is known of each offset beside its bytes: one byte of bits for each. */

export const Mark = {
  /** Certain code starts here: an entry. */
  entry: 1,
  /** A branch of likely code lands here. */
  target: 2,
  /** Likely code reads or writes data here. */
  data: 4,
  /** Never code, by hint. */
  forbidden: 8,
  /** Given as code by hint. */
  given: 16,
  /** Held by a site. */
  field: 32,
} as const

/** Whether a byte of the field belongs to a site already. */
export function isTaken(marks: Uint8Array, offset: number, width: number): boolean {
  for (let i = offset; i < offset + width; i++) if ((marks[i] & Mark.field) !== 0) return true
  return false
}

/** Gives the field's bytes to a site. */
export function take(marks: Uint8Array, offset: number, width: number): void {
  for (let i = offset; i < offset + width; i++) marks[i] |= Mark.field
}

/** The first byte inside the instruction at `at` that a branch leads to, or -1. */
export function markedInside(marks: Uint8Array, at: number, length: number): number {
  for (let i = at + 1; i < at + length; i++) if ((marks[i] & Mark.target) !== 0) return i
  return -1
}
