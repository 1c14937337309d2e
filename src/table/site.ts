/** A site as the public API shows it, and the evidence byte that the columns hold. */
import type { SiteKind } from './kinds.ts'

/** How it is known that the site's place is code (or data that code uses). */
export type CodeEvidence = 'guess' | 'flow' | 'given'

/**
 * How it is known that an absolute or difference field is an address: by a linker record, the user or two dumps
 * (exact), by the instruction's form alone (encoding), by how the program uses it (flow), or only because
 * the value lies in a covered range (range). Relative fields need none.
 */
export type AddressEvidence = 'range' | 'flow' | 'encoding' | 'exact'

export interface Evidence {
  readonly code: CodeEvidence
  readonly address?: AddressEvidence
}

/** One field of a `split` site: it holds `width` bytes of the value from bit `shift` on. */
export interface SplitPiece {
  /** Bytes from the blob's start. */
  readonly offset: number
  readonly width: 1 | 2 | 4 | 8
  /** The lowest bit of the value that the piece carries. */
  readonly shift: number
  /**
   * How the program joins the piece to the rest: `or`, zero-extended, its bits are its own;
   * `add`, sign-extended, so that it may borrow from the pieces above; `xor`, mixed with a constant that stays.
   */
  readonly operation: 'or' | 'add' | 'xor'
}

/** A field whose value depends on where something is. */
export interface Site {
  /** Bytes from the blob's start; of the first piece for a `split`. */
  readonly offset: number
  readonly kind: SiteKind
  /** Bytes of the field; of all pieces together for a `split`. */
  readonly width: number
  /** The address that the value moves with. */
  readonly target: bigint
  /** The address that the value is relative to and moves against; absent for absolute kinds. */
  readonly anchor?: bigint
  readonly evidence: Evidence
  /** `split` only: in ascending order of `shift`. */
  readonly pieces?: readonly SplitPiece[]
}

const CODE_LEVELS = ['guess', 'flow', 'given'] as const
const ADDRESS_LEVELS = [undefined, 'range', 'flow', 'encoding', 'exact'] as const

/** Address levels as numbers, in ascending order of strength; 0 is a relative field, which needs no evidence. */
export const ADDRESS_NONE = 0
export const ADDRESS_RANGE = 1
export const ADDRESS_FLOW = 2
export const ADDRESS_ENCODING = 3
export const ADDRESS_EXACT = 4
export const CODE_GUESS = 0
export const CODE_FLOW = 1
export const CODE_GIVEN = 2

/** The evidence byte: the code level in bits 4-5, the address level in bits 0-2. */
export const packEvidence = (code: number, address: number): number => (code << 4) | address
export const codeLevel = (packed: number): number => packed >> 4
export const addressLevel = (packed: number): number => packed & 15

/** The number of an address level's name, or -1. */
export const addressLevelOf = (name: string): number => (ADDRESS_LEVELS as readonly unknown[]).indexOf(name)

export function unpackEvidence(packed: number): Evidence {
  const address = ADDRESS_LEVELS[addressLevel(packed)]
  const code = CODE_LEVELS[codeLevel(packed)]
  return address === undefined ? { code } : { code, address }
}

/** Whether a byte is a packed evidence. */
export const isEvidence = (packed: number): boolean =>
  codeLevel(packed) < CODE_LEVELS.length && addressLevel(packed) < ADDRESS_LEVELS.length

/** The evidence byte of an `Evidence`, or -1 where a word is none of ours. */
export function evidenceByte(evidence: Evidence): number {
  const code = CODE_LEVELS.indexOf(evidence.code)
  const address = ADDRESS_LEVELS.indexOf(evidence.address)
  return code < 0 || address < 0 ? -1 : packEvidence(code, address)
}
