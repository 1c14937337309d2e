/**
 * Tables for the common instructions, found with two loads: length and relative field of every opcode under the
 * prefixes that 98.6 % of compiled code is made of. What they do not know they say so of (entry 0), and the
 * decoder is asked.
 *
 * The first two bytes select how many of them are prefixes and escapes (0 to 2), and a page; the next two,
 * opcode and ModRM, an entry in it. An entry holds whatever REX.R, X and B are; with any other prefix there is none.
 *
 * Entries are filled in as code is met that they stand for: a little code is read by a few hundred of the half
 * million, and a cold process has no time for the others. Notes, which are not looked up in such a hurry, stand in
 * rows, one for each opcode that was met, one behind the other: memory that is touched for the first time costs
 * more than the decoding.
 */
import { type Cpu, Flow, type Instruction, Memory } from './instruction.ts'
import { Layout, legacyContext, legacyPage, ROW_KEYS, rowKey } from './layout.ts'
import { type Tables, tablesFor } from './tables.ts'

/**
 * Where what is in `FastTables.entries`; one array, because each array that a loop touches costs a register:
 *   0        entries, by page, opcode and ModRM. 0: ask {@link FastTables.learn}, then the decoder. Else bits
 *            0-3 the length from the opcode on; bits 4-5 where the relative field is, from the opcode (0:
 *            none); bit 6: a SIB byte without base adds 4; bit 7 (LOOK): its note has more than that it is known
 *   HEADS    by the first two bytes, big-endian: bits of prefixes and escapes (0, 8, 16) | page << 5
 *   NO_BASE  by SIB byte: 4 where it has no base (with mod = 0), else 0
 */
export const HEADS = 0x80000
export const NO_BASE = 0x90000
export const LOOK = 0x80

/** Pages of entries: [ONE, TWO, ...]. The second is for W and no W; of the last there are no entries. */
const [ONE, TWO, ONE_66, TWO_66, TWO_F3, TWO_F2, ONE_W, ASK] = [0, 1, 2, 3, 4, 5, 6, 7] as const
/** The page of the decoding tables of each, as {@link legacyPage} has it: map, W, bits p66, f3, f2. */
export const PAGES: Uint8Array = Uint8Array.of(
  legacyPage(0, 0, 0),
  legacyPage(1, 0, 0),
  legacyPage(0, 0, 1),
  legacyPage(1, 0, 1),
  legacyPage(1, 0, 2),
  legacyPage(1, 0, 4),
  legacyPage(0, 1, 0),
)
const TWO_W = legacyPage(1, 1, 0)
/** Pages of the one-byte map. */
const IS_ONE = (1 << ONE) | (1 << ONE_66) | (1 << ONE_W)

/** The contexts without lock and 67h, whatever R, X, B. */
const PLAIN = [0, 1, 2, 3, 4, 5, 6, 7].reduce(
  (mask, rxb) => mask | (1 << legacyContext(0, rxb & 1, (rxb >> 1) & 1, rxb >> 2, 0)),
  0,
)

/** The tables of one maker. */
export class FastTables {
  /** As above. */
  readonly entries: Uint8Array = new Uint8Array(NO_BASE + 256)
  /** By page and opcode: where its row is; 0: there is none yet. */
  readonly rows: Int32Array = new Int32Array(0x800)
  /** By row and ModRM: bits of {@link Note}; 0 where nothing was learnt. */
  readonly notes: Uint16Array = new Uint16Array(HEADS)
  /** Where the last row is. */
  #last = 0
  readonly #tables: Tables

  constructor(tables: Tables) {
    this.#tables = tables
    fillHeads(this.entries.subarray(HEADS, NO_BASE))
    for (let sib = 5; sib < 256; sib += 8) this.entries[NO_BASE + sib] = 4
  }

  /**
   * Fills in the entry and the note of what begins with these four bytes, big-endian. False if there are
   * none, or they were there. It is asked again each time for what never has any: that is told first.
   */
  learn(word: number): boolean {
    const head = this.entries[HEADS | (word >>> 16)]
    const cell = ((head >> 5) << 16) | ((word << (head & 0x18)) >>> 16)
    if (cell >> 16 === ASK || this.notes[this.rows[cell >> 8] | (cell & 0xff)] !== 0) return false
    return this.#fillIn(cell)
  }

  /** Fills in an entry, and its note. False if they say that the decoder is to be asked. */
  #fillIn(cell: number): boolean {
    const page = cell >> 16
    const row = (this.rows[cell >> 8] ||= this.#last += 256)
    const next = cell & 0xff
    const opcode = (cell >> 8) & 0xff
    const layout = this.#layoutOf(PAGES[page], opcode, next)
    const mayJoin = ((IS_ONE >> page) & 1) !== 0 && isJoining(opcode)
    let note = noteOf(layout, next)
    if (page === TWO && !areAlike(layout, this.#layoutOf(TWO_W, opcode, next), next)) note = Note.unknown
    if (mayJoin && note !== Note.unknown && joinsWith(opcode, next, page === ONE_W)) note |= Note.joins
    const entry =
      note === Note.unknown ? 0 : entryOf(layout, next) | ((note & ~Note.modrm) === Note.known ? 0 : LOOK)
    if (mayJoin || entry === 0 || (layout & Layout.hasModrm) !== 0) {
      this.entries[cell] = entry
      this.notes[row | next] = note
    } else {
      // Without ModRM it is the same whatever comes next.
      this.entries.fill(entry, cell ^ next, (cell ^ next) + 256)
      this.notes.fill(note, row, row + 256)
    }
    return entry !== 0
  }

  /** The layout of an instruction that is valid whatever R, X, B are; else `Layout.rare`: a layout of no note. */
  #layoutOf(page: number, opcode: number, modrm: number): number {
    const { pages, cells, rows, leaves } = this.#tables
    pages.open(page)
    const leaf = rows[cells[(page << 8) | opcode] * ROW_KEYS + rowKey(modrm)]
    return (leaves[leaf + 1] & PLAIN) === PLAIN ? leaves[leaf] : Layout.rare
  }
}

const cache = new Map<Cpu, FastTables>()

/** The fast tables of `cpu`. */
export function fastTablesFor(cpu: Cpu): FastTables {
  let tables = cache.get(cpu)
  if (tables === undefined) cache.set(cpu, (tables = new FastTables(tablesFor(cpu))))
  return tables
}

function fillHeads(heads: Uint8Array): void {
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

/** The entry of a layout with this ModRM byte, without LOOK. */
function entryOf(layout: number, modrm: number): number {
  const tail = layout & Layout.tailMask
  const opcode = (layout & Layout.hasModrm) === 0 ? 1 : 2
  if (((layout >> Layout.branchShift) & 7) !== 0) return (opcode + tail) | (opcode << 4)
  if ((layout & Layout.memory) === 0 || modrm >= 0xc0) return opcode + tail
  if ((modrm & 0xc7) === 5) return (6 + tail) | (2 << 4)
  const sib = (modrm & 7) === 4 ? 1 : 0
  if (modrm >= 0x80) return 6 + sib + tail
  if (modrm >= 0x40) return 3 + sib + tail
  return sib === 0 ? 2 + tail : (3 + tail) | 0x40
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
  /** There is no note, and never will be. */
  unknown: 0x2000,
  /** What follows the opcode is a ModRM byte. */
  modrm: 0x4000,
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
  (isJoining(instruction.opcode) && instruction.map === 0)

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

/** The note of a layout with this ModRM byte. */
function noteOf(layout: number, modrm: number): number {
  if ((layout & Layout.rare) !== 0) return Note.unknown
  const size = (layout >> Layout.immediateShift) & 15
  const signed = ((layout >> Layout.widthShift) & 7) === 4
  const flow = (layout >> Layout.flowShift) & Note.flowMask
  const immediate =
    size === 8 ? Note.immediate64 : size < 4 ? 0 : signed ? Note.immediate32s : Note.immediate32
  const memory = (layout & Layout.memory) === 0 ? 0 : memoryNote(modrm)
  const hasModrm = (layout & Layout.hasModrm) === 0 ? 0 : Note.modrm
  return Note.known | flow | immediate | memory | hasModrm
}

/** The bits of a note that a memory operand gives. */
function memoryNote(modrm: number): number {
  if (modrm >= 0xc0) return 0
  const sib = (modrm & 7) === 4
  if ((modrm & 0xc7) === 5) return Note.ip
  if (modrm >= 0x80) return Note.displacement | (sib ? Note.sib : 0)
  return modrm < 0x40 && sib ? Note.noBase : 0
}

/** Whether two layouts have the same entry and note. */
const areAlike = (one: number, other: number, modrm: number): boolean =>
  one === other ||
  (entryOf(one, modrm) === entryOf(other, modrm) && noteOf(one, modrm) === noteOf(other, modrm))
