/**
 * Jumps among spare bytes, to which branches too short for a veneer lead: what was there must have been int3
 * or nops, and nothing may come to it. Where what stands before runs into the row, a jump at its start leads
 * over it.
 */
import { hex } from '../core/address.ts'
import { lowerBound } from '../core/search.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import type { CodeRun, RelocationTable } from '../table/table.ts'
import { IcedCursor, loadIced } from '../x86/iced.ts'
import type { Findings } from './findings.ts'

/** A row of int3 and nops of one run. */
interface Row extends CodeRun {
  /** What stands before it runs into it. */
  readonly isReached: boolean
  /** There is an int3 in it. */
  readonly traps: boolean
}

/**
 * Checks the jumps that begin at the offsets in `islands` and returns the ranges that they, and the jumps
 * over them, take up.
 */
export function checkIslands(
  before: Uint8Array,
  after: Uint8Array,
  claim: RelocationTable,
  islands: ReadonlyMap<number, { readonly bytes: Uint8Array }>,
  findings: Findings,
): CodeRun[] {
  if (islands.size === 0) return []
  const { rows, entries } = readRows(before, claim)
  const cursor = new IcedCursor(after)
  const taken: CodeRun[] = []
  const wrong = (offset: number, why: string): void =>
    findings.error(
      'wrong-veneer',
      offset,
      5,
      `a jump stands at ${hex(offset)}, ${why}.`,
      'Relocate again from the original bytes.',
    )
  try {
    for (const [start, { bytes }] of islands) {
      const end = start + bytes.length
      const row = rows.find((candidate) => start >= candidate.start && end <= candidate.end)
      if (row === undefined) {
        wrong(start, 'where there were other bytes than int3 and nops')
        continue
      }
      const entered = entries[lowerBound(entries, row.isReached ? row.start + 1 : row.start)]
      if (entered < end) wrong(start, `and ${hex(entered)} before its end is pointed at`)
      taken.push({ start, end })
      if (!row.isReached) continue
      cursor.decode(row.start)
      const over = { start: row.start, end: row.start + cursor.length }
      if (row.traps || !isJumpTo(cursor, row.end) || over.end > start)
        wrong(start, 'and what stands before runs into it')
      else taken.push(over)
    }
  } finally {
    cursor.dispose()
  }
  return taken
}

const isJumpTo = (cursor: IcedCursor, offset: number): boolean =>
  cursor.instruction.mnemonic === loadIced().Mnemonic.Jmp && cursor.target === BigInt(offset)

/** The rows, and all offsets that code or an absolute field points at, and where runs begin; ascending. */
function readRows(
  before: Uint8Array,
  claim: RelocationTable,
): { readonly rows: readonly Row[]; readonly entries: readonly number[] } {
  const { Mnemonic, FlowControl } = loadIced()
  const rows: Row[] = []
  const entries: number[] = pointers(claim)
  const cursor = new IcedCursor(before)
  try {
    for (const run of claim.code()) {
      entries.push(run.start)
      let isReached = true
      let start = -1
      let traps = false
      const close = (end: number): void => {
        if (start >= 0) rows.push({ start, end, isReached, traps })
        start = -1
        traps = false
      }
      let at = run.start
      for (; at < run.end && cursor.decode(at) > 0; at += cursor.length) {
        const { target, instruction } = cursor
        if (target !== undefined && target < BigInt(before.length)) entries.push(Number(target))
        if (instruction.mnemonic === Mnemonic.Nop || instruction.mnemonic === Mnemonic.Int3) {
          if (start < 0) start = at
          traps ||= instruction.mnemonic === Mnemonic.Int3
          continue
        }
        close(at)
        const { flowControl } = instruction
        isReached = ![
          FlowControl.UnconditionalBranch,
          FlowControl.IndirectBranch,
          FlowControl.Return,
          FlowControl.Exception,
        ].includes(flowControl)
      }
      close(at)
    }
  } finally {
    cursor.dispose()
  }
  return { rows, entries: entries.sort((a, b) => a - b) }
}

/** Offsets within the blob that its absolute fields point at. */
function pointers({ length, parts }: RelocationTable): number[] {
  const offsets: number[] = []
  for (const { kind, target, targets } of parts.groups) {
    if (target !== parts.blob.own || KIND_ROWS[kind].anchor === 'next') continue
    for (const address of targets) {
      const offset = address - parts.blob.base
      if (offset >= 0n && offset < BigInt(length)) offsets.push(Number(offset))
    }
  }
  return offsets
}
