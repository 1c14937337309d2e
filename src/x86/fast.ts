/**
 * Tables for the common instructions, found with two loads: length and relative field of every opcode under the
 * prefixes that 98.6 % of compiled code is made of. What they do not know they say so of (entry 0), and the
 * decoder is asked.
 *
 * The first two bytes select how many of them are prefixes and escapes (0 to 2), and a page; the next two,
 * opcode and ModRM, an entry in it. An entry holds whatever REX.R, X and B are; with any other prefix there is none.
 */
import type { Cpu } from './instruction.ts'
import { Layout, legacyContext, legacyPage, ROW_KEYS, rowKey } from './layout.ts'
import { type Tables, tablesFor } from './tables.ts'

/**
 * One array, because each array that the loop touches costs a register:
 *   0        entries, by page, opcode and ModRM. 0: ask the decoder. Else bits 0-3 the length from the opcode on;
 *            bits 4-5 where the relative field is, from the opcode (0: none); bit 6: a SIB byte without base adds 4
 *   HEADS    by the first two bytes, big-endian: bits of prefixes and escapes (0, 8, 16) | page << 5
 *   NO_BASE  by SIB byte: 4 where it has no base (with mod = 0), else 0
 */
export type FastTables = Uint8Array
export const HEADS = 0x80000
export const NO_BASE = 0x90000

/** Pages of entries: map, W (2: the same for both), bits p66, f3, f2. The last page is empty. */
const PAGES = [
  [0, 0, 0],
  [1, 2, 0],
  [0, 0, 1],
  [1, 0, 1],
  [1, 0, 2],
  [1, 0, 4],
  [0, 1, 0],
] as const
const [ONE, TWO, ONE_66, TWO_66, TWO_F3, TWO_F2, ONE_W, ASK] = [0, 1, 2, 3, 4, 5, 6, 7] as const

const cache = new Map<Cpu, FastTables>()

/** Are they there already? They cost about a millisecond. */
export const hasFastTables = (cpu: Cpu): boolean => cache.has(cpu)

/** The fast tables of `cpu`. */
export function fastTablesFor(cpu: Cpu): FastTables {
  let tables = cache.get(cpu)
  if (tables === undefined) {
    tables = new Uint8Array(NO_BASE + 256)
    buildEntries(tablesFor(cpu), tables)
    buildHeads(tables.subarray(HEADS, NO_BASE))
    for (let sib = 5; sib < 256; sib += 8) tables[NO_BASE + sib] = 4
    cache.set(cpu, tables)
  }
  return tables
}

function buildHeads(heads: Uint8Array): void {
  const set = (first: number, second: number, page: number, skip: number): void => {
    heads[(first << 8) | second] = (page << 5) | (skip << 3)
  }
  const fill = (first: number, page: number, skip: number): void => {
    heads.fill((page << 5) | (skip << 3), first << 8, (first + 1) << 8)
  }
  for (let rex = 0x40; rex < 0x50; rex++) {
    fill(rex, rex < 0x48 ? ONE : ONE_W, 1)
    set(rex, 0x0f, TWO, 2)
  }
  fill(0x0f, TWO, 1)
  fill(0x66, ONE_66, 1)
  fill(0xf3, ASK, 0)
  fill(0xf2, ASK, 0)
  set(0x66, 0x0f, TWO_66, 2)
  set(0xf3, 0x0f, TWO_F3, 2)
  set(0xf2, 0x0f, TWO_F2, 2)
  for (let rex = 0x40; rex < 0x50; rex++) set(0x66, rex, rex < 0x48 ? ONE_66 : ASK, rex < 0x48 ? 2 : 0)
}

function buildEntries(tables: Tables, entries: Uint8Array): void {
  const rows = new Map<number, Uint8Array>()
  const rowEntries = (map: number, w: number, prefixes: number, opcode: number): Uint8Array => {
    const row = tables.cells[(legacyPage(map, w, prefixes) << 8) | opcode]
    let list = rows.get(row)
    if (list === undefined) {
      list = new Uint8Array(256)
      for (let modrm = 0; modrm < 256; modrm++)
        list[modrm] = entryOf(tables, tables.rows[row * ROW_KEYS + rowKey(modrm)], modrm)
      rows.set(row, list)
    }
    return list
  }
  PAGES.forEach(([map, w, prefixes], page) => {
    for (let opcode = 0; opcode < 256; opcode++) {
      const at = (page << 16) | (opcode << 8)
      const list = rowEntries(map, w & 1, prefixes, opcode)
      if (w !== 2) {
        entries.set(list, at)
        continue
      }
      const wide = rowEntries(map, 1, prefixes, opcode)
      for (let modrm = 0; modrm < 256; modrm++)
        if (list[modrm] === wide[modrm]) entries[at + modrm] = list[modrm]
    }
  })
}

/** The contexts without lock and 67h, whatever R, X, B. */
const PLAIN = [0, 1, 2, 3, 4, 5, 6, 7].reduce(
  (mask, rxb) => mask | (1 << legacyContext(0, rxb & 1, (rxb >> 1) & 1, rxb >> 2, 0)),
  0,
)

function entryOf(tables: Tables, leaf: number, modrm: number): number {
  const layout = tables.leaves[leaf]
  if ((tables.leaves[leaf + 1] & PLAIN) !== PLAIN || (layout & Layout.suffix) !== 0) return 0
  let length = 1
  let field = 0
  let sib = 0
  if ((layout & Layout.hasModrm) !== 0) {
    length++
    if (modrm < 0xc0 && (layout & Layout.memory) !== 0) {
      if ((modrm & 7) === 4) {
        length++
        if (modrm < 0x40) sib = 0x40
      }
      if ((modrm & 0xc7) === 5) {
        field = length
        length += 4
      } else if (modrm >= 0x40) length += modrm < 0x80 ? 1 : 4
    }
  }
  if (((layout >> Layout.branchShift) & 7) !== 0) field = length
  return (length + (layout & Layout.tailMask)) | (field << 4) | sib
}
