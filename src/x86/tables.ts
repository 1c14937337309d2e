/** The generated decoding tables, expanded into typed arrays on first use. */
import { AMD, INTEL, LEAVES, PAGES, ROWS, SUFFIXES } from './generated/tables.ts'
import type { Cpu } from './instruction.ts'
import { Layout } from './layout.ts'
import { CellPages, expandRuns, runLength } from './runs.ts'

/** The decoding tables of one maker; `layout.ts` says how they are read. */
export interface Tables {
  readonly pages: CellPages
  /** The row of each cell, 256 a page: those of `pages`. */
  readonly cells: Uint16Array
  /** By row and key: where the leaf is in `leaves`. */
  readonly rows: Uint16Array
  /** Four numbers a leaf: layout, contexts, vvvv, registers. */
  readonly leaves: Int32Array
  /** One bit a 3DNow! opcode. */
  readonly suffixes: Uint8Array
}

const expanded = new Map<Cpu, Tables>()
const believing = new Map<Cpu, Tables>()

/** The tables of `cpu`. */
export function tablesFor(cpu: Cpu): Tables {
  let tables = expanded.get(cpu)
  if (tables === undefined) {
    const pages = new CellPages(PAGES, cpu === 'amd' ? AMD : INTEL)
    tables = {
      pages,
      cells: pages.cells,
      rows: expandRuns(ROWS, new Uint16Array(runLength(ROWS)), 2),
      leaves: new Int32Array(LEAVES),
      suffixes: new Uint8Array(SUFFIXES),
    }
    expanded.set(cpu, tables)
  }
  return tables
}

/** The tables of `cpu`, in which every leaf but that of no instruction is valid everywhere. */
export function layoutTablesFor(cpu: Cpu): Tables {
  let tables = believing.get(cpu)
  if (tables === undefined) {
    const strict = tablesFor(cpu)
    const leaves = strict.leaves.map((word, i) => {
      if (i < 4) return word
      return (i & 3) === 0 ? word & ~((3 << Layout.uniqueShift) | Layout.needsSib) : -1
    })
    believing.set(cpu, (tables = { ...strict, leaves }))
  }
  return tables
}
