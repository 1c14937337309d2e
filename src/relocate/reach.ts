/**
 * Which bases the sites of a blob allow. Every site in whose value the base takes part allows one interval of
 * bases; the number of intervals that hold a base changes only where one begins or has ended, so the best
 * base is the end of one, or as near as memory lets it be.
 */
import { viewOf } from '../core/bytes.ts'
import { lowerBound } from '../core/search.ts'
import { FIXED, type Place, type SiteGroup, siteValue } from '../table/groups.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import type { RelocationTable } from '../table/table.ts'

/** A site that does not reach. */
export interface FarSite {
  /** Of its field, in bytes from the blob's start. */
  readonly offset: number
  /** What it points at, where that will be. */
  readonly target: bigint
}

/**
 * What one group's sites allow: of each the bases from `value + start` to `value + end`, or `value` turned
 * where they fall.
 */
interface Rule {
  readonly group: SiteGroup
  /** Whether the value rises with the base, falls, or does not depend on it. */
  readonly slope: -1 | 0 | 1
  /** How far what the range rule judges moves apart from the base. */
  readonly by: bigint
}

const ascending = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0)

export class BaseReach {
  /** First and last base of each interval; each list ascending. */
  readonly starts: readonly bigint[]
  readonly ends: readonly bigint[]
  /** Sites that are out of reach wherever the blob goes. */
  readonly #always: number
  readonly #view: DataView
  readonly #table: RelocationTable
  readonly #deltas: readonly bigint[]
  readonly #rules: readonly Rule[]

  /**
   * `code` and `table` without veneers; `deltas`: how far each covered range goes, where that of the blob's
   * own is yet to be found.
   */
  constructor(code: Uint8Array, table: RelocationTable, deltas: readonly bigint[]) {
    this.#view = viewOf(code)
    this.#table = table
    this.#deltas = deltas
    this.#rules = table.parts.groups.flatMap((group) => this.#ruleOf(group))
    const starts: bigint[] = []
    const ends: bigint[] = []
    let always = 0
    for (const rule of this.#rules) {
      const { min, max } = KIND_ROWS[rule.group.kind]
      for (let i = 0; i < rule.group.offsets.length; i++) {
        const value = this.#valueOf(rule, i)
        if (rule.slope === 0) always += value < min || value > max ? 1 : 0
        else {
          // min <= value + (base - table.base) <= max, or with the sign turned.
          starts.push(table.base + (rule.slope > 0 ? min - value : value - max))
          ends.push(table.base + (rule.slope > 0 ? max - value : value - min))
        }
      }
    }
    this.#always = always
    this.starts = starts.sort(ascending)
    this.ends = ends.sort(ascending)
  }

  /** How many sites do not reach from `base`. */
  countAt(base: bigint): number {
    const holding = lowerBound(this.starts, base + 1n) - lowerBound(this.ends, base)
    return this.#always + this.starts.length - holding
  }

  /** Those sites, by offset. */
  farAt(base: bigint): FarSite[] {
    const far: FarSite[] = []
    const delta = base - this.#table.base
    for (const rule of this.#rules) {
      const { group, slope } = rule
      const { min, max } = KIND_ROWS[group.kind]
      for (let i = 0; i < group.offsets.length; i++) {
        const value = this.#valueOf(rule, i) + BigInt(slope) * delta
        if (value >= min && value <= max) continue
        const moved = this.#isOwn(group.target) ? delta : this.#deltaOf(group.target)
        const target = this.#table.now(group.targets[i], group.target) + moved
        far.push({ offset: group.offsets[i], target: BigInt.asUintN(64, target) })
      }
    }
    return far.sort((a, b) => a.offset - b.offset)
  }

  #ruleOf(group: SiteGroup): Rule[] {
    const { rule } = KIND_ROWS[group.kind]
    if (rule === 'any') return []
    const ends = [group.target, rule === 'target' ? FIXED : group.anchor] as const
    const [rises, falls] = ends.map((place) => this.#isOwn(place))
    const [added, taken] = ends.map((place) => this.#deltaOf(place))
    return [{ group, slope: rises === falls ? 0 : rises ? 1 : -1, by: added - taken }]
  }

  /** What the range rule judges, where the blob is now and all else where it goes. */
  #valueOf({ group, by }: Rule, i: number): bigint {
    const isTarget = KIND_ROWS[group.kind].rule === 'target'
    const value = isTarget
      ? this.#table.now(group.targets[i], group.target)
      : siteValue(this.#view, group.kind, group.offsets[i])
    return value + by
  }

  #isOwn(place: Place): boolean {
    return place === this.#table.parts.blob.own
  }
  /** Of a range other than the blob's own. */
  #deltaOf(place: Place): bigint {
    return place === FIXED || this.#isOwn(place) ? 0n : this.#deltas[place]
  }
}
