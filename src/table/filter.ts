/** A table of only those sites whose evidence is strong enough. */
import { viewOf } from '../core/bytes.ts'
import { groupBounds, type SiteGroup } from './groups.ts'
import { canonicalHash } from './hash.ts'
import { ADDRESS_NONE, addressLevel } from './site.ts'
import { RelocationTable } from './table.ts'
import { heldOffsets, wholeSum, withReplaced } from './veneered.ts'

/**
 * `table` without the absolute and difference sites whose address evidence is weaker than `weakest` (a number
 * of table/site.ts). Relative sites need no evidence and stay, and so do those whose instructions veneers
 * stand in for: what they hold now fits no field. `code` is the blob as it is now; where nothing is dropped
 * the result is `table` itself.
 */
export function keepEvidence(table: RelocationTable, code: Uint8Array, weakest: number): RelocationTable {
  const strong = (evidence: number): boolean =>
    addressLevel(evidence) === ADDRESS_NONE || addressLevel(evidence) >= weakest
  const original = withReplaced(code, table.parts.veneered)
  const groups = table.parts.groups.map((group) =>
    group.evidence.every(strong) ? group : subset(original, table, group, strong),
  )
  const splits = table.parts.splits.filter((split) => strong(split.evidence))
  const kept = groups.reduce((sum, group) => sum + group.offsets.length, splits.length)
  if (kept === table.size) return table
  const left = groups.filter((group) => group.offsets.length > 0)
  return RelocationTable.create({
    ...table.parts,
    groups: left,
    splits,
    hash: canonicalHash(original, left, splits),
  })
}

/** `original`: the code, with what veneers stand in for. */
function subset(
  original: Uint8Array,
  table: RelocationTable,
  group: SiteGroup,
  strong: (evidence: number) => boolean,
): SiteGroup {
  const { veneered } = table.parts
  const held = new Set(heldOffsets(group.offsets, veneered))
  const keep = [...group.evidence.keys()].filter(
    (i) => strong(group.evidence[i]) || held.has(group.offsets[i]),
  )
  const offsets = Uint32Array.from(keep, (i) => group.offsets[i])
  const targets = BigUint64Array.from(keep, (i) => group.targets[i])
  const { anchors } = group
  const left = {
    ...group,
    offsets,
    targets,
    tails: Uint8Array.from(keep, (i) => group.tails[i]),
    anchors: anchors === undefined ? undefined : BigUint64Array.from(keep, (i) => anchors[i]),
    evidence: Uint8Array.from(keep, (i) => group.evidence[i]),
  }
  // Where fields hold values of then, the next plan finds the bounds.
  const bounds =
    veneered === undefined
      ? groupBounds(viewOf(original), group.kind, offsets, targets, table.shiftOf(group.target))
      : undefined
  return { ...left, bounds, sum: wholeSum(left, original, veneered) }
}
