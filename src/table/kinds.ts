/**
 * The kinds of site, as rows of one table. Every kind is the same equation,
 *
 *     value = target - anchor + addend          value' = value + shift(target) - shift(anchor)
 *
 * with another width, another anchor and another range that the new value must lie in.
 */

/** What the value is relative to: nothing, the end of the instruction, or another address. */
export type AnchorRule = 'none' | 'next' | 'address'

/** How a new value is judged. */
export type RangeRule =
  /** The new value lies in [min, max]. */
  | 'value'
  /** The value is taken modulo 2^32; it is the target's new address that lies in [min, max]. */
  | 'target'
  /** Modulo 2^64: every value is right. */
  | 'any'

export interface KindRow {
  readonly name: SiteKind
  /** Bytes of the field; 0 for `split`, whose pieces have their own. */
  readonly width: 0 | 1 | 2 | 4 | 8
  readonly anchor: AnchorRule
  readonly rule: RangeRule
  readonly min: bigint
  readonly max: bigint
  /** Whether the field's bits are read as a signed number. */
  readonly signed: boolean
  /** One clause for messages: what the field must hold. */
  readonly limit: string
}

const signedRow = (name: SiteKind, width: 1 | 2 | 4, anchor: AnchorRule): KindRow => {
  const half = 1n << BigInt(8 * width - 1)
  return {
    name,
    width,
    anchor,
    rule: 'value',
    min: -half,
    max: half - 1n,
    signed: true,
    limit: `a signed ${8 * width}-bit field holds -2^${8 * width - 1} to 2^${8 * width - 1}-1`,
  }
}
const unsigned32Row = (name: SiteKind, anchor: AnchorRule): KindRow => ({
  name,
  width: 4,
  anchor,
  rule: 'value',
  min: 0n,
  max: 0xffff_ffffn,
  signed: false,
  limit: 'an unsigned 32-bit field holds 0 to 2^32-1',
})
const anyRow = (name: SiteKind, width: 0 | 8, anchor: AnchorRule): KindRow => ({
  name,
  width,
  anchor,
  rule: 'any',
  min: 0n,
  max: 0n,
  signed: anchor !== 'none',
  limit: 'any value fits',
})

/** Every kind, in the order of their codes. The codes are part of the serial forms: append, never reorder. */
export const SITE_KINDS = [
  'pc8',
  'pc16',
  'pc32',
  'eip32',
  'abs32',
  'abs32s',
  'abs64',
  'diff32',
  'diff32u',
  'diff64',
  'split',
] as const

export type SiteKind = (typeof SITE_KINDS)[number]

/** The rows, indexed by kind code. */
export const KIND_ROWS: readonly KindRow[] = [
  signedRow('pc8', 1, 'next'),
  signedRow('pc16', 2, 'next'),
  signedRow('pc32', 4, 'next'),
  {
    name: 'eip32',
    width: 4,
    anchor: 'next',
    rule: 'target',
    min: 0n,
    max: 0xffff_ffffn,
    signed: true,
    limit: 'an EIP-relative operand reaches addresses below 2^32 only',
  },
  unsigned32Row('abs32', 'none'),
  signedRow('abs32s', 4, 'none'),
  anyRow('abs64', 8, 'none'),
  signedRow('diff32', 4, 'address'),
  unsigned32Row('diff32u', 'address'),
  anyRow('diff64', 8, 'address'),
  anyRow('split', 0, 'none'),
]

export const PC8 = 0
export const PC16 = 1
export const PC32 = 2
export const EIP32 = 3
export const ABS32 = 4
export const ABS32S = 5
export const ABS64 = 6
export const DIFF32 = 7
export const DIFF32U = 8
export const DIFF64 = 9
export const SPLIT = 10

/** The code of a kind, or -1 for a word that is none. */
export const kindCode = (kind: string): number => (SITE_KINDS as readonly string[]).indexOf(kind)

/** The value that a field's bits stand for. */
export const fieldValue = (row: KindRow, bits: bigint): bigint =>
  row.signed && row.width > 0 ? BigInt.asIntN(8 * row.width, bits) : bits
