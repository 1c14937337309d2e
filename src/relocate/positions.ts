/** Old offset <-> new offset. */
import { RelocError } from '../core/errors.ts'

/** Which neighbour an offset at a boundary sticks to. */
export type Side = -1 | 1

/**
 * Where each byte of a blob went. A plain move changes no offset, so this is the identity over the blob; the map exists
 * so that callers written today keep working when code is laid out anew.
 */
export class PositionMap {
  /** Bytes before and after. */
  readonly oldLength: number
  readonly newLength: number

  private constructor(oldLength: number, newLength: number) {
    this.oldLength = oldLength
    this.newLength = newLength
  }

  static identity(length: number): PositionMap {
    return new PositionMap(length, length)
  }

  /** New offset of the byte that was at `offset`; the end maps to the end. Throws `bad-argument` outside the blob. */
  toNew(offset: number, _side: Side = 1): number {
    return inside(offset, this.oldLength, 'old')
  }

  /** Old offset of the byte that is at `offset` now. Throws `bad-argument` outside the blob. */
  toOld(offset: number, _side: Side = 1): number {
    return inside(offset, this.newLength, 'new')
  }
}

function inside(offset: number, length: number, which: string): number {
  if (!Number.isSafeInteger(offset) || offset < 0 || offset > length)
    throw new RelocError('bad-argument', `Offset ${offset} is outside the ${which} blob of ${length} bytes.`)
  return offset
}
