/** Fields that cannot hold their new values, in columns: of a large blob there may be a hundred thousand. */
import { FIXED, readSmall, type SiteGroup, siteValue } from '../table/groups.ts'
import { EIP32, KIND_ROWS } from '../table/kinds.ts'
import type { RelocationTable } from '../table/table.ts'

/** Those of one group. */
export interface FarGroup {
  readonly group: SiteGroup
  /** Indexes in the group, ascending; undefined: all of them. */
  readonly failing: readonly number[] | undefined
  /** How far what they point at goes. */
  readonly shift: bigint
}

const SAFE = 2n ** 52n

/** Ascending by offset. */
export class OutOfReach {
  readonly offsets: Uint32Array
  /** What each shall stand for: an address. */
  readonly targets: BigUint64Array
  readonly #parts: readonly FarGroup[]
  readonly #partOf: Uint16Array
  readonly #indexes: Uint32Array

  constructor(view: DataView, table: RelocationTable, parts: readonly FarGroup[]) {
    const length = parts.reduce((sum, part) => sum + countOf(part), 0)
    this.offsets = new Uint32Array(length)
    this.targets = new BigUint64Array(length)
    this.#parts = parts
    this.#partOf = new Uint16Array(length)
    this.#indexes = new Uint32Array(length)
    this.#merge()
    const words = new DataView(this.targets.buffer)
    for (const [n, part] of parts.entries()) this.#fillTargets(view, table, part, n, words)
  }

  get length(): number {
    return this.offsets.length
  }
  groupOf(i: number): SiteGroup {
    return this.#parts[this.#partOf[i]].group
  }
  /** Index in the group. */
  indexOf(i: number): number {
    return this.#indexes[i]
  }
  /** How many of a group's sites there are. */
  countOf(group: SiteGroup): number {
    const part = this.#parts.find((one) => one.group === group)
    return part === undefined ? 0 : countOf(part)
  }

  /** Brings the parts, each ascending, into one order. */
  #merge(): void {
    const next = this.#parts.map(() => 0)
    const offset = (n: number): number =>
      next[n] < countOf(this.#parts[n])
        ? this.#parts[n].group.offsets[indexIn(this.#parts[n], next[n])]
        : Infinity
    const heads = this.#parts.map((_, n) => offset(n))
    for (let at = 0; at < this.length; at++) {
      let least = 0
      for (let n = 1; n < heads.length; n++) if (heads[n] < heads[least]) least = n
      this.offsets[at] = heads[least]
      this.#partOf[at] = least
      this.#indexes[at] = indexIn(this.#parts[least], next[least]++)
      heads[least] = offset(least)
    }
  }

  /**
   * The addresses that the fields of part `n` stand for. Numbers where they are exact: a bigint for each
   * field takes longer than all else here.
   */
  #fillTargets(
    view: DataView,
    table: RelocationTable,
    { group, shift }: FarGroup,
    n: number,
    words: DataView,
  ): void {
    const { kind, tails } = group
    const { anchor, width, signed } = KIND_ROWS[kind]
    const origin = BigInt.asUintN(64, (anchor === 'next' ? table.base : 0n) + shift)
    const isSmall = width <= 4 && kind !== EIP32
    const start = isSmall && origin < SAFE ? Number(origin) : Number.NEGATIVE_INFINITY
    for (let at = 0; at < this.length; at++) {
      if (this.#partOf[at] !== n) continue
      const offset = this.offsets[at]
      const from = anchor === 'next' ? offset + width + tails[this.#indexes[at]] : 0
      const target = start + from + (isSmall ? readSmall(view, offset, width, signed) : 0)
      if (target >= 0) {
        words.setUint32(8 * at, target % 0x1_0000_0000, true)
        words.setUint32(8 * at + 4, target / 0x1_0000_0000, true)
      } else
        this.targets[at] = this.#wideTarget(siteValue(view, kind, offset) + BigInt(from), origin, shift, kind)
    }
  }

  #wideTarget(distance: bigint, origin: bigint, shift: bigint, kind: number): bigint {
    // What an EIP-relative operand points at is cut to 32 bits before it moves.
    return kind === EIP32 ? BigInt.asUintN(32, origin - shift + distance) + shift : origin + distance
  }
}

const countOf = ({ group, failing }: FarGroup): number => failing?.length ?? group.offsets.length
const indexIn = ({ failing }: FarGroup, i: number): number => failing?.[i] ?? i

/** How far what a group points at goes. */
export const targetShift = ({ target }: SiteGroup, deltas: readonly bigint[]): bigint =>
  target === FIXED ? 0n : deltas[target]
