/** Old offset <-> new offset. */
import { RelocError } from '../core/errors.ts'
import type { AreaParts } from '../x86/emit-area-parts.ts'

/** Which neighbour an offset at a boundary sticks to. */
export type Side = -1 | 1

/**
 * Where each byte of a blob went. A move changes no offset, so this is the identity over the blob; the
 * insides of veneers and literals, whose offsets lie outside it, stand for the instruction that they serve
 * (one that several share: for the first of them).
 */
export class PositionMap {
  /** Bytes before and after. */
  readonly oldLength: number
  readonly newLength: number
  /** Offset of the veneers from the blob's new place, and what they stand for. */
  readonly #area: number
  readonly #parts: AreaParts | undefined

  private constructor(length: number, area: number, parts: AreaParts | undefined) {
    this.oldLength = length
    this.newLength = length
    this.#area = area
    this.#parts = parts
  }

  static identity(length: number): PositionMap {
    return new PositionMap(length, length, undefined)
  }

  /** @internal Of a blob of `length` bytes with veneers at offset `area`. */
  static withVeneers(length: number, area: number, parts: AreaParts): PositionMap {
    return new PositionMap(length, area, parts)
  }

  /** New offset of the byte that was at `offset`; the end maps to the end. Throws `bad-argument` outside the blob. */
  toNew(offset: number, _side: Side = 1): number {
    return inside(offset, this.oldLength, 'old')
  }

  /**
   * Old offset of the byte that is at `offset` now; of a byte of a veneer: that of its instruction. Throws
   * `bad-argument` elsewhere.
   */
  toOld(offset: number, _side: Side = 1): number {
    return this.#parts?.servedAt(offset - this.#area) ?? inside(offset, this.newLength, 'new')
  }
}

function inside(offset: number, length: number, which: string): number {
  if (!Number.isSafeInteger(offset) || offset < 0 || offset > length)
    throw new RelocError('bad-argument', `Offset ${offset} is outside the ${which} blob of ${length} bytes.`)
  return offset
}
