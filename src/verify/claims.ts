/** A claim's fields in one list by offset, so that a walk over the code can ask which of them an instruction holds. */
import { wrapAddress } from '../core/address.ts'
import { type CheckedMove, findRange, rangeOfTarget } from '../core/range.ts'
import { lowerBound } from '../core/search.ts'
import { FIXED, type Place, type SiteGroup } from '../table/groups.ts'
import { KIND_ROWS, SPLIT } from '../table/kinds.ts'
import type { RelocationTable } from '../table/table.ts'

/** One claimed field: a site, or one piece of a split one. */
export interface ClaimedField {
  readonly offset: number
  readonly width: number
  /** Kind code. */
  readonly kind: number
  readonly tail: number
  readonly evidence: number
  /** The address that it moves with, before the move; and what that is, by the claim. */
  readonly target: bigint
  readonly place: Place
}

/**
 * How far each covered range goes, and which of them an address moves with.
 *
 * Addresses are looked up as they were when the table was built: a range that has moved since may touch
 * another now, so that an address between them could mean either.
 */
export class CoverageShifts {
  /** Signed delta of each covered range: of the move that holds it, 0 where none does. */
  readonly deltas: readonly bigint[]
  readonly #table: RelocationTable

  constructor(table: RelocationTable, moves: readonly CheckedMove[]) {
    this.#table = table
    this.deltas = table.coverage.map((range) => {
      const move = findRange(moves, range.start)
      return move < 0 ? 0n : moves[move].delta
    })
  }

  of(place: Place): bigint {
    return place === FIXED ? 0n : this.deltas[place]
  }

  /** By how much a field changes whose ends move with these. */
  change(target: Place, anchor: Place): bigint {
    return BigInt.asIntN(64, this.of(target) - this.of(anchor))
  }

  /** Whether `address`, of before the move, can be one that moves with `place`, where somebody says so. */
  canMoveWith(address: bigint, place: Place, isLea: boolean): boolean {
    return this.canBelong(wrapAddress(address - this.#table.shiftOf(place)), place, isLea)
  }

  /**
   * The same of an address of building time. An end pointer (of a `lea`) may be meant either way: whoever
   * says so has decided.
   */
  canBelong(built: bigint, place: Place, isLea: boolean): boolean {
    const { covered } = this.#table.parts.blob
    return (
      rangeOfTarget(covered, built, false) === place ||
      (isLea && rangeOfTarget(covered, built, true) === place)
    )
  }

  /** What an address of an operand that is not claimed moves with: the blob, where it can. */
  placeOf(address: bigint, endInside: boolean): Place {
    const { own, covered } = this.#table.parts.blob
    if (this.canMoveWith(address, own, endInside)) return own
    return covered.findIndex((_, place) => this.canMoveWith(address, place, endInside))
  }
}

/** Offsets of one group, ascending, and how many of them have been taken. */
interface Part {
  readonly owner: number
  readonly offsets: Uint32Array
  next: number
}

/** The part whose next offset is the lowest. */
function lowest(parts: readonly Part[]): Part {
  let best = parts[0]
  for (const part of parts) {
    if (part.next === part.offsets.length) continue
    if (best.next === best.offsets.length || part.offsets[part.next] < best.offsets[best.next]) best = part
  }
  return best
}

/** All fields of a claim by offset. Columns are read in place; records are made one at a time. */
export class ClaimedFields {
  readonly offsets: Uint32Array
  readonly #table: RelocationTable
  /** Group (or -1: split) and index in it (of splits: site * 16 + piece) of each field. */
  readonly #groups: Int32Array
  readonly #indices: Uint32Array
  /** Of each group: its targets as halves, and the halves of what makes a distance of them. */
  readonly #distances: readonly {
    readonly targets: Uint32Array
    readonly low: number
    readonly high: number
  }[]

  constructor(table: RelocationTable) {
    this.#table = table
    const { groups, splits } = table.parts
    const pieces = splits.reduce((sum, split) => sum + split.pieces.length, 0)
    const count = groups.reduce((sum, group) => sum + group.offsets.length, pieces)
    this.offsets = new Uint32Array(count)
    this.#groups = new Int32Array(count)
    this.#indices = new Uint32Array(count)
    this.#distances = groups.map(({ target, targets: { buffer, byteOffset, length } }) => {
      const difference = wrapAddress(table.shiftOf(target) - table.base)
      return {
        targets: new Uint32Array(buffer, byteOffset, 2 * length),
        low: Number(difference & 0xffff_ffffn),
        high: Number(difference >> 32n),
      }
    })
    // Each group is in order, and there are few.
    const parts: Part[] = groups.map(({ offsets }, owner) => ({ owner, offsets, next: 0 }))
    const ofSplits = splits
      .flatMap((split, s) => split.pieces.map((piece, p) => [piece.offset, s * 16 + p] as const))
      .sort((a, b) => a[0] - b[0])
    parts.push({ owner: -1, offsets: Uint32Array.from(ofSplits, ([offset]) => offset), next: 0 })
    for (let n = 0; n < count; n++) {
      const part = lowest(parts)
      this.offsets[n] = part.offsets[part.next]
      this.#groups[n] = part.owner
      this.#indices[n] = part.owner < 0 ? ofSplits[part.next][1] : part.next
      part.next++
    }
  }

  /** The group of the site whose field is number `n`; undefined for a piece of a split one. */
  groupOf(n: number): SiteGroup | undefined {
    return this.#table.parts.groups[this.#groups[n]]
  }

  /** Its index in that group. */
  indexOf(n: number): number {
    return this.#indices[n]
  }

  /**
   * Its target: signed bytes from the blob's start, exact within 2^53. The same as `get` says, without a
   * bigint: it is asked of every relative site.
   */
  distance(n: number): number {
    const { targets, low, high } = this.#distances[this.#groups[n]]
    const i = 2 * this.#indices[n]
    const sum = targets[i] + low
    const carry = sum > 0xffff_ffff ? 1 : 0
    return ((targets[i + 1] + high + carry) | 0) * 2 ** 32 + (sum >>> 0)
  }

  /** Index of the first field at or behind `offset`. */
  firstFrom(offset: number): number {
    return lowerBound(this.offsets, offset)
  }

  get(n: number): ClaimedField {
    const { groups, splits } = this.#table.parts
    const i = this.#indices[n]
    if (this.#groups[n] < 0) {
      const split = splits[i >> 4]
      const piece = split.pieces[i & 15]
      return {
        offset: piece.offset,
        width: piece.width,
        kind: SPLIT,
        tail: 0,
        evidence: split.evidence,
        target: this.#table.now(split.targetAddress, split.target),
        place: split.target,
      }
    }
    const group = groups[this.#groups[n]]
    const { width } = KIND_ROWS[group.kind]
    return {
      offset: group.offsets[i],
      width,
      kind: group.kind,
      tail: group.tails[i],
      evidence: group.evidence[i],
      target: this.#table.now(group.targets[i], group.target),
      place: group.target,
    }
  }
}
