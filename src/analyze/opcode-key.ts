/**
 * The feature under which an instruction's form is counted: code is told from data by how often each form occurs in the
 * one and in the other. Forms are hashed into a fixed number of slots; the trainer and the analysis share the hash, so
 * that a collision costs a little sharpness and nothing else.
 */
import { Encoding, type Instruction, Prefix } from '../x86/instruction.ts'

/**
 * Slots come in blocks: forms of the one-byte map (and rarities), of the 0F map, of the larger maps with VEX
 * and EVEX. `unseen` is what a form is worth that neither code nor data of the training showed, in
 * sixteenths: compilers use few of the one-byte forms, and data is read as any of them; all forms of the
 * larger maps together are a thousand times as frequent in code as in data.
 */
export interface Block {
  readonly start: number
  readonly bits: number
  readonly unseen: number
  /** Added to the frequencies in training: a form of MMX is rare in most programs, and all there is in some. */
  readonly floor: number
}
export const BLOCKS: readonly Block[] = [
  { start: 0, bits: 15, unseen: -16, floor: 2e-6 },
  { start: 1 << 15, bits: 14, unseen: -2, floor: 3e-5 },
  { start: (1 << 15) + (1 << 14), bits: 13, unseen: 40, floor: 2e-6 },
]
export const SLOTS: number = (1 << 15) + (1 << 14) + (1 << 13)

/** Legacy opcodes whose ModRM.reg selects the operation: bit per opcode of map 0 and of map 1. */
const GROUPS = new Uint8Array(512)
for (const opcode of [
  0x80, 0x81, 0x83, 0x8f, 0xc0, 0xc1, 0xc6, 0xc7, 0xd0, 0xd1, 0xd2, 0xd3, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd,
  0xde, 0xdf, 0xf6, 0xf7, 0xfe, 0xff,
])
  GROUPS[opcode] = 1
for (const opcode of [0x00, 0x01, 0x0d, 0x18, 0x71, 0x72, 0x73, 0xae, 0xba, 0xc7]) GROUPS[256 + opcode] = 1

const RARE = Prefix.lock | Prefix.fs | Prefix.gs | Prefix.p67

/** Maps that an encoding can have. */
const MAPS = 11

/**
 * The block of the forms of an encoding and a map. Prefixed maps take so many fixed bits to encode that data
 * hardly ever has them.
 */
function blockOf(space: number): Block {
  const encoding = Math.floor(space / MAPS)
  if (encoding === Encoding.legacy) return BLOCKS[Math.min(space % MAPS, 2)]
  return BLOCKS[encoding === Encoding.vex || encoding === Encoding.evex ? 2 : 0]
}
const SPACES: readonly number[] = Array.from(
  { length: Object.keys(Encoding).length * MAPS },
  (_, space) => space,
)
const START = Uint16Array.from(SPACES, (space) => blockOf(space).start)
/** What of a hash is not used. */
const SHIFT = Uint8Array.from(SPACES, (space) => 32 - blockOf(space).bits)

/** The slot of an instruction's form: opcode, map, the prefixes that change it, the shape of ModRM, the group. */
export const opcodeSlot = (instruction: Instruction): number =>
  slotOf(
    instruction.encoding * MAPS + instruction.map,
    instruction.opcode,
    instruction.prefixes,
    instruction.modrmOffset === 0 ? NO_MODRM : instruction.modrm,
  )

/** In place of a ModRM byte. */
export const NO_MODRM = -1

/** The same of its parts; of a legacy encoding `space` is the map. */
export function slotOf(space: number, opcode: number, prefixes: number, modrm: number): number {
  let shape = 0
  let group = 0
  if (modrm !== NO_MODRM) {
    const mod = modrm >> 6
    const rm = modrm & 7
    shape = mod === 3 ? 1 : 2 + 3 * mod + (rm === 4 ? 1 : rm === 5 && mod === 0 ? 2 : 0)
    if (space < 2 && GROUPS[(space << 8) | opcode] !== 0) group = 1 + ((modrm >> 3) & 7)
  }
  const wide = ((prefixes & Prefix.w) !== 0 ? 2 : 0) | ((prefixes & RARE) !== 0 ? 1 : 0)
  const key = (((space * 256 + opcode) * 8 + (prefixes & 7)) * 4 + wide) * 128 + shape * 9 + group
  const hash = Math.imul(key, 0x9e37_79b1)
  return START[space] + (hash >>> SHIFT[space])
}
