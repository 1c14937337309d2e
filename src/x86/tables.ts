/** The generated tables, expanded into typed arrays on first use. */
import { AMD, INTEL, LEAVES, PAGES, ROWS, SUFFIXES } from './generated/tables.ts'
import type { Cpu } from './instruction.ts'
import { PAGE_COUNT } from './layout.ts'

/** The decoding tables of one maker; `layout.ts` says how they are read. */
export interface Tables {
  /** The row of each cell, 256 a page, by page number. */
  readonly cells: Uint16Array
  /** By row and key: where the leaf is in `leaves`. */
  readonly rows: Uint16Array
  /** Four numbers a leaf: layout, contexts, vvvv, registers. */
  readonly leaves: Int32Array
  /** One bit a 3DNow! opcode. */
  readonly suffixes: Uint8Array
}

/** `cells`: of the pages that differ. */
let shared: Tables | undefined
const expanded = new Map<Cpu, Tables>()

/** The tables of `cpu`. */
export function tablesFor(cpu: Cpu): Tables {
  let tables = expanded.get(cpu)
  if (tables === undefined) {
    shared ??= expandShared()
    const pages = new Uint16Array(PAGE_COUNT)
    expandRuns(cpu === 'amd' ? AMD : INTEL, pages)
    const cells = new Uint16Array(PAGE_COUNT << 8)
    pages.forEach((page, i) => {
      cells.set(shared!.cells.subarray(page << 8, (page + 1) << 8), i << 8)
    })
    tables = { ...shared, cells }
    expanded.set(cpu, tables)
  }
  return tables
}

function expandShared(): Tables {
  const cells = new Uint16Array(runLength(PAGES))
  const rows = new Uint16Array(runLength(ROWS))
  expandRuns(PAGES, cells)
  expandRuns(ROWS, rows)
  return {
    cells,
    rows: rows.map((leaf) => leaf << 2),
    leaves: Int32Array.from(LEAVES),
    suffixes: Uint8Array.from(SUFFIXES),
  }
}

function runLength(runs: readonly number[]): number {
  let length = 0
  for (let i = 1; i < runs.length; i += 2) length += runs[i]
  return length
}

function expandRuns(runs: readonly number[], into: Uint16Array): void {
  let at = 0
  for (let i = 0; i < runs.length; i += 2) {
    const value = runs[i]
    for (const end = at + runs[i + 1]; at < end; at++) into[at] = value
  }
}
