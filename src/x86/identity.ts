/**
 * Prefixes, opcode map, opcode and ModRM of an instruction that is known to be valid: what iced does not report.
 * Sources: Intel SDM vol. 2 (2.1 to 2.3, 2.7), AMD APM vol. 3 (1.2, XOP).
 */
import { Encoding, type Instruction, Memory, Prefix } from './instruction.ts'

/** One bit an opcode, 16 a row: has it a ModRM byte? */
const ONE_BYTE = [
  0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0x0000, 0x0000, 0x0a08, 0x0000, 0xffff, 0x0000, 0x0000, 0x0000, 0x00c3,
  0xff0f, 0x0000, 0xc0c0,
]
const TWO_BYTE = [
  0xa00f, 0xffff, 0xff0f, 0x0000, 0xffff, 0xffff, 0xffff, 0xff7f, 0x0000, 0xffff, 0xf8f8, 0xffff, 0x00ff,
  0xffff, 0xffff, 0xffff,
]

const LEGACY_PREFIX: ReadonlyMap<number, number> = new Map([
  [0x26, 0],
  [0x2e, 0],
  [0x36, 0],
  [0x3e, 0],
  [0x64, Prefix.fs],
  [0x65, Prefix.gs],
  [0x66, Prefix.p66],
  [0x67, Prefix.p67],
  [0xf0, Prefix.lock],
  [0xf2, Prefix.f2],
  [0xf3, Prefix.f3],
])
const SEGMENT = Prefix.fs | Prefix.gs
const REPEAT = Prefix.f2 | Prefix.f3
const PP = [0, Prefix.p66, Prefix.f3, Prefix.f2]

const rexBits = (byte: number): number =>
  ((byte & 1) << 8) | ((byte & 2) << 8) | ((byte & 4) << 8) | ((byte & 8) << 8)

/**
 * Fills `encoding`, `map`, `opcode`, `prefixes`, `modrmOffset`, `modrm`, `sib` and `vvvv`; offset, length and
 * memory form are set.
 */
export function fillIdentity(code: Uint8Array, out: Instruction): void {
  let at = out.offset
  let prefixes = 0
  let rex = 0
  for (; ; at++) {
    const byte = code[at]
    const bit = LEGACY_PREFIX.get(byte)
    if (bit !== undefined) {
      rex = 0
      if ((bit & SEGMENT) !== 0) prefixes &= ~SEGMENT
      if ((bit & REPEAT) !== 0) prefixes &= ~REPEAT
      prefixes |= bit
    } else if ((byte & 0xf0) === 0x40) rex = Prefix.rex | rexBits(byte)
    else break
  }
  const first = code[at]
  out.encoding = Encoding.legacy
  out.vvvv = 0
  let map = 0
  let hasModrm = true
  if (first === 0xc4 || first === 0x62 || (first === 0x8f && (code[at + 1] & 0x1f) >= 8)) {
    out.encoding = first === 0xc4 ? Encoding.vex : first === 0x62 ? Encoding.evex : Encoding.xop
    map = code[at + 1] & (first === 0x62 ? 7 : 0x1f)
    const inverted = ~(code[at + 1] >> 5)
    rex = rexBits((inverted & 7) | ((code[at + 2] >> 4) & 8))
    prefixes |= PP[code[at + 2] & 3]
    out.vvvv = (~code[at + 2] >> 3) & 15
    at += first === 0x62 ? 4 : 3
  } else if (first === 0xc5) {
    out.encoding = Encoding.vex
    map = 1
    rex = rexBits((~code[at + 1] >> 5) & 4)
    prefixes |= PP[code[at + 1] & 3]
    out.vvvv = (~code[at + 1] >> 3) & 15
    at += 2
  } else if (first === 0x0f) {
    at++
    map = code[at] === 0x38 ? 2 : code[at] === 0x3a ? 3 : 1
    if (map > 1) at++
    else hasModrm = ((TWO_BYTE[code[at] >> 4] >> (code[at] & 15)) & 1) !== 0
  } else hasModrm = ((ONE_BYTE[first >> 4] >> (first & 15)) & 1) !== 0

  // vzeroupper, the one VEX opcode without ModRM; ud0, which has none on AMD.
  if (out.encoding === Encoding.vex && map === 1 && code[at] === 0x77) hasModrm = false
  if (at + 1 === out.offset + out.length) hasModrm = false
  out.map = map
  out.opcode = code[at]
  out.prefixes = prefixes | rex
  out.modrmOffset = hasModrm ? at + 1 - out.offset : 0
  out.modrm = hasModrm ? code[at + 1] : 0
  const hasSib = hasModrm && out.memory !== Memory.none && out.modrm < 0xc0 && (out.modrm & 7) === 4
  out.sib = hasSib ? code[at + 2] : 0
  if (out.encoding === Encoding.legacy && map === 1 && out.opcode === 0x0f) {
    out.encoding = Encoding.d3now
    out.opcode = code[out.offset + out.length - 1]
  }
}
