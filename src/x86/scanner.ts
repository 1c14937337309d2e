/**
 * The table decoder: what iced would say, at any offset, without iced.
 *
 * Prefixes, escapes and VEX-like payloads select a page of cells; the opcode selects a row, the ModRM byte the
 * leaf in it; the leaf says which contexts are valid and what follows. Nothing is allocated. Bytes past the end
 * are never read: near it, the last bytes are decoded from a copy with zeros behind them, and an instruction
 * that would need one of the zeros is no instruction.
 */

import type { DecoderOptions } from './iced.ts'
import { Encoding, type Instruction, type InstructionDecoder, Memory, Prefix } from './instruction.ts'
import {
  evexContext,
  evexPage,
  Layout,
  legacyContext,
  legacyPage,
  ROW_KEYS,
  rowKey,
  Tail,
  Unique,
  vexContext,
  vexPage,
  xopPage,
} from './layout.ts'
import { type Tables, tablesFor } from './tables.ts'

/** The longest instruction. */
const MAX_LENGTH = 15
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

// An imported name is loaded from its module's cell each time it is used, and a property of it looked up; a constant
// of this module is a constant of the machine code. That is a third of the decoder's time.
const { rexB: REX_B, rexX: REX_X, rexR: REX_R, p67: P67 } = Prefix
const { legacy: LEGACY, vex: VEX, evex: EVEX, xop: XOP, d3now: D3NOW } = Encoding
const {
  none: NO_MEMORY,
  base: BASE,
  index: INDEX,
  absolute: ABSOLUTE,
  moffs: MOFFS,
  rip: RIP,
  eip: EIP,
} = Memory
const { immediate: IMMEDIATE, branch: BRANCH, moffs: TAIL_MOFFS } = Tail
const { none: NOT_UNIQUE, destination: UNIQUE_DESTINATION } = Unique
const KEYS = ROW_KEYS
const {
  hasModrm: HAS_MODRM,
  registerOnly: REGISTER_ONLY,
  vsib: VSIB,
  needsSib: NEEDS_SIB,
  implicitMemory: IMPLICIT_MEMORY,
  uniqueShift: UNIQUE_SHIFT,
  uniqueMask: UNIQUE_MASK,
  tailMask: TAIL_MASK,
  tailShift: TAIL_SHIFT,
  tailKindMask: TAIL_KIND_MASK,
  immediate2: IMMEDIATE_2,
  suffix: SUFFIX,
  widthShift: WIDTH_SHIFT,
  widthMask: WIDTH_MASK,
  flowShift: FLOW_SHIFT,
  flowMask: FLOW_MASK,
  branch16: BRANCH_1_6,
} = Layout

class TableDecoder implements InstructionDecoder {
  readonly #code: Uint8Array
  /** The last bytes and zeros. */
  readonly #tail: Uint8Array
  readonly #tailStart: number
  readonly #tables: Tables

  constructor(code: Uint8Array, tables: Tables) {
    this.#code = new Uint8Array(code.buffer, code.byteOffset, code.length)
    this.#tailStart = Math.max(0, code.length - PADDING)
    this.#tail = new Uint8Array(2 * PADDING)
    this.#tail.set(code.subarray(this.#tailStart))
    this.#tables = tables
  }

  decode(offset: number, out: Instruction): number {
    out.offset = offset
    const length = this.#code.length
    if (offset + PADDING <= length) return decodeAt(this.#code, offset, MAX_LENGTH, this.#tables, out)
    const left = Math.min(length - offset, MAX_LENGTH)
    return decodeAt(this.#tail, offset - this.#tailStart, left, this.#tables, out)
  }
}

/** A decoder of `code` on the generated tables. */
export const createTableDecoder = (code: Uint8Array, options: DecoderOptions = {}): InstructionDecoder =>
  new TableDecoder(code, tablesFor(options.cpu ?? 'intel'))

/** Decodes `bytes` at `start`, of which the instruction may use `limit`; at least {@link PADDING} bytes are there. */
function decodeAt(bytes: Uint8Array, start: number, limit: number, tables: Tables, out: Instruction): number {
  let at = start
  let prefixes = 0
  let opcode = bytes[at]
  for (let sets = PREFIX_SETS[opcode]; sets !== 0; sets = PREFIX_SETS[opcode]) {
    prefixes = (prefixes & PREFIX_KEEPS[opcode]) | sets
    opcode = bytes[++at]
    if (at - start >= MAX_LENGTH) return (out.length = 0)
  }
  prefixes &= ~SOME_PREFIX

  let encoding: number = LEGACY
  let map = 0
  let page: number
  let context: number
  let vvvv = 0
  let registers = 0
  if (
    opcode === 0xc5 ||
    opcode === 0xc4 ||
    opcode === 0x62 ||
    (opcode === 0x8f && (bytes[at + 1] & 0x1f) >= 8)
  ) {
    if ((prefixes & FORBIDDEN_BEFORE_VEX) !== 0) return (out.length = 0)
    const p0 = opcode === 0xc5 ? (bytes[at + 1] & 0x80) | 0x61 : bytes[at + 1]
    const p1 = opcode === 0xc5 ? bytes[at + 1] & 0x7f : bytes[at + 2]
    const pp = p1 & 3
    const w = p1 >> 7
    const rxb = ~p0 >> 5
    prefixes |= PP[pp] | ((rxb & 7) << 8) | (w << 11)
    vvvv = (~p1 >> 3) & 15
    if (opcode === 0x62) {
      const p2 = bytes[at + 3]
      map = p0 & 7
      if ((p0 & 8) !== 0 || (p1 & 4) === 0) return (out.length = 0)
      encoding = EVEX
      page = evexPage(map, pp, w)
      context = evexContext((p2 >> 5) & 3, (p2 >> 4) & 1, p2 >> 7, (p2 & 7) === 0 ? 0 : 1)
      registers = ((~p0 & 0x10) >> 1) | (rxb & 7) | ((~p2 & 8) << 1)
      at += 4
    } else {
      map = p0 & 0x1f
      context = vexContext((p1 >> 2) & 1, w, (rxb >> 2) & 1, (rxb >> 1) & 1, rxb & 1)
      if (opcode === 0x8f) {
        if (map > 10) return (out.length = 0)
        encoding = XOP
        page = xopPage(map, pp)
      } else {
        if (map === 0 || map > 3) return (out.length = 0)
        encoding = VEX
        page = vexPage(map, pp)
      }
      at += opcode === 0xc5 ? 2 : 3
    }
    opcode = bytes[at]
  } else {
    if (opcode === 0x0f) {
      opcode = bytes[++at]
      map = 1
      if (opcode === 0x38 || opcode === 0x3a) {
        map = opcode === 0x38 ? 2 : 3
        opcode = bytes[++at]
      }
    }
    page = legacyPage(map, (prefixes >> 11) & 1, prefixes & 7)
    context = legacyContext(
      (prefixes >> 4) & 1,
      (prefixes >> 10) & 1,
      (prefixes >> 9) & 1,
      (prefixes >> 8) & 1,
      (prefixes >> 3) & 1,
    )
  }
  at++

  const modrm = bytes[at]
  const leaf = tables.rows[tables.cells[tables.pages[page] + opcode] * KEYS + rowKey(modrm)]
  const layout = tables.layout[leaf]
  if (((tables.contexts[leaf] >>> context) & 1) === 0) return (out.length = 0)

  let memory: number = NO_MEMORY
  let displacementSize = 0
  let sib = -1
  out.modrmOffset = 0
  out.modrm = 0
  if ((layout & HAS_MODRM) !== 0) {
    out.modrmOffset = at - start
    out.modrm = modrm
    at++
    if (modrm < 0xc0 && (layout & REGISTER_ONLY) === 0) {
      const mod = modrm >> 6
      displacementSize = mod === 0 ? 0 : mod === 1 ? 1 : 4
      memory = BASE
      if ((modrm & 7) === 4) {
        sib = bytes[at++]
        if (mod === 0 && (sib & 7) === 5) {
          displacementSize = 4
          const indexed = (sib & 0x38) !== 0x20 || (prefixes & REX_X) !== 0 || (layout & VSIB) !== 0
          memory = indexed ? INDEX : ABSOLUTE
        }
      } else if ((layout & NEEDS_SIB) !== 0) return (out.length = 0)
      else if ((modrm & 0xc7) === 5) {
        displacementSize = 4
        memory = (prefixes & P67) !== 0 ? EIP : RIP
      }
    }
  } else if ((layout & IMPLICIT_MEMORY) !== 0) memory = BASE

  if (encoding !== LEGACY) {
    const v = vvvv | (registers & 16)
    if (((tables.vvvv[leaf] >>> v) & 1) === 0) return (out.length = 0)
    if (encoding === EVEX && ((tables.registers[leaf] >>> (registers & 15)) & 1) === 0)
      return (out.length = 0)
    const unique = (layout >> UNIQUE_SHIFT) & UNIQUE_MASK
    if (unique !== NOT_UNIQUE && !areUnique(unique, modrm, sib, prefixes, v, registers, tables.vvvv[leaf]))
      return (out.length = 0)
  }

  out.displacementOffset = displacementSize === 0 ? 0 : at - start
  at += displacementSize
  let tail = layout & TAIL_MASK
  const kind = (layout >> TAIL_SHIFT) & TAIL_KIND_MASK
  const tailOffset = at - start
  out.branchOffset = 0
  out.branchSize = 0
  out.immediateOffset = 0
  out.immediateSize = 0
  out.immediate2Offset = 0
  if (kind === IMMEDIATE) {
    out.immediateOffset = tailOffset
    out.immediateSize = tail
    if ((layout & IMMEDIATE_2) !== 0) {
      out.immediateSize = tail - 1
      out.immediate2Offset = tailOffset + tail - 1
    }
  } else if (kind === BRANCH) {
    out.branchOffset = tailOffset
    out.branchSize = tail
  } else if (kind === TAIL_MOFFS) {
    if ((prefixes & P67) !== 0) tail = 4
    memory = MOFFS
    out.displacementOffset = tailOffset
    displacementSize = tail
  } else if ((layout & SUFFIX) !== 0) {
    opcode = bytes[at]
    if (((tables.suffixes[opcode >> 3] >> (opcode & 7)) & 1) === 0) return (out.length = 0)
    encoding = D3NOW
  }
  const length = tailOffset + tail
  if (length > limit) return (out.length = 0)

  out.length = length
  out.displacementSize = displacementSize
  out.immediateWidth = (1 << ((layout >> WIDTH_SHIFT) & WIDTH_MASK)) >> 1
  out.flow = (layout >> FLOW_SHIFT) & FLOW_MASK
  out.memory = memory
  out.branch16 = (layout & BRANCH_1_6) === 0 ? 0 : 1
  out.encoding = encoding
  out.map = map
  out.opcode = opcode
  out.prefixes = prefixes
  out.vvvv = vvvv
  return length
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
  if (sib >= 0) other = ((sib >> 3) & 7) | ((prefixes & REX_X) >> 6) | (registers & 16)
  else if (modrm >= 0xc0) other = (modrm & 7) | ((prefixes & REX_B) >> 5) | ((registers & 2) << 3)
  const usesVvvv = (valid & 0xfffe) !== 0
  if (reg === other || (usesVvvv && reg === v)) return false
  return rule === UNIQUE_DESTINATION || !usesVvvv || other !== v
}
