/** The generated decoding tables, in typed arrays. */
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

const SHARED = {
  rows: expandRuns(ROWS, new Uint16Array(runLength(ROWS)), 2),
  leaves: new Int32Array(LEAVES),
  suffixes: new Uint8Array(SUFFIXES),
}

function tablesOf(numbers: readonly number[]): Tables {
  const pages = new CellPages(PAGES, numbers)
  return { pages, cells: pages.cells, ...SHARED }
}

const TABLES: Readonly<Record<Cpu, Tables>> = { intel: tablesOf(INTEL), amd: tablesOf(AMD) }
const believing = new Map<Cpu, Tables>()

/** The tables of `cpu`. */
export const tablesFor = (cpu: Cpu): Tables => TABLES[cpu]

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
