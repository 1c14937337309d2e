/** Writes the binary form of a table; its layout is drawn in binary.ts. */
import { wrapAddress } from '../core/address.ts'
import {
  bytesOfHex,
  CONSTANT_ANCHOR,
  CONSTANT_TARGET,
  checksum,
  MAGIC,
  OPERATIONS,
  Pointed,
  VERSION,
  VERSION_WITH_VENEERS,
} from './binary.ts'
import type { Blob } from './builder.ts'
import type { SiteGroup, SplitSite } from './groups.ts'
import { KIND_ROWS } from './kinds.ts'
import type { CodeRun, RelocationTable } from './table.ts'
import { ByteWriter } from './varint.ts'
import type { Veneered } from './veneered.ts'

/** See `RelocationTable.toBinary`. */
export function writeTable(table: RelocationTable, code: Uint8Array): Uint8Array {
  table.check(code)
  const { blob, groups, splits, shifts, veneered } = table.parts
  const out = new ByteWriter()
  out.raw(Uint8Array.from([...MAGIC, veneered === undefined ? VERSION : VERSION_WITH_VENEERS]))
  out.number(blob.length)
  out.number(blob.span - blob.length)
  out.wide(blob.base)
  out.number(blob.covered.length)
  out.number(blob.own)
  blob.covered.forEach(({ start, end }, i) => {
    out.signed(shifts[i])
    if (i === blob.own) return
    out.wide(start)
    out.wide(end - start)
  })
  out.raw(bytesOfHex(table.hash))
  if (veneered !== undefined) writeVeneered(out, veneered)
  writeRuns(out, table.code())
  writeStreams(out, groups, blob, new Pointed(code, blob.base, blob.own, shifts, veneered))
  out.number(splits.length)
  for (const split of splits) writeSplit(out, split)
  out.raw(checksum(out.bytes()))
  return out.bytes().slice()
}

function writeVeneered(out: ByteWriter, { at, length, deltas, replaced }: Veneered): void {
  out.wide(at)
  out.number(length)
  for (const delta of deltas) out.signed(delta)
  out.number(replaced.length)
  let before = 0
  for (const { offset, bytes } of replaced) {
    out.number(offset - before)
    out.number(bytes.length)
    out.raw(bytes)
    before = offset + bytes.length
  }
}

function writeRuns(out: ByteWriter, runs: readonly CodeRun[]): void {
  out.number(runs.length)
  let before = 0
  for (const { start, end } of runs) {
    out.signed(BigInt(start - before))
    out.number(end - start)
    before = end
  }
}

function writeStreams(out: ByteWriter, groups: readonly SiteGroup[], blob: Blob, pointed: Pointed): void {
  const streams: (() => void)[] = []
  for (const group of groups) {
    const members = new Map<number, number[]>()
    for (let i = 0; i < group.offsets.length; i++) {
      const key = group.evidence[i] * 16 + group.tails[i]
      const list = members.get(key)
      if (list === undefined) members.set(key, [i])
      else list.push(i)
    }
    for (const key of [...members.keys()].sort((a, b) => a - b))
      streams.push(() => writeStream(out, group, members.get(key)!, blob.base, pointed))
  }
  out.number(streams.length)
  for (const write of streams) write()
  for (const { offsets, sum } of groups) if (offsets.length > 0) out.wide(sum)
}

function writeStream(
  out: ByteWriter,
  group: SiteGroup,
  members: readonly number[],
  base: bigint,
  pointed: Pointed,
): void {
  const { kind, target, anchor, offsets, targets, anchors } = group
  const row = KIND_ROWS[kind]
  const [evidence, tail] = [group.evidence[members[0]], group.tails[members[0]]]
  const stream = { kind, target, anchor, evidence, tail }
  const expectedTargets = members.map((i) => pointed.target(stream, offsets[i], anchors?.[i] ?? 0n))
  const targetColumn = column(
    members.map((i) => targets[i]),
    expectedTargets,
  )
  const anchorColumn =
    anchors &&
    column(
      members.map((i) => anchors[i]),
      members.map((i) => wrapAddress(base + BigInt(offsets[i]))),
    )
  out.number(
    kind |
      (targetColumn.constant === undefined ? 0 : CONSTANT_TARGET) |
      (anchorColumn?.constant === undefined ? 0 : CONSTANT_ANCHOR),
  )
  out.number(target + 1)
  if (row.anchor === 'address') out.number(anchor + 1)
  out.byte(evidence)
  if (row.anchor === 'next') out.number(tail)
  out.number(members.length)
  let before = 0
  for (const i of members) {
    out.number(offsets[i] - before)
    before = offsets[i] + row.width
  }
  if (anchorColumn !== undefined) writeColumn(out, anchorColumn)
  writeColumn(out, targetColumn)
}

interface Column {
  readonly constant: bigint | undefined
  /** Sites skipped since the exception before, and the difference from what is expected. */
  readonly exceptions: readonly (readonly [number, bigint])[]
}

/** Values as what is expected with exceptions, or as one constant with exceptions, whichever has fewer. */
function column(values: readonly bigint[], expected: readonly bigint[]): Column {
  const constant = values[0]
  const differs = values.filter((value, i) => value !== expected[i]).length
  const isConstant = values.filter((value) => value !== constant).length < differs
  const exceptions: [number, bigint][] = []
  let skipped = 0
  values.forEach((value, i) => {
    const difference = BigInt.asIntN(64, value - (isConstant ? constant : expected[i]))
    if (difference === 0n) skipped++
    else {
      exceptions.push([skipped, difference])
      skipped = 0
    }
  })
  return { constant: isConstant ? constant : undefined, exceptions }
}

function writeColumn(out: ByteWriter, { constant, exceptions }: Column): void {
  if (constant !== undefined) out.wide(constant)
  out.number(exceptions.length)
  for (const [skipped, difference] of exceptions) {
    out.number(skipped)
    out.signed(difference)
  }
}

function writeSplit(out: ByteWriter, split: SplitSite): void {
  out.number(split.target + 1)
  out.number(split.anchor + 1)
  out.byte(split.evidence)
  out.wide(split.targetAddress)
  out.byte(split.anchorAddress === undefined ? 0 : 1)
  if (split.anchorAddress !== undefined) out.wide(split.anchorAddress)
  out.wide(split.value)
  out.number(split.pieces.length)
  for (const { offset, width, shift, operation } of split.pieces) {
    out.number(offset)
    out.byte(width + 16 * OPERATIONS.indexOf(operation))
    out.byte(shift)
  }
}
