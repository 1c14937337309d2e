/**
 * What an indirect jump jumps by: the table that its operand was loaded from, as the instructions before it say.
 *
 *     jmp [r*8+table]        mov r,[r*8+table]; jmp r        mov e,[r*4+table]; jmp r             addresses
 *     lea t,[rip+table]; movsxd r,[t+r*4]; add r,t; jmp r    mov e,[t+r*4+disp]; add r,t; jmp r   distances from t, of 1 to 8 bytes
 *     lea t,[rip+table]; add t,[t+r*8]; jmp t
 *     movzx e,byte [t+r+disp]; jmp [r*8+table] ...                                                two levels: numbers of entries first
 */
import { lowestBit } from '../core/bits.ts'
import { viewOf } from '../core/bytes.ts'
import {
  baseRegister,
  fillEffects,
  indexRegister,
  RegisterEffects,
  writtenRegisters,
} from '../x86/effects.ts'
import { Encoding, Flow, Instruction, type InstructionDecoder, Memory, Prefix } from '../x86/instruction.ts'
import type { StartBits } from '../x86/start-bits.ts'
import type { Window } from './window.ts'

/** Bytes before a jump in which its bound and its load are looked for, and those in which the table's address is. */
const NEAR = 96
const FAR = 4096
/** The most entries that a bound is believed. */
const MOST = 4096

export type EntryWidth = 1 | 2 | 4 | 8

/** Distances are from the blob's base. */
export interface Dispatch {
  /** Offset of the jump. */
  readonly at: number
  readonly table: number
  readonly width: EntryWidth
  /** Whether entries of 1 or 2 bytes are sign-extended. */
  readonly signed: boolean
  /** What the entries are distances from; undefined: they are addresses. */
  readonly anchor: number | undefined
  /** Number of entries, where a comparison says it. */
  readonly count: number | undefined
  /** The table of entry numbers that the jump looks into first. */
  readonly index: IndexTable | undefined
}

export interface IndexTable {
  readonly start: number
  readonly end: number
  readonly width: 1 | 2
}

/**
 * What a register holds: a place in or beside the blob, an index below `count`, or an entry of a table, with
 * the place that was added to it.
 */
type Held =
  | { readonly kind: 'label'; readonly place: number }
  | { readonly kind: 'index'; readonly count: number; readonly index?: IndexTable }
  | (Omit<Dispatch, 'at'> & { readonly kind: 'entry' })

/** Which register an instruction gives what; -1: none. */
interface Assignment {
  readonly register: number
  readonly held: Held | undefined
}
const NOTHING: Assignment = { register: -1, held: undefined }

const [AND, CMP] = [4, 7]
const LEA = 0x8d

export class DispatchReader {
  readonly #code: Uint8Array
  readonly #view: DataView
  readonly #decoder: InstructionDecoder
  readonly #bits: StartBits
  readonly #window: Window
  readonly #instruction = new Instruction()
  readonly #effects = new RegisterEffects()
  readonly #held: (Held | undefined)[] = []
  /** The last comparison with a constant: the register, and the constant. */
  #comparedRegister = 0
  #compared = -1

  /** @param bits where instructions start */
  constructor(code: Uint8Array, decoder: InstructionDecoder, bits: StartBits, window: Window) {
    this.#code = code
    this.#view = viewOf(code)
    this.#decoder = decoder
    this.#bits = bits
    this.#window = window
  }

  /** The table of the indirect jump at `at`, undefined where it has none that is understood. */
  read(at: number): Dispatch | undefined {
    if (!this.#mayDispatch(at)) return undefined
    this.#forget()
    for (let offset = Math.max(0, at - NEAR); offset < at; ) {
      if (this.#bits.has(offset)) {
        offset += this.#decoder.decode(offset, this.#instruction)
        this.#step(at)
      } else {
        // Data lies between; or the start is in the middle of an instruction.
        this.#forget()
        offset++
      }
    }
    if (this.#decoder.decode(at, this.#instruction) === 0) return undefined
    const { opcode, modrm, prefixes } = this.#instruction
    if (opcode !== 0xff) return undefined
    const entry =
      modrm >= 0xc0 ? this.#held[(modrm & 7) | ((prefixes & Prefix.rexB) >> 5)] : this.#entry(8, at)
    if (entry?.kind !== 'entry' || (entry.width < 4 && entry.anchor === undefined)) return undefined
    return { ...entry, at }
  }

  /**
   * Whether the jump may go by a table: not if what writes its register last, in the line of instructions
   * before it, loads no entry. Most jumps of compiled code are calls at a function's end: for them a look at
   * an instruction or two takes the place of the walk.
   */
  #mayDispatch(at: number): boolean {
    const instruction = this.#instruction
    this.#decoder.decode(at, instruction)
    const { modrm } = instruction
    if (modrm < 0xc0) return indexRegister(instruction) >= 0
    const register = (modrm & 7) | ((instruction.prefixes & Prefix.rexB) >> 5)
    for (let end = at; ; ) {
      const start = this.#bits.lastUpTo(end - 1)
      if (start < Math.max(0, at - NEAR)) return false
      // Data, or an instruction in another: the walk sees to it.
      if (start + this.#decoder.decode(start, instruction) !== end) return true
      if (((writtenRegisters(instruction) >> register) & 1) !== 0) return mayGiveEntry(instruction)
      end = start
    }
  }

  #forget(): void {
    this.#held.fill(undefined)
    this.#held.length = 16
    this.#compared = -1
  }

  #step(jump: number): void {
    const instruction = this.#instruction
    const { opcode, modrm, prefixes, map } = instruction
    if (instruction.flow === Flow.conditional && opcode >> 4 === (map === 0 ? 7 : 8))
      this.#branch(opcode & 15)
    const reg = ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7)
    const rm = (modrm & 7) | ((prefixes & Prefix.rexB) >> 5)
    const isLegacy = instruction.encoding === Encoding.legacy
    const { register, held } =
      isLegacy && map === 0
        ? this.#general(opcode, reg, rm, jump)
        : isLegacy && map === 1 && (opcode & 0xf6) === 0xb6
          ? { register: reg, held: this.#widened(opcode, rm, jump) }
          : NOTHING
    fillEffects(instruction, this.#effects)
    for (let writes = this.#effects.writes; writes !== 0; writes &= writes - 1)
      this.#held[lowestBit(writes)] = undefined
    if (register >= 0) this.#held[register] = held
  }

  /** What movzx and movsx load: an entry of 1 or 2 bytes; of a register they keep the bound. */
  #widened(opcode: number, rm: number, jump: number): Held | undefined {
    if (this.#instruction.modrm >= 0xc0) return this.#held[rm]
    return this.#entry((opcode & 1) === 0 ? 1 : 2, jump, (opcode & 8) !== 0)
  }

  /** Which register gets what. */
  #general(opcode: number, reg: number, rm: number, jump: number): Assignment {
    const instruction = this.#instruction
    const { modrm, offset } = instruction
    const wide = (instruction.prefixes & Prefix.w) !== 0
    const isRegister = modrm >= 0xc0 && instruction.modrmOffset !== 0
    if (opcode === LEA && wide) return { register: reg, held: this.#labelOf() ?? this.#added(jump) }
    if (opcode >= 0xb8 && opcode <= 0xbf)
      return { register: (opcode & 7) | ((instruction.prefixes & Prefix.rexB) >> 5), held: this.#labelOf() }
    if (opcode === 0x63 && wide)
      return { register: reg, held: isRegister ? this.#held[rm] : this.#entry(4, jump) }
    if (opcode === 0x8b)
      return { register: reg, held: isRegister ? this.#held[rm] : this.#entry(wide ? 8 : 4, jump) }
    if (opcode === 0x89 && isRegister) return { register: rm, held: this.#held[reg] }
    if (opcode === 0x01 && isRegister && wide) return { register: rm, held: this.#sum(rm, reg, jump) }
    if (opcode === 0x03 && wide)
      return {
        register: reg,
        held: isRegister ? this.#sum(reg, rm, jump) : this.#relative(this.#entry(8, jump), reg, jump),
      }
    const isGroup = opcode === 0x80 || opcode === 0x81 || opcode === 0x83
    const operation = isGroup ? (modrm >> 3) & 7 : opcode < 0x40 && (opcode & 6) === 4 ? opcode >> 3 : -1
    if ((operation !== CMP && operation !== AND) || (isGroup && !isRegister)) return NOTHING
    const register = isGroup ? rm : 0
    const at = offset + instruction.immediateOffset
    const size = instruction.immediateSize
    const value = size === 4 ? this.#view.getInt32(at, true) : size === 1 ? this.#view.getInt8(at) : -1
    if (operation === AND)
      return value > 0 && (value & (value + 1)) === 0
        ? { register, held: { kind: 'index', count: value + 1 } }
        : NOTHING
    this.#comparedRegister = register
    this.#compared = value
    return NOTHING
  }

  /** ja, jbe: the last index is what was compared; jae, jb: the one before. */
  #branch(condition: number): void {
    const extra = condition === 7 || condition === 6 ? 1 : condition === 3 || condition === 2 ? 0 : undefined
    if (extra === undefined) return
    const count = this.#compared + extra
    if (count > 0 && count <= MOST) this.#held[this.#comparedRegister] = { kind: 'index', count }
  }

  /** The place that lea or mov loads. */
  #labelOf(): Held | undefined {
    const { memory, offset, length, displacementOffset, immediateOffset, immediateSize } = this.#instruction
    if (memory === Memory.rip)
      return {
        kind: 'label',
        place: offset + length + this.#view.getInt32(offset + displacementOffset, true),
      }
    if (immediateSize < 4) return undefined
    const low = this.#view.getUint32(offset + immediateOffset, true)
    const high = immediateSize === 8 ? this.#view.getUint32(offset + immediateOffset + 4, true) : 0
    return this.#window.has(low, high)
      ? { kind: 'label', place: this.#window.distance(low, high) }
      : undefined
  }

  /** The table that the memory operand of `width` bytes reads with a scaled index. */
  #entry(width: EntryWidth, jump: number, signed = true): Held | undefined {
    const instruction = this.#instruction
    const { memory, sib, offset, displacementSize: size } = instruction
    const at = offset + instruction.displacementOffset
    const displacement = size === 0 ? 0 : size === 1 ? this.#view.getInt8(at) : this.#view.getInt32(at, true)
    const base = baseRegister(instruction)
    const index = indexRegister(instruction)
    const makeEntry = (table: number | undefined, register: number): Held | undefined => {
      if (table === undefined) return undefined
      const held = this.#held[register]
      const bound = held?.kind === 'entry' ? this.#numbers(held) : held
      const { count, index } = bound?.kind === 'index' ? bound : { count: undefined }
      return { kind: 'entry', table, width, signed, anchor: undefined, count, index }
    }
    if (base >= 0 && index >= 0) {
      if (1 << (sib >> 6) !== width) return undefined
      const place = this.#placeIn(base, jump)
      if (place !== undefined || width > 1)
        return makeEntry(place === undefined ? place : place + displacement, index)
      const other = this.#placeIn(index, jump)
      return makeEntry(other === undefined ? other : other + displacement, base)
    }
    // Without a place in a register the displacement is the address of the table.
    const low = displacement >>> 0
    const high = displacement < 0 ? 0xffff_ffff : 0
    if (memory !== Memory.index && width > 1) return undefined
    if (memory === Memory.index ? 1 << (sib >> 6) !== width : base < 0 || size < 4) return undefined
    return this.#window.has(low, high)
      ? makeEntry(this.#window.distance(low, high), Math.max(base, index))
      : undefined
  }

  /** The entries of a table as numbers of entries of another: how many there are to choose from. */
  #numbers({ table, width, anchor, count, index }: Held & { readonly kind: 'entry' }): Held | undefined {
    if (width > 2 || anchor !== undefined || count === undefined || index !== undefined) return undefined
    const end = table + count * width
    if (table < 0 || end > this.#view.byteLength) return undefined
    let highest = 0
    for (let at = table; at < end; at += width)
      highest = Math.max(highest, width === 1 ? this.#view.getUint8(at) : this.#view.getUint16(at, true))
    return { kind: 'index', count: highest + 1, index: { start: table, end, width: width === 1 ? 1 : 2 } }
  }

  /** lea of two registers: their sum. */
  #added(jump: number): Held | undefined {
    const { memory, sib, displacementSize } = this.#instruction
    const index = indexRegister(this.#instruction)
    if (memory !== Memory.base || index < 0 || sib >> 6 !== 0 || displacementSize !== 0) return undefined
    return this.#sum(baseRegister(this.#instruction), index, jump)
  }

  /** An entry and the place that it is relative to. */
  #sum(a: number, b: number, jump: number): Held | undefined {
    const held = this.#held[a]
    return held?.kind === 'entry' ? this.#relative(held, b, jump) : this.#relative(this.#held[b], a, jump)
  }

  #relative(entry: Held | undefined, register: number, jump: number): Held | undefined {
    if (entry?.kind !== 'entry') return undefined
    const anchor = this.#placeIn(register, jump)
    return anchor === undefined ? undefined : { ...entry, anchor }
  }

  /** The place in a register: as seen on the way, or loaded long before by the last lea into it. */
  #placeIn(register: number, jump: number): number | undefined {
    const held = this.#held[register]
    if (held !== undefined) return held.kind === 'label' ? held.place : undefined
    // With REX before it: 7 bytes, the opcode the second, the operand's displacement the last four.
    const code = this.#code
    for (let offset = jump; ; ) {
      offset = code.lastIndexOf(LEA, offset) - 1
      if (offset < Math.max(0, jump - FAR)) return undefined
      if (!this.#bits.has(offset) || (code[offset] & 0xf0) !== 0x40 || (code[offset + 2] & 0xc7) !== 5)
        continue
      const target = ((code[offset + 2] >> 3) & 7) | ((code[offset] & 4) << 1)
      if (target === register) return offset + 7 + this.#view.getInt32(offset + 3, true)
    }
  }
}

/**
 * The opcodes of the one-byte map that give a register an entry, if from a register or by an index: add,
 * movsxd, mov, lea.
 */
const GIVING: readonly number[] = [0x01, 0x03, 0x63, 0x89, 0x8b, LEA]

/** Whether what an instruction gives a register may be an entry. */
function mayGiveEntry(instruction: Instruction): boolean {
  const { encoding, map, opcode, modrm } = instruction
  if (encoding !== Encoding.legacy) return false
  if (map === 1) return (opcode & 0xf6) === 0xb6
  return map === 0 && GIVING.includes(opcode) && (modrm >= 0xc0 || indexRegister(instruction) >= 0)
}
