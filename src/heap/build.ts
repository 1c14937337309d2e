/**
 * From a blob and its relocation table to an object's fields: whose is each end of each site?
 *
 * Ends are resolved by address, as everything lies before the blob is placed: in the blob itself, in another
 * blob of the same call of `addAll`, in an object of the heap, in managed memory, or in what nobody moves.
 */
import { hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { type AddressRange, findRange, formatRange, type MovedRange } from '../core/range.ts'
import { FIXED as FIXED_PLACE, type Place, type SiteGroup } from '../table/groups.ts'
import { EIP32, KIND_ROWS, SPLIT } from '../table/kinds.ts'
import { ADDRESS_RANGE, addressLevel } from '../table/site.ts'
import { RelocationTable } from '../table/table.ts'
import {
  FIXED,
  type FieldGroup,
  type Fields,
  LINK,
  NO_FIELDS,
  type Owner,
  SELF,
  type SplitField,
} from './fields.ts'
import type { CodeObject } from './object.ts'
import { Root, type RootField } from './roots.ts'

/** Who owns an address of before the placing. */
export type End = 'fixed' | 'managed' | 'nothing' | CodeObject

export interface Surroundings {
  /** The blobs that are added together, each with its object. Ascending, disjoint. */
  readonly members: readonly (AddressRange & { readonly object: CodeObject })[]
  readonly reservation: AddressRange
  /** Ascending, disjoint, outside the reservation. */
  readonly managed: readonly AddressRange[]
  /** The live object around an address of the reservation. */
  readonly find: (address: bigint) => CodeObject | undefined
}

/** `range` without `holes`, which ascend and are disjoint. */
export function subtract(range: AddressRange, holes: readonly AddressRange[]): AddressRange[] {
  const pieces: AddressRange[] = []
  let { start } = range
  for (const hole of holes) {
    if (hole.end <= start || hole.start >= range.end) continue
    if (hole.start > start) pieces.push({ start, end: hole.start })
    start = hole.end
  }
  return start < range.end ? [...pieces, { start, end: range.end }] : pieces
}

/** The ranges, besides its own, that the table of the blob at `own` has to cover. */
export function requiredCoverage(own: AddressRange, around: Surroundings): MovedRange[] {
  const others = around.members.filter((member) => member.start !== own.start)
  const elsewhere = [around.reservation, ...around.managed].flatMap((range) =>
    subtract(range, around.members),
  )
  return [...others, ...elsewhere].map(({ start, end }) => ({ start, length: end - start }))
}

/** Throws `not-covered` where the table does not serve moves of all that moves here. */
export function checkCoverage(table: RelocationTable, own: AddressRange, around: Surroundings): void {
  const covered = [...table.coverage].sort((a, b) => (a.start < b.start ? -1 : 1))
  for (const { start, length } of requiredCoverage(own, around)) {
    const range = { start: BigInt(start), end: BigInt(start) + BigInt(length) }
    const missing = subtract(range, covered)
    if (missing.length > 0)
      throw new RelocError(
        'not-covered',
        `The table does not cover ${formatRange(missing[0])}, which moves in this heap: pointers there were never looked for. Make the table with \`moved: heap.moved(...)\`, or let the heap analyse the code.`,
      )
  }
}

/** The table of those sites that change when the members are placed, over the members' ranges alone. */
export function placingTable(table: RelocationTable, around: Surroundings): RelocationTable {
  const { parts } = table
  const kept = [...table.coverage.keys()].filter((place) => {
    const { start, end } = table.coverage[place]
    return (
      place === parts.blob.own ||
      around.members.some((member) => member.start === start && member.end === end)
    )
  })
  const renamed = (place: Place): Place => (place === FIXED_PLACE ? FIXED_PLACE : kept.indexOf(place))
  const moves = ({ kind, target, anchor }: { kind: number; target: Place; anchor: Place }): boolean =>
    target !== anchor || kind === EIP32
  const rename = <E extends { target: Place; anchor: Place }>(end: E): E => ({
    ...end,
    target: renamed(end.target),
    anchor: renamed(end.anchor),
  })
  return RelocationTable.create({
    ...parts,
    blob: {
      ...parts.blob,
      covered: kept.map((place) => parts.blob.covered[place]),
      own: kept.indexOf(parts.blob.own),
    },
    groups: parts.groups.map(rename).filter(moves),
    splits: parts.splits.map(rename).filter((split) => moves({ ...split, kind: SPLIT })),
    shifts: kept.map((place) => parts.shifts[place]),
  })
}

export interface Owned {
  /** Without bounds: those are of the bytes where they come to lie. */
  readonly fields: Fields
  readonly links: readonly CodeObject[]
  readonly roots: readonly Root[]
}

/** Resolves every site of `table`. Throws `bad-argument` for a reference into the heap where no object is. */
export function ownSites(table: RelocationTable, self: CodeObject, around: Surroundings): Owned {
  return new Resolver(table, self, around).run()
}

/** Two bytes a record where that is enough. */
const columnOf = (offsets: readonly number[], length: number): Fields['offsets'] =>
  length <= 0x1_0000 ? Uint16Array.from(offsets) : Uint32Array.from(offsets)

class Resolver {
  readonly #table: RelocationTable
  readonly #self: CodeObject
  readonly #around: Surroundings
  readonly #links: CodeObject[] = []
  readonly #owners = new Map<CodeObject, Owner>()
  readonly #roots = new Map<bigint, RootField[]>()

  constructor(table: RelocationTable, self: CodeObject, around: Surroundings) {
    this.#table = table
    this.#self = self
    this.#around = around
  }

  run(): Owned {
    const { parts } = this.#table
    const groups: FieldGroup[] = []
    const offsets: number[] = []
    for (const group of parts.groups) this.#group(group, groups, offsets)
    const splits: SplitField[] = []
    for (const split of parts.splits) {
      const { offset } = split.pieces[0]
      const address = this.#table.now(split.targetAddress, split.target)
      const from = this.#table.now(split.anchorAddress ?? 0n, split.anchor)
      const target = this.#owner(offset, address, split.target, split.evidence, {
        kind: SPLIT,
        offset,
        pieces: split.pieces,
      })
      const anchor = this.#owner(offset, from, split.anchor, split.evidence)
      const rest = BigInt.asUintN(64, this.#rest(address, target) - this.#rest(from, anchor))
      if (target !== anchor) splits.push({ pieces: split.pieces, target, anchor, rest })
    }
    const roots = [...this.#roots].map(([address, fields]) => new Root(address, fields))
    roots.sort((a, b) => (a.address < b.address ? -1 : 1))
    const none = offsets.length + splits.length === 0
    // Copies, since what grew has room to grow on, and these are kept.
    const fields = none
      ? NO_FIELDS
      : { offsets: columnOf(offsets, this.#self.length), groups: [...groups], splits: [...splits] }
    return { fields, links: [...this.#links], roots }
  }

  /** Adds the sites of one group to `groups` and `found`, by the owners of their ends. */
  #group(group: SiteGroup, groups: FieldGroup[], found: number[]): void {
    const { kind, offsets, anchors } = group
    const members = new Map<number, number[]>()
    for (let i = 0; i < offsets.length; i++) {
      const target = this.#table.now(group.targets[i], group.target)
      const to = this.#owner(offsets[i], target, group.target, group.evidence[i], {
        kind,
        offset: offsets[i],
      })
      const from = this.#anchor(group, i, anchors)
      if (to === from && kind !== EIP32) continue
      const key = (to + 1) * 2 ** 24 + from + 1
      const list = members.get(key)
      if (list === undefined) members.set(key, [i])
      else list.push(i)
    }
    for (const [key, list] of members) {
      const target = Math.floor(key / 2 ** 24) - 1
      const anchor = (key % 2 ** 24) - 1
      let [min, max] = kind === EIP32 ? [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY] : [0, 0]
      if (kind === EIP32)
        for (const i of list) {
          const rest = Number(this.#rest(this.#table.now(group.targets[i], group.target), target))
          min = Math.min(min, rest)
          max = Math.max(max, rest)
        }
      const from = found.length
      for (const i of list) found.push(offsets[i])
      groups.push({ kind, target, anchor, from, to: found.length, min, max })
    }
  }

  #anchor(group: SiteGroup, i: number, anchors: BigUint64Array | undefined): Owner {
    if (anchors !== undefined)
      return this.#owner(
        group.offsets[i],
        this.#table.now(anchors[i], group.anchor),
        group.anchor,
        group.evidence[i],
      )
    return KIND_ROWS[group.kind].anchor === 'next' ? SELF : FIXED
  }

  /** What is left of an address of before the placing when its owner's place, in the reservation, is taken out. */
  #rest(address: bigint, owner: Owner): bigint {
    if (owner === FIXED) return address
    const { members, reservation } = this.#around
    const object = owner === SELF ? this.#self : this.#links[owner - LINK]
    const member = members.find((some) => some.object === object)
    return member === undefined ? address - BigInt(object.place) : reservation.start + address - member.start
  }

  /** Whose the address is that moves with `place`; `root` is noted where it is managed. */
  #owner(offset: number, address: bigint, place: Place, evidence: number, root?: RootField): Owner {
    if (place === FIXED_PLACE) return FIXED
    // A pointer to a range's very end moves with that range.
    const inside = address === this.#table.coverage[place].end ? address - 1n : address
    const end = this.#endOf(inside)
    if (end === 'fixed') return FIXED
    if (end === 'managed') {
      if (root !== undefined) this.#note(address, root)
      return FIXED
    }
    if (end !== 'nothing') return end === this.#self ? SELF : this.#link(end)
    // Nothing but its value says that it is an address, and there is nothing at that address.
    if (addressLevel(evidence) === ADDRESS_RANGE) return FIXED
    throw new RelocError(
      'bad-argument',
      `The field at offset ${hex(offset)} of ${this.#self.handle.name} refers to ${hex(address)}, in the heap, where no object is. Add what it refers to first, or both together (addAll).`,
    )
  }

  #endOf(address: bigint): End {
    const { members, reservation, managed, find } = this.#around
    const member = findRange(members, address)
    if (member >= 0) return members[member].object
    if (address >= reservation.start && address < reservation.end) return find(address) ?? 'nothing'
    return findRange(managed, address) >= 0 ? 'managed' : 'fixed'
  }

  #link(object: CodeObject): Owner {
    let owner = this.#owners.get(object)
    if (owner === undefined) {
      owner = LINK + this.#links.length
      this.#links.push(object)
      this.#owners.set(object, owner)
    }
    return owner
  }

  #note(address: bigint, root: RootField): void {
    const fields = this.#roots.get(address)
    if (fields === undefined) this.#roots.set(address, [root])
    else fields.push(root)
  }
}
