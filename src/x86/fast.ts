/**
 * Tables for the common instructions, found with two loads: length and relative field of every opcode under the
 * prefixes that 98.6 % of compiled code is made of. What they do not know they say so of (entry 0), and the
 * decoder is asked.
 *
 * The first two bytes select how many of them are prefixes and escapes (0 to 2), and a page; the next two,
 * opcode and ModRM, an entry in it. An entry holds whatever REX.R, X and B are; with any other prefix there is none.
 */
import { type Cpu, Flow, type Instruction, Memory } from './instruction.ts'
import { Layout, legacyContext, legacyPage, ROW_KEYS, rowKey } from './layout.ts'
import { type Tables, tablesFor } from './tables.ts'

/**
 * One array, because each array that the loop touches costs a register:
 *   0        entries, by page, opcode and ModRM. 0: ask the decoder. Else bits 0-3 the length from the opcode on;
 *            bits 4-5 where the relative field is, from the opcode (0: none); bit 6: a SIB byte without base adds 4;
 *            bit 7 (LOOK): its note has more than that it is known
 *   HEADS    by the first two bytes, big-endian: bits of prefixes and escapes (0, 8, 16) | page << 5
 *   NO_BASE  by SIB byte: 4 where it has no base (with mod = 0), else 0
 */
export type FastTables = Uint8Array
export const HEADS = 0x80000
export const NO_BASE = 0x90000
export const LOOK = 0x80

/** Pages of entries: map, W, bits p66, f3, f2. The second is for W and no W; one more is empty. */
const PAGES = [
  [0, 0, 0],
  [1, 0, 0],
  [0, 0, 1],
  [1, 0, 1],
  [1, 0, 2],
  [1, 0, 4],
  [0, 1, 0],
] as const
const [ONE, TWO, ONE_66, TWO_66, TWO_F3, TWO_F2, ONE_W, ASK] = [0, 1, 2, 3, 4, 5, 6, 7] as const

/** Indices of entries are below this. */
export const FAST_INDICES: number = HEADS

/**
 * A number below `FAST_INDICES` for what the first four bytes of an instruction, big-endian, say of it: the
 * index of its entry, another with REX.W.
 */
export function fastIndex(tables: FastTables, word: number): number {
  const head = tables[HEADS | (word >>> 16)]
  const skip = head & 0x18
  const isWide = head >> 5 === TWO && word >>> 27 === 0x48 >> 3
  return ((isWide ? ASK : head >> 5) << 16) | ((word << skip) >>> 16)
}

/** Whether the instruction has an entry: then its index tells it from all others, but for registers. */
export function hasFastEntry(tables: FastTables, word: number): boolean {
  const head = tables[HEADS | (word >>> 16)]
  return tables[((head >> 5) << 16) | ((word << (head & 0x18)) >>> 16)] !== 0
}

const cache = new Map<Cpu, FastTables>()

/** From this many bytes of code on the tables save more than the milliseconds that a cold process builds them in. */
const WORTH_BUILDING = 1 << 17

/** Whether to use the tables for `bytes` of code: they are there already, or worth building. */
export const isWorthFastTables = (cpu: Cpu, bytes: number): boolean =>
  bytes >= WORTH_BUILDING || cache.has(cpu)

/** The fast tables of `cpu`. */
export function fastTablesFor(cpu: Cpu): FastTables {
  const known = cache.get(cpu)
  if (known !== undefined) return known
  const tables = new Uint8Array(NO_BASE + 256)
  fillPages(tablesFor(cpu), tables, entryPatterns())
  forJoining((at) => {
    if (tables[at] !== 0) tables[at] |= LOOK
  })
  buildHeads(tables.subarray(HEADS, NO_BASE))
  for (let sib = 5; sib < 256; sib += 8) tables[NO_BASE + sib] = 4
  cache.set(cpu, tables)
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

/**
 * Fills `into` by page, opcode and ModRM. `patternOf` gives the numbers of a layout by ModRM, 0 where the
 * decoder is to be asked. Rows are put together from pieces of such patterns and copied where they come
 * again: half a million numbers one by one would take ten times as long when the code is cold.
 */
function fillPages<List extends Uint8Array | Uint16Array>(
  tables: Tables,
  into: List,
  patternOf: (layout: number) => List,
): void {
  const nothing = into.slice(0, 256)
  const leafPattern = (at: number): List => {
    const leaf = tables.rows[at]
    return (tables.leaves[leaf + 1] & PLAIN) === PLAIN ? patternOf(tables.leaves[leaf]) : (nothing as List)
  }
  const putRow = (row: number, at: number): void => {
    const keys = row * ROW_KEYS
    if (tables.rows.subarray(keys, keys + 8).every((leaf) => leaf === tables.rows[keys]))
      into.set(leafPattern(keys).subarray(0, 0xc0), at)
    else
      for (let reg = 0; reg < 8; reg++) {
        const pattern = leafPattern(keys + reg)
        for (let i = reg << 3; i < 0xc0; i += 64) into.set(pattern.subarray(i, i + 8), at + i)
      }
    for (let i = 0xc0, end = i; i < 256; i = end) {
      const key = keys + rowKey(i)
      while (end < 256 && tables.rows[key + end - i] === tables.rows[key]) end++
      into.set(leafPattern(key).subarray(i, end), at + i)
    }
  }
  const rowOf = (map: number, w: number, prefixes: number, opcode: number): number => {
    const page = legacyPage(map, w, prefixes)
    tables.pages.open(page)
    return tables.cells[(page << 8) | opcode]
  }
  const places = new Map<number, number>()
  const put = (map: number, w: number, prefixes: number, opcode: number, at: number): void => {
    const row = rowOf(map, w, prefixes, opcode)
    const place = places.get(row)
    if (place !== undefined) into.copyWithin(at, place, place + 256)
    else if (row !== 0) putRow(row, at)
    places.set(row, at)
  }
  PAGES.forEach(([map, w, prefixes], page) => {
    for (let opcode = 0; opcode < 256; opcode++) put(map, w, prefixes, opcode, (page << 16) | (opcode << 8))
  })
  // REX.W and 0F share a page: what the two say alike.
  for (let opcode = 0; opcode < 256; opcode++) {
    if (rowOf(1, 0, 0, opcode) === rowOf(1, 1, 0, opcode)) continue
    const at = (TWO << 16) | (opcode << 8)
    const wide = ASK << 16
    put(1, 1, 0, opcode, wide)
    for (let i = 0; i < 256; i++) if (into[at + i] !== into[wide + i]) into[at + i] = 0
  }
  into.fill(0, ASK << 16, (ASK << 16) + 256)
}

/** The contexts without lock and 67h, whatever R, X, B. */
const PLAIN = [0, 1, 2, 3, 4, 5, 6, 7].reduce(
  (mask, rxb) => mask | (1 << legacyContext(0, rxb & 1, (rxb >> 1) & 1, rxb >> 2, 0)),
  0,
)

/** Patterns of 256 numbers, by something that they depend on. */
function remember<List>(make: (key: number) => List): (key: number) => List {
  const known = new Map<number, List>()
  return (key) => {
    let list = known.get(key)
    if (list === undefined) {
      list = make(key)
      known.set(key, list)
    }
    return list
  }
}

/** The entries of an instruction with ModRM and nothing behind it but SIB and displacement. */
const modrmEntry = (modrm: number): number => {
  if (modrm >= 0xc0) return 2
  if ((modrm & 0xc7) === 5) return LOOK | 6 | (2 << 4)
  const sib = (modrm & 7) === 4 ? 1 : 0
  if (modrm >= 0x80) return LOOK | (6 + sib)
  if (modrm >= 0x40) return 3 + sib
  return sib === 0 ? 2 : LOOK | 3 | 0x40
}

/** The entries of layouts. */
function entryPatterns(): (layout: number) => Uint8Array {
  const withModrm = remember((more) => {
    const list = new Uint8Array(256)
    const look = more & LOOK
    const tail = more ^ look
    for (let modrm = 0; modrm < 256; modrm++) list[modrm] = (modrmEntry(modrm) + tail) | look
    return list
  })
  const alike = remember((entry) => new Uint8Array(256).fill(entry))
  return (layout) => {
    const tail = layout & Layout.tailMask
    const opcode = (layout & Layout.hasModrm) === 0 ? 1 : 2
    if ((layout & Layout.suffix) !== 0) return alike(0)
    if (((layout >> Layout.branchShift) & 7) !== 0) return alike(LOOK | (opcode + tail) | (opcode << 4))
    const look = noteOf(layout) === Note.known ? 0 : LOOK
    return (layout & Layout.memory) === 0 ? alike(opcode + tail + look) : withModrm(tail + look)
  }
}

/** Bits of a note: what there is to look at in an instruction. */
export const Note = {
  /** `Flow`, 4 bits. */
  flowMask: 15,
  /** RIP-relative. */
  ip: 0x10,
  /** A displacement of 4 bytes, not relative, at the opcode + 2, or + 3 with `sib`. */
  displacement: 0x20,
  sib: 0x40,
  /** A displacement of 4 bytes if the SIB byte has no base. */
  noBase: 0x80,
  /** At the end: an immediate of 4 bytes, sign-extended to 8 or not; of 8 bytes. */
  immediate32s: 0x100,
  immediate32: 0x200,
  immediate64: 0x400,
  /** There is a note; where this bit is not set, the decoder is asked. */
  known: 0x800,
  /** Of the one-byte map, one of {@link JOINING}, and `joinsWith` what follows. */
  joins: 0x1000,
} as const

/** The opcodes of the one-byte map that load, join, shift and store constants, take labels, and call. */
export const JOINING: readonly number[] = [
  0x01, 0x03, 0x05, 0x09, 0x0b, 0x0d, 0x29, 0x2b, 0x2d, 0x31, 0x33, 0x35, 0x68, 0x81, 0x83, 0x8d, 0xb8, 0xb9,
  0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf, 0xc1, 0xc7, 0xe8,
]

const IS_JOINING = new Uint8Array(256)
for (const opcode of JOINING) IS_JOINING[opcode] = 1

/** Whether it is one of them. */
export const isJoining = (opcode: number): boolean => IS_JOINING[opcode] !== 0

/**
 * Whether there may be more to an instruction, decoded by any decoder, than that it is known: what LOOK says
 * in an entry.
 */
export const isNotable = (instruction: Instruction): boolean =>
  instruction.flow !== Flow.next ||
  instruction.memory >= Memory.rip ||
  instruction.displacementSize >= 4 ||
  instruction.immediateSize >= 4 ||
  (IS_JOINING[instruction.opcode] !== 0 && instruction.map === 0)

/**
 * Whether a joining opcode joins addresses with this byte behind it: arithmetic does with 64-bit registers,
 * lea with REX.W or as a label, a call where it may be one of the next instruction.
 */
export function joinsWith(opcode: number, next: number, isWide: boolean): boolean {
  if (opcode === 0x8d) return isWide || (next & 0xc7) === 5
  if (opcode === 0xe8) return next === 0
  if (opcode < 0x40) return isWide && ((opcode & 7) === 5 || next >= 0xc0)
  return (opcode !== 0x81 && opcode !== 0x83 && opcode !== 0xc1) || (isWide && next >= 0xc0)
}

/** Calls `use` with the index of every entry of an instruction that joins addresses. */
function forJoining(use: (at: number) => void): void {
  for (const page of [ONE, ONE_66, ONE_W])
    for (const opcode of JOINING)
      for (let next = 0; next < 256; next++)
        if (joinsWith(opcode, next, page === ONE_W)) use((page << 16) | (opcode << 8) | next)
}

const noteCache = new Map<Cpu, Uint16Array>()

/** By page, opcode and ModRM like the entries: bits of {@link Note}. */
export function notesFor(cpu: Cpu): Uint16Array {
  const known = noteCache.get(cpu)
  if (known !== undefined) return known
  const notes = new Uint16Array(HEADS)
  fillPages(tablesFor(cpu), notes, notePatterns())
  forJoining((at) => {
    if (notes[at] !== 0) notes[at] |= Note.joins
  })
  noteCache.set(cpu, notes)
  return notes
}

/** The bits of a note that a memory operand gives. */
const modrmNote = (modrm: number): number => {
  if (modrm >= 0xc0) return 0
  const sib = (modrm & 7) === 4
  if ((modrm & 0xc7) === 5) return Note.ip
  if (modrm >= 0x80) return Note.displacement | (sib ? Note.sib : 0)
  return modrm < 0x40 && sib ? Note.noBase : 0
}

/** The notes of layouts. */
function notePatterns(): (layout: number) => Uint16Array {
  const withMemory = remember((bits) => {
    const list = new Uint16Array(256)
    for (let modrm = 0; modrm < 256; modrm++) list[modrm] = modrmNote(modrm) | bits
    return list
  })
  const alike = remember((note) => new Uint16Array(256).fill(note))
  return (layout) => {
    const bits = noteOf(layout)
    return bits === 0 || (layout & Layout.memory) === 0 ? alike(bits) : withMemory(bits)
  }
}

/** The note of a layout, without what its ModRM byte says. */
function noteOf(layout: number): number {
  if ((layout & Layout.rare) !== 0) return 0
  const size = (layout >> Layout.immediateShift) & 15
  const signed = ((layout >> Layout.widthShift) & 7) === 4
  const flow = (layout >> Layout.flowShift) & Note.flowMask
  const immediate =
    size === 8 ? Note.immediate64 : size < 4 ? 0 : signed ? Note.immediate32s : Note.immediate32
  return Note.known | flow | immediate
}
