/**
 * What becomes of a register behind an instruction: whether it is dead there, and whether it is used at 32
 * bits. Both follow the code that execution goes on with, a few instructions far, and what they cannot see is
 * taken for the worse (dead) or the better (32 bits, which only warns).
 *
 * A register is dead where every way on writes all of it before anything reads it. Calls, returns and
 * indirect jumps end that: what lies behind them is convention, which hand-written code need not keep.
 */
import { readSigned, viewOf } from '../core/bytes.ts'
import { baseRegister, fillEffects, indexRegister, RegisterEffects } from './effects.ts'
import { Encoding, Flow, Instruction, type InstructionDecoder, Memory, Prefix } from './instruction.ts'
import { createTableDecoder } from './scanner.ts'

/** Instructions looked at, and conditional branches followed both ways, behind one. */
const FAR_ENOUGH = 12
const FORKS = 3

const effects = new RegisterEffects()

/** Looks ahead in one blob. */
export class Liveness {
  readonly #view: DataView
  readonly #decoder: InstructionDecoder
  readonly #instruction = new Instruction()

  constructor(code: Uint8Array) {
    this.#view = viewOf(code)
    this.#decoder = createTableDecoder(code)
  }

  /**
   * Mask of the registers that `instruction` does not read and whose old values nothing will: it or what
   * follows overwrites them.
   */
  deadAt(instruction: Instruction): number {
    fillEffects(instruction, effects)
    const { reads, writes } = effects
    const own = overwritten(instruction, reads, writes)
    if (instruction.flow !== Flow.next) return 0
    const others = 0xffff & ~(reads | writes)
    return own | this.#deadFrom(instruction.offset + instruction.length, others, FORKS)
  }

  #deadFrom(start: number, candidates: number, forks: number): number {
    const next = this.#instruction
    let [at, open, dead] = [start, candidates, 0]
    for (let i = 0; i < FAR_ENOUGH && open !== 0; i++) {
      if (this.#decoder.decode(at, next) === 0) return dead
      fillEffects(next, effects)
      const { reads, writes } = effects
      const killed = overwritten(next, reads, writes)
      open &= ~reads | killed
      dead |= open & killed
      open &= ~killed
      at += next.length
      if (next.flow === Flow.next) continue
      if (next.flow !== Flow.jump && next.flow !== Flow.conditional) return dead
      const target = at + readSigned(this.#view, next.offset + next.branchOffset, next.branchSize)
      if (target < 0 || target >= this.#view.byteLength || forks === 0) return dead
      if (next.flow === Flow.conditional) {
        const ahead = this.#deadFrom(at, open, forks - 1)
        return dead | (ahead === 0 ? 0 : this.#deadFrom(target, ahead, forks - 1))
      }
      at = target
    }
    return dead
  }

  /**
   * Offset of an instruction behind the one at `start` that uses 32 bits (or fewer) of `register` before it
   * is written; -1: none is seen.
   */
  narrowUse(start: number, register: number): number {
    const next = this.#instruction
    const bit = 1 << register
    for (let at = start, i = 0; i < FAR_ENOUGH; i++, at += next.length) {
      if (this.#decoder.decode(at, next) === 0) return -1
      fillEffects(next, effects)
      const { reads, writes } = effects
      if ((overwritten(next, reads, writes) & bit) !== 0) return -1
      if ((reads & bit) !== 0 && usesNarrow(next, register)) return at
      if ((writes & bit) !== 0 || (next.flow !== Flow.next && next.flow !== Flow.conditional)) return -1
    }
    return -1
  }
}

/**
 * 1 by map << 8 | opcode of those that write all of their destination, whatever it held: mov, lea, movzx,
 * movsx, imul by an immediate, pop.
 */
const OVERWRITES = new Uint8Array(0x200)
for (const opcode of [0x63, 0x69, 0x6b, 0x89, 0x8b, 0x8d, 0xc7, 0x1b6, 0x1b7, 0x1be, 0x1bf])
  OVERWRITES[opcode] = 1
OVERWRITES.fill(1, 0xb8, 0xc0).fill(1, 0x58, 0x60)
/** `xor r, r` and `sub r, r`. */
const CLEARS: readonly number[] = [0x29, 0x2b, 0x31, 0x33]

/** Mask of the registers that an instruction writes whole, without regard to what they held. */
function overwritten(instruction: Instruction, reads: number, writes: number): number {
  const { encoding, map, opcode, prefixes, modrm, flow } = instruction
  // xbegin, the one of these opcodes that is a branch, writes eax on one of its two ways alone.
  if (encoding !== Encoding.legacy || map > 1 || flow !== Flow.next) return 0
  if ((prefixes & (Prefix.p66 | Prefix.w)) === Prefix.p66) return 0
  if (OVERWRITES[(map << 8) | opcode] === 1) return writes & ~reads
  const isSame =
    modrm >= 0xc0 &&
    ((modrm >> 3) & 7) === (modrm & 7) &&
    ((prefixes & Prefix.rexR) === 0) === ((prefixes & Prefix.rexB) === 0)
  return map === 0 && isSame && CLEARS.includes(opcode) ? writes : 0
}

/**
 * Whether an instruction that reads `register` reads it as an operand of at most 32 bits: not, or not only,
 * as a part of an address.
 */
function usesNarrow(instruction: Instruction, register: number): boolean {
  const { encoding, map, opcode, prefixes, flow, memory } = instruction
  const isAddress = baseRegister(instruction) === register || indexRegister(instruction) === register
  if (isAddress && memory !== Memory.none) {
    if ((prefixes & Prefix.p67) !== 0) return true
    instruction.memory = Memory.absolute
    fillEffects(instruction, effects)
    instruction.memory = memory
    if (((effects.reads >> register) & 1) === 0) return false
  }
  if (encoding !== Encoding.legacy || (prefixes & Prefix.w) !== 0 || flow !== Flow.next) return false
  // Pushes have 64 bits without REX.W.
  return !(map === 0 && ((opcode >= 0x50 && opcode < 0x58) || opcode === 0xff))
}
