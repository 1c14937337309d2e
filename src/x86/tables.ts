/** The generated tables, expanded into typed arrays on first use. */
import { AMD, INTEL, LEAVES, PAGES, ROWS, SUFFIXES } from './generated/tables.ts'
import type { Cpu } from './instruction.ts'
import { PAGE_COUNT } from './layout.ts'

/** The decoding tables of one maker; `layout.ts` says how they are read. */
export interface Tables {
  /** Where the cells of each page number begin. */
  readonly pages: Int32Array
  /** The row of each cell. */
  readonly cells: Uint16Array
  /** The leaf of each key. */
  readonly rows: Uint16Array
  /** Of each leaf. */
  readonly layout: Int32Array
  readonly contexts: Int32Array
  readonly vvvv: Int32Array
  readonly registers: Int32Array
  /** One bit a 3DNow! opcode. */
  readonly suffixes: Uint8Array
}

let shared: Omit<Tables, 'pages'> | undefined
const expanded = new Map<Cpu, Tables>()

/** The tables of `cpu`. */
export function tablesFor(cpu: Cpu): Tables {
  let tables = expanded.get(cpu)
  if (tables === undefined) {
    shared ??= expandShared()
    const pages = new Int32Array(PAGE_COUNT)
    expandRuns(cpu === 'amd' ? AMD : INTEL, pages)
    tables = { pages: pages.map((page) => page << 8), ...shared }
    expanded.set(cpu, tables)
  }
  return tables
}

function expandShared(): Omit<Tables, 'pages'> {
  const count = LEAVES.length / 4
  const layout = new Int32Array(count)
  const contexts = new Int32Array(count)
  const vvvv = new Int32Array(count)
  const registers = new Int32Array(count)
  for (let leaf = 0, i = 0; leaf < count; leaf++) {
    layout[leaf] = LEAVES[i++]
    contexts[leaf] = LEAVES[i++]
    vvvv[leaf] = LEAVES[i++]
    registers[leaf] = LEAVES[i++]
  }
  const cells = new Uint16Array(runLength(PAGES))
  const rows = new Uint16Array(runLength(ROWS))
  expandRuns(PAGES, cells)
  expandRuns(ROWS, rows)
  return { cells, rows, layout, contexts, vvvv, registers, suffixes: Uint8Array.from(SUFFIXES) }
}

function runLength(runs: readonly number[]): number {
  let length = 0
  for (let i = 1; i < runs.length; i += 2) length += runs[i]
  return length
}

function expandRuns(runs: readonly number[], into: Uint16Array | Int32Array): void {
  let at = 0
  for (let i = 0; i < runs.length; i += 2) {
    const value = runs[i]
    for (const end = at + runs[i + 1]; at < end; at++) into[at] = value
  }
}
