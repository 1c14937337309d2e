/**
 * Which general registers and flags an instruction reads and writes, from generated tables. A bit in a mask
 * is a register by its number, rax 0 to r15 15; writing a part of it (al, ax) counts as writing it. What is
 * read or written under some condition counts too, so `xor eax, eax` reads eax. The convention of a call
 * (which registers it preserves) is not the instruction's: only rsp counts.
 */
import { EFFECTS, PAGES, PAGES_BY_NUMBER, ROWS } from './generated/effects.ts'
import { Encoding, type Instruction, Memory, Prefix } from './instruction.ts'
import { evexPage, legacyPage, ROW_KEYS, rowKey, vexPage, xopPage } from './layout.ts'
import { CellPages, expandRuns, runLength } from './runs.ts'

/** Fields of an effect's first word; its second is the masks of registers used implicitly, read | written << 16. */
export const Effect = {
  /** For each place of an operand 3 bits: read, written, a byte register. */
  regShift: 0,
  rmShift: 3,
  opcodeShift: 6,
  vvvvShift: 9,
  /** The address of the memory operand is not used (nop). */
  noAddress: 0x1000,
  readsFlags: 0x2000,
  writesFlags: 0x4000,
  /** The index of the memory operand is a vector register. */
  vsib: 0x8000,
} as const

/** Filled by {@link fillEffects}. */
export class RegisterEffects {
  /** Masks of 16 registers. */
  reads = 0
  writes = 0
  readsFlags = false
  writesFlags = false
}

const pages = new CellPages(PAGES, PAGES_BY_NUMBER)
const rows = expandRuns(ROWS, new Uint16Array(runLength(ROWS)), 1)
const effects = new Int32Array(EFFECTS)

const PP = Uint8Array.of(0, 1, 2, 0, 3)

function pageOf(instruction: Instruction): number {
  const { encoding, map, prefixes } = instruction
  const w = (prefixes & Prefix.w) === 0 ? 0 : 1
  const pp = prefixes & 7
  if (encoding === Encoding.vex) return vexPage(map, PP[pp])
  if (encoding === Encoding.evex) return evexPage(map, PP[pp], w)
  return encoding === Encoding.xop ? xopPage(map, PP[pp]) : legacyPage(map, w, pp)
}

/** What `instruction`, decoded by any decoder, does to general registers and flags. */
export function fillEffects(instruction: Instruction, out: RegisterEffects): void {
  const { modrm, prefixes } = instruction
  const opcode = instruction.encoding === Encoding.d3now ? 0x0f : instruction.opcode
  if (opcode === 0x90 && isNop(instruction)) {
    out.reads = out.writes = 0
    out.readsFlags = out.writesFlags = false
    return
  }
  const page = pageOf(instruction)
  pages.open(page)
  const effect = rows[pages.cells[(page << 8) | opcode] * ROW_KEYS + rowKey(modrm)]
  const operands = effects[effect]
  const implicit = effects[effect + 1]
  const rex = (prefixes & Prefix.rex) !== 0
  const b = (prefixes & Prefix.rexB) >> 5
  const reg = ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7)
  const uses =
    use(operands >> Effect.regShift, reg, rex) |
    use(operands >> Effect.rmShift, (modrm & 7) | b, rex) |
    use(operands >> Effect.opcodeShift, (opcode & 7) | b, rex) |
    use(operands >> Effect.vvvvShift, instruction.vvvv, rex) |
    implicit
  let reads = uses & 0xffff
  if (instruction.modrmOffset !== 0 && (operands & Effect.noAddress) === 0) {
    const base = baseRegister(instruction)
    const index = (operands & Effect.vsib) === 0 ? indexRegister(instruction) : -1
    if (base >= 0) reads |= 1 << base
    if (index >= 0) reads |= 1 << index
  }
  out.reads = reads
  out.writes = uses >>> 16
  out.readsFlags = (operands & Effect.readsFlags) !== 0
  out.writesFlags = (operands & Effect.writesFlags) !== 0
}

const scratch = new RegisterEffects()

/** The mask of the general registers that `instruction` writes. */
export function writtenRegisters(instruction: Instruction): number {
  fillEffects(instruction, scratch)
  return scratch.writes
}

/**
 * The masks, read | written << 16, of an operand with 3 bits of access. Without REX, byte registers 4 to 7
 * are ah to bh.
 */
function use(access: number, register: number, rex: boolean): number {
  const bit = 1 << ((access & 4) !== 0 && !rex && register >= 4 ? register - 4 : register)
  return ((access & 1) === 0 ? 0 : bit) | ((access & 2) === 0 ? 0 : bit << 16)
}

/** nop and pause: their opcode is that of xchg with rax, and only an extended register makes it one. */
const isNop = ({ encoding, map, prefixes }: Instruction): boolean =>
  encoding === Encoding.legacy && map === 0 && (prefixes & Prefix.rexB) === 0

/** The number of the memory operand's base register, -1 without one. */
export function baseRegister(instruction: Instruction): number {
  if (instruction.memory !== Memory.base) return -1
  if (instruction.modrmOffset === 0) return 3
  const low = (instruction.modrm & 7) === 4 ? instruction.sib & 7 : instruction.modrm & 7
  return low | ((instruction.prefixes & Prefix.rexB) >> 5)
}

/** The number of the memory operand's index register (a general one, but for VSIB), -1 without one. */
export function indexRegister(instruction: Instruction): number {
  const { memory, modrm } = instruction
  if ((memory !== Memory.base && memory !== Memory.index) || (modrm & 7) !== 4) return -1
  const index = ((instruction.sib >> 3) & 7) | ((instruction.prefixes & Prefix.rexX) >> 6)
  return index === 4 ? -1 : index
}
