/**
 * The table decoder: what iced would say, at any offset, without iced.
 *
 * Prefixes, escapes and VEX-like payloads select a page of cells; the opcode selects a row, the ModRM byte the
 * leaf in it; the leaf says which contexts are valid and what follows. Nothing is allocated. Bytes past the end
 * are never read: near it, the last bytes are decoded from a copy with zeros behind them, and an instruction
 * that would need one of the zeros is no instruction.
 */

import type { DecoderOptions } from './iced.ts'
import {
  Encoding,
  type Instruction,
  type InstructionDecoder,
  MAX_LENGTH,
  Memory,
  Prefix,
} from './instruction.ts'
import {
  evexContext,
  evexPage,
  Layout,
  ROW_KEYS,
  rowKey,
  Unique,
  vexContext,
  vexPage,
  xopPage,
} from './layout.ts'
import { layoutTablesFor, type Tables, tablesFor } from './tables.ts'

/** More than any decode reads beyond an instruction's first byte. */
const PADDING = 32

const SEGMENT = Prefix.fs | Prefix.gs
const REPEAT = Prefix.f2 | Prefix.f3
const REX = Prefix.rex | Prefix.rexB | Prefix.rexX | Prefix.rexR | Prefix.w
/** Marks a prefix that sets no other bit. */
const SOME_PREFIX = 0x8000
const FORBIDDEN_BEFORE_VEX = Prefix.p66 | REPEAT | Prefix.lock | REX

/** What a prefix byte sets, and what it keeps of the prefixes before it. 0: not a prefix. */
const PREFIX_SETS = new Uint16Array(256)
const PREFIX_KEEPS = new Uint16Array(256)
for (const [byte, sets, clears] of [
  [0x26, 0, 0],
  [0x2e, 0, 0],
  [0x36, 0, 0],
  [0x3e, 0, 0],
  [0x64, Prefix.fs, SEGMENT],
  [0x65, Prefix.gs, SEGMENT],
  [0x66, Prefix.p66, 0],
  [0x67, Prefix.p67, 0],
  [0xf0, Prefix.lock, 0],
  [0xf2, Prefix.f2, REPEAT],
  [0xf3, Prefix.f3, REPEAT],
]) {
  PREFIX_SETS[byte] = SOME_PREFIX | sets
  PREFIX_KEEPS[byte] = ~(clears | REX)
}
for (let rex = 0; rex < 16; rex++) {
  PREFIX_SETS[0x40 | rex] = Prefix.rex | (rex << 8)
  PREFIX_KEEPS[0x40 | rex] = ~REX
}
/** Bits of `Prefix` for VEX.pp. */
const PP = Uint8Array.of(0, Prefix.p66, Prefix.f3, Prefix.f2)

// A constant of this module is a constant of the machine code; an imported name is loaded from its module's cell each
// time, and a property of it looked up.
const { legacy: LEGACY, vex: VEX, evex: EVEX, xop: XOP, d3now: D3NOW } = Encoding
const { base: BASE, index: INDEX, absolute: ABSOLUTE, moffs: MOFFS, rip: RIP } = Memory
const { rexB: REX_B, rexX: REX_X, rexR: REX_R, p67: P67 } = Prefix
const { none: NOT_UNIQUE, destination: UNIQUE_DESTINATION } = Unique
const KEYS = ROW_KEYS
/** By ModRM. */
const KEY = Uint8Array.from({ length: 256 }, (_, modrm) => rowKey(modrm))
const {
  tailMask: TAIL_MASK,
  immediateShift: IMMEDIATE_SHIFT,
  branchShift: BRANCH_SHIFT,
  widthShift: WIDTH_SHIFT,
  flowShift: FLOW_SHIFT,
  hasModrm: HAS_MODRM,
  memory: HAS_MEMORY,
  vsib: VSIB,
  uniqueShift: UNIQUE_SHIFT,
  moffs: HAS_MOFFS,
  immediate2: IMMEDIATE_2,
  implicitMemory: IMPLICIT_MEMORY,
  needsSib: NEEDS_SIB,
  branch16: BRANCH_16,
  suffix: SUFFIX,
  rare: RARE,
} = Layout

/** What a first opcode byte may be: 0 an opcode, PREFIX, ESCAPE (0F), VECTOR (VEX, EVEX, perhaps XOP). */
const [PREFIX, ESCAPE, VECTOR] = [1, 2, 3] as const
const BYTE_CLASS = PREFIX_SETS.map((sets) => (sets === 0 ? 0 : PREFIX))
BYTE_CLASS[0x0f] = ESCAPE
for (const byte of [0xc4, 0xc5, 0x62, 0x8f]) BYTE_CLASS[byte] = VECTOR

/** By ModRM: bits 0-2 memory form, 3-5 size of the displacement, 6 SIB, 7 RIP-relative, 8 SIB with mod = 0. */
const MODRM = new Uint16Array(256)
for (let modrm = 0; modrm < 0xc0; modrm++) {
  const rip = (modrm & 0xc7) === 5
  const size = rip || modrm >= 0x80 ? 4 : modrm >> 6
  MODRM[modrm] =
    (rip ? RIP | 0x80 : BASE) | (size << 3) | ((modrm & 7) === 4 ? (modrm < 0x40 ? 0x140 : 0x40) : 0)
}
/** By SIB: the MODRM bit with which it has no base. */
const NO_BASE = new Uint16Array(256).map((_, sib) => ((sib & 7) === 5 ? 0x100 : 0))

class TableDecoder implements InstructionDecoder {
  readonly #code: Uint8Array
  /** The last bytes and zeros. */
  readonly #tail: Uint8Array
  readonly #tailStart: number
  /** The last offset that all bytes of a decode are there from; negative in a short blob. */
  readonly #last: number
  readonly #tables: Tables

  constructor(code: Uint8Array, tables: Tables) {
    this.#code = new Uint8Array(code.buffer, code.byteOffset, code.length)
    this.#last = code.length - PADDING
    this.#tailStart = Math.max(0, this.#last)
    this.#tail = new Uint8Array(2 * PADDING)
    this.#tail.set(code.subarray(this.#tailStart))
    this.#tables = tables
  }

  decode(offset: number, out: Instruction): number {
    out.offset = offset
    if (offset <= this.#last)
      return (out.length = decodeAt(this.#code, offset, MAX_LENGTH, this.#tables, out))
    const left = Math.min(this.#code.length - offset, MAX_LENGTH)
    return (out.length = decodeAt(this.#tail, offset - this.#tailStart, left, this.#tables, out))
  }
}

/** A decoder of `code` on the generated tables. */
export const createTableDecoder = (code: Uint8Array, options: DecoderOptions = {}): InstructionDecoder =>
  new TableDecoder(code, tablesFor(options.cpu ?? 'intel'))

/**
 * A decoder that believes every encoding whose opcode some valid one has, whatever the other bits: lock where
 * it is not allowed, reserved fields of VEX and EVEX, registers that must differ. Lengths and fields are what
 * such an encoding would have.
 */
export function createLayoutDecoder(code: Uint8Array, { cpu }: DecoderOptions = {}): InstructionDecoder {
  let decoder: InstructionDecoder | undefined
  // Hardly any code has an encoding to ask it for.
  const decode = (offset: number, out: Instruction): number => {
    decoder ??= new TableDecoder(code, layoutTablesFor(cpu ?? 'intel'))
    return decoder.decode(offset, out)
  }
  return { decode }
}

/** No layout word. */
const NONE = -1

/**
 * Decodes `bytes` at `start`, of which the instruction may use `limit`; at least {@link PADDING} bytes are there. The
 * length, 0 where it is no instruction. What most instructions have is computed without a branch, for a
 * branch that depends on the code at hand is mispredicted.
 */
function decodeAt(bytes: Uint8Array, start: number, limit: number, tables: Tables, out: Instruction): number {
  const first = bytes[start]
  // A REX prefix alone: half of all instructions.
  const rex = (((first & 0xf0) ^ 0x40) - 1) >>> 31
  let prefixes = (0x80 | ((first & 15) << 8)) & -rex
  let at = start + rex
  let kind = BYTE_CLASS[bytes[at]]
  if (kind === 0) return decodeOpcode(bytes, start, at, prefixes, 0, limit, tables, out)
  if (kind === PREFIX) {
    prefixes = 0
    at = start
    for (let byte = first; PREFIX_SETS[byte] !== 0; byte = bytes[++at]) {
      if (at - start === MAX_LENGTH) return 0
      prefixes = (prefixes & PREFIX_KEEPS[byte]) | PREFIX_SETS[byte]
    }
    prefixes &= ~SOME_PREFIX
    kind = BYTE_CLASS[bytes[at]]
  }
  if (kind === ESCAPE) {
    const second = bytes[++at]
    const map = second === 0x38 ? 2 : second === 0x3a ? 3 : 1
    if (map !== 1) at++
    return decodeOpcode(bytes, start, at, prefixes, map, limit, tables, out)
  }
  if (kind !== VECTOR || (bytes[at] === 0x8f && (bytes[at + 1] & 0x1f) < 8))
    return decodeOpcode(bytes, start, at, prefixes, 0, limit, tables, out)
  const layout = vectorLayout(bytes, at, prefixes, tables, out)
  return layout === NONE ? 0 : fill(bytes, start, at + out.modrmOffset, limit, tables, layout, out)
}

/** Decodes an instruction whose opcode is at `at`, in one of the first four maps. */
function decodeOpcode(
  bytes: Uint8Array,
  start: number,
  at: number,
  prefixes: number,
  map: number,
  limit: number,
  tables: Tables,
  out: Instruction,
): number {
  const opcode = bytes[at]
  // As legacyPage and rowKey have it: a call each would be a tenth of the time while the code is cold.
  const page = (map << 4) | ((prefixes >> 8) & 8) | (prefixes & 7)
  const leaf = tables.rows[tables.cells[(page << 8) | opcode] * KEYS + KEY[bytes[at + 1]]]
  // Lock, R, X, B, 67h.
  const context =
    ((prefixes >> 4) & 1) |
    ((prefixes >> 9) & 2) |
    ((prefixes >> 7) & 4) |
    ((prefixes >> 5) & 8) |
    ((prefixes << 1) & 16)
  if (((tables.leaves[leaf + 1] >>> context) & 1) !== 0) {
    out.encoding = LEGACY
    out.map = map
    out.opcode = opcode
    out.prefixes = prefixes
    out.vvvv = 0
    return fill(bytes, start, at + 1, limit, tables, tables.leaves[leaf], out)
  }
  return tables.pages.open(page) ? decodeOpcode(bytes, start, at, prefixes, map, limit, tables, out) : 0
}

/** Fills `out` with what follows the opcode, from `at` on, as `layout` says. */
function fill(
  bytes: Uint8Array,
  start: number,
  at: number,
  limit: number,
  tables: Tables,
  layout: number,
  out: Instruction,
): number {
  const hasModrm = (layout & HAS_MODRM) === 0 ? 0 : 1
  const modrm = bytes[at] & -hasModrm
  const info = (layout & HAS_MEMORY) === 0 ? 0 : MODRM[modrm]
  out.modrmOffset = (at - start) & -hasModrm
  out.modrm = modrm
  at += hasModrm
  const sib = bytes[at]
  const hasSib = (info >> 6) & 1
  out.sib = sib & -hasSib
  at += hasSib
  let memory = (info & 7) + ((info >> 7) & (out.prefixes >> 3) & 1)
  let displacementSize = (info >> 3) & 7
  if ((info & NO_BASE[sib]) !== 0) {
    displacementSize = 4
    memory = (sib & 0x38) !== 0x20 || (out.prefixes & REX_X) !== 0 || (layout & VSIB) !== 0 ? INDEX : ABSOLUTE
  }
  const immediateSize = (layout >> IMMEDIATE_SHIFT) & 15
  const branchSize = (layout >> BRANCH_SHIFT) & 7
  out.displacementOffset = (at - start) & (-displacementSize >> 31)
  out.displacementSize = displacementSize
  at += displacementSize
  out.immediateOffset = (at - start) & (-immediateSize >> 31)
  out.immediateSize = immediateSize
  out.immediateWidth = (1 << ((layout >> WIDTH_SHIFT) & 7)) >> 1
  out.immediate2Offset = 0
  out.branchOffset = (at - start) & (-branchSize >> 31)
  out.branchSize = branchSize
  out.branch16 = 0
  out.flow = (layout >> FLOW_SHIFT) & 15
  out.memory = memory
  const length = at - start + (layout & TAIL_MASK)
  if ((layout & RARE) === 0) return length > limit ? 0 : length
  return fillRare(bytes, start, at, length, limit, tables, layout, out)
}

/**
 * The layout word of an instruction with a VEX, EVEX or XOP payload at `at`, `NONE` where it is none; its ModRM is
 * `out.modrmOffset` bytes on.
 */
function vectorLayout(
  bytes: Uint8Array,
  at: number,
  prefixes: number,
  tables: Tables,
  out: Instruction,
): number {
  if ((prefixes & FORBIDDEN_BEFORE_VEX) !== 0) return NONE
  const first = at
  const lead = bytes[at]
  const p0 = lead === 0xc5 ? (bytes[at + 1] & 0x80) | 0x61 : bytes[at + 1]
  const p1 = lead === 0xc5 ? bytes[at + 1] & 0x7f : bytes[at + 2]
  const pp = p1 & 3
  const w = p1 >> 7
  const rxb = (~p0 >> 5) & 7
  const map = lead === 0x62 ? p0 & 7 : p0 & 0x1f
  let page: number
  let context = vexContext((p1 >> 2) & 1, w, rxb >> 2, (rxb >> 1) & 1, rxb & 1)
  let v = (~p1 >> 3) & 15
  // EVEX: R' R X B.
  let registers = 0
  if (lead === 0x62) {
    if ((p0 & 8) !== 0 || (p1 & 4) === 0) return NONE
    const p2 = bytes[at + 3]
    page = evexPage(map, pp, w)
    context = evexContext((p2 >> 5) & 3, (p2 >> 4) & 1, p2 >> 7, (p2 & 7) === 0 ? 0 : 1)
    v |= (~p2 & 8) << 1
    registers = ((~p0 & 0x10) >> 1) | rxb
    out.encoding = EVEX
    at += 4
  } else if (lead === 0x8f) {
    if (map > 10) return NONE
    page = xopPage(map, pp)
    out.encoding = XOP
    at += 3
  } else {
    if (map === 0 || map > 3) return NONE
    page = vexPage(map, pp)
    out.encoding = VEX
    at += lead === 0xc5 ? 2 : 3
  }
  tables.pages.open(page)
  const opcode = bytes[at++]
  const modrm = bytes[at]
  const leaf = tables.rows[tables.cells[(page << 8) | opcode] * KEYS + KEY[modrm]]
  const layout = tables.leaves[leaf]
  if (((tables.leaves[leaf + 1] >>> context) & 1) === 0 || ((tables.leaves[leaf + 2] >>> v) & 1) === 0)
    return NONE
  if (lead === 0x62 && ((tables.leaves[leaf + 3] >>> registers) & 1) === 0) return NONE
  out.map = map
  out.opcode = opcode
  out.prefixes = prefixes | PP[pp] | (rxb << 8) | (w << 11)
  out.vvvv = v & 15
  const unique = (layout >> UNIQUE_SHIFT) & 3
  if (unique !== NOT_UNIQUE) {
    const sib = (layout & VSIB) !== 0 && modrm < 0xc0 ? bytes[at + 1] : -1
    if (!areUnique(unique, modrm, sib, out.prefixes, v, registers, tables.leaves[leaf + 2])) return NONE
  }
  out.modrmOffset = at - first
  return layout
}

/** What few instructions have; `at` is the tail. */
function fillRare(
  bytes: Uint8Array,
  start: number,
  at: number,
  length: number,
  limit: number,
  tables: Tables,
  layout: number,
  out: Instruction,
): number {
  if ((layout & HAS_MOFFS) !== 0) {
    out.memory = MOFFS
    out.displacementOffset = at - start
    out.displacementSize = (out.prefixes & P67) === 0 ? 8 : 4
    length = at - start + out.displacementSize
  }
  if ((layout & IMMEDIATE_2) !== 0) out.immediate2Offset = length - 1
  if ((layout & IMPLICIT_MEMORY) !== 0) out.memory = BASE
  if ((layout & NEEDS_SIB) !== 0 && (out.modrm & 7) !== 4) return 0
  if ((layout & BRANCH_16) !== 0) out.branch16 = 1
  if ((layout & SUFFIX) !== 0) {
    const suffix = bytes[at]
    if (((tables.suffixes[suffix >> 3] >> (suffix & 7)) & 1) === 0) return 0
    out.encoding = D3NOW
    out.opcode = suffix
  }
  return length > limit ? 0 : length
}

/** Do the vector or tile registers differ as `rule` asks? `v` is V'vvvv, an operand where `valid` has more than V'. */
function areUnique(
  rule: number,
  modrm: number,
  sib: number,
  prefixes: number,
  v: number,
  registers: number,
  valid: number,
): boolean {
  const reg = ((modrm >> 3) & 7) | ((prefixes & REX_R) >> 7) | ((registers & 8) << 1)
  let other = -1
  if (sib >= 0) other = ((sib >> 3) & 7) | ((prefixes & REX_X) >> 6) | (v & 16)
  else if (modrm >= 0xc0) other = (modrm & 7) | ((prefixes & REX_B) >> 5) | ((registers & 2) << 3)
  const usesVvvv = (valid & 0xfffe) !== 0
  if (reg === other || (usesVvvv && reg === v)) return false
  return rule === UNIQUE_DESTINATION || !usesVvvv || other !== v
}
