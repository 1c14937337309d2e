/**
 * Which instructions the watchers of spread addresses have to see, told by a byte or two: those that load, join, shift, store or push
 * constants, take labels, pop, and address memory from a base with a 4-byte displacement. Most of compiled code is none of these.
 */

/** Of the one-byte map: 1 watched, 2 watched with a 4-byte displacement (ModRM mod 2), 0 neither. */
const OPCODES = new Uint8Array(256)
for (let opcode = 0; opcode < 0x40; opcode++) if ((opcode & 7) < 4) OPCODES[opcode] = 2
for (const opcode of [
  0x62, 0x63, 0x69, 0x6b, 0xc4, 0xc5, 0xc6, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xf6, 0xf7, 0xfe,
  0xff,
])
  OPCODES[opcode] = 2
OPCODES.fill(2, 0x80, 0x90)
for (const opcode of [
  0x01, 0x03, 0x05, 0x09, 0x0b, 0x0d, 0x29, 0x2b, 0x2d, 0x31, 0x33, 0x35, 0x68, 0x81, 0x83, 0x8d, 0xc1, 0xc7,
  0xe8,
])
  OPCODES[opcode] = 1
OPCODES.fill(1, 0x58, 0x60)
OPCODES.fill(1, 0xb8, 0xc0)

/** Bytes from the first byte of an escape or vector prefix to ModRM. */
const MODRM_AT = new Uint8Array(256)
MODRM_AT[0xc5] = 3
MODRM_AT[0xc4] = 4
MODRM_AT[0x62] = 5

/** Whether the instruction at `start` is to be shown to the watchers; rather too many than too few. */
export function isWatched(code: Uint8Array, start: number): boolean {
  let at = start
  let opcode = code[at]
  while ((opcode & 0xf0) === 0x40 || opcode === 0x66 || opcode === 0xf2 || opcode === 0xf3)
    opcode = code[++at]
  if (opcode === 0x0f) {
    const second = code[at + 1]
    const modrm = code[at + ((second & 0xfd) === 0x38 ? 3 : 2)]
    return modrm >> 6 === 2
  }
  const what = OPCODES[opcode]
  if (what !== 2)
    return what === 1 || opcode === 0x64 || opcode === 0x65 || opcode === 0x67 || opcode === 0xf0
  return code[at + (MODRM_AT[opcode] || 1)] >> 6 === 2
}
