/**
 * What an indirect jump jumps by: the table that its operand was loaded from, as the instructions before it say.
 *
 *     jmp [r*8+table]        mov r,[r*8+table]; jmp r        mov e,[r*4+table]; jmp r             addresses
 *     lea t,[rip+table]; movsxd r,[t+r*4]; add r,t; jmp r    mov e,[t+r*4+disp]; add r,t; jmp r   distances from t
 */
import { viewOf } from '../core/bytes.ts'
import { baseRegister, fillEffects, indexRegister, RegisterEffects } from '../x86/effects.ts'
import { Encoding, Flow, Instruction, type InstructionDecoder, Memory, Prefix } from '../x86/instruction.ts'
import type { StartBits } from './start-bits.ts'
import type { Window } from './window.ts'

/** Bytes before a jump in which its bound and its load are looked for, and those in which the table's address is. */
const NEAR = 96
const FAR = 4096
/** The most entries that a bound is believed. */
const MOST = 4096

/** Distances are from the blob's base. */
export interface Dispatch {
  /** Offset of the jump. */
  readonly at: number
  readonly table: number
  readonly width: 4 | 8
  /** What the entries are distances from; undefined: they are addresses. */
  readonly anchor: number | undefined
  /** Number of entries, where a comparison says it. */
  readonly count: number | undefined
}

/** What a register holds: a place in or beside the blob, an index below `count`, or an entry of a table, with the place that was added to it. */
type Held =
  | { readonly kind: 'label'; readonly place: number }
  | { readonly kind: 'index'; readonly count: number }
  | (Omit<Dispatch, 'at'> & { readonly kind: 'entry' })

const [AND, CMP] = [4, 7]

export class DispatchReader {
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
    this.#view = viewOf(code)
    this.#decoder = decoder
    this.#bits = bits
    this.#window = window
  }

  /** The table of the indirect jump at `at`, undefined where it has none that is understood. */
  read(at: number): Dispatch | undefined {
    let start = Math.max(0, at - NEAR)
    while (start < at && !this.#bits.has(start)) start++
    this.#held.fill(undefined)
    this.#held.length = 16
    this.#compared = -1
    for (let offset = start; offset < at; offset += this.#instruction.length) {
      if (this.#decoder.decode(offset, this.#instruction) === 0) return undefined
      this.#step(at)
    }
    if (this.#decoder.decode(at, this.#instruction) === 0) return undefined
    const { opcode, modrm, prefixes } = this.#instruction
    if (opcode !== 0xff) return undefined
    const entry =
      modrm >= 0xc0 ? this.#held[(modrm & 7) | ((prefixes & Prefix.rexB) >> 5)] : this.#entry(8, at)
    return entry?.kind === 'entry' ? { ...entry, at } : undefined
  }

  #step(jump: number): void {
    const instruction = this.#instruction
    const { opcode, modrm, prefixes, map } = instruction
    if (instruction.flow === Flow.conditional && opcode >> 4 === (map === 0 ? 7 : 8))
      this.#branch(opcode & 15)
    const reg = ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7)
    const rm = (modrm & 7) | ((prefixes & Prefix.rexB) >> 5)
    const isGeneral = instruction.encoding === Encoding.legacy && map === 0
    // movzx keeps the bound of what it widens.
    const isWidening = map === 1 && (opcode === 0xb6 || opcode === 0xb7) && modrm >= 0xc0
    const [register, held] = isGeneral
      ? this.#general(opcode, reg, rm, jump)
      : [isWidening ? reg : -1, isWidening ? this.#held[rm] : undefined]
    fillEffects(instruction, this.#effects)
    for (let i = 0; i < 16; i++) if ((this.#effects.writes & (1 << i)) !== 0) this.#held[i] = undefined
    if (register >= 0) this.#held[register] = held
  }

  /** Which register gets what. */
  #general(opcode: number, reg: number, rm: number, jump: number): [number, Held | undefined] {
    const instruction = this.#instruction
    const { modrm, offset } = instruction
    const wide = (instruction.prefixes & Prefix.w) !== 0
    const isRegister = modrm >= 0xc0 && instruction.modrmOffset !== 0
    if (opcode === 0x8d && wide) return [reg, this.#labelOf()]
    if (opcode >= 0xb8 && opcode <= 0xbf)
      return [(opcode & 7) | ((instruction.prefixes & Prefix.rexB) >> 5), this.#labelOf()]
    if (opcode === 0x63 && wide) return [reg, isRegister ? this.#held[rm] : this.#entry(4, jump)]
    if (opcode === 0x8b) return [reg, isRegister ? this.#held[rm] : this.#entry(wide ? 8 : 4, jump)]
    if (opcode === 0x89 && isRegister) return [rm, this.#held[reg]]
    if (opcode === 0x01 && isRegister && wide) return [rm, this.#sum(rm, reg, jump)]
    if (opcode === 0x03 && isRegister && wide) return [reg, this.#sum(reg, rm, jump)]
    const isGroup = opcode === 0x80 || opcode === 0x81 || opcode === 0x83
    const operation = isGroup ? (modrm >> 3) & 7 : opcode < 0x40 && (opcode & 6) === 4 ? opcode >> 3 : -1
    if ((operation !== CMP && operation !== AND) || (isGroup && !isRegister)) return [-1, undefined]
    const register = isGroup ? rm : 0
    const at = offset + instruction.immediateOffset
    const size = instruction.immediateSize
    const value = size === 4 ? this.#view.getInt32(at, true) : size === 1 ? this.#view.getInt8(at) : -1
    if (operation === AND)
      return value > 0 && (value & (value + 1)) === 0
        ? [register, { kind: 'index', count: value + 1 }]
        : [-1, undefined]
    this.#comparedRegister = register
    this.#compared = value
    return [-1, undefined]
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
  #entry(width: 4 | 8, jump: number): Held | undefined {
    const instruction = this.#instruction
    const { memory, sib, offset, displacementSize: size } = instruction
    const index = indexRegister(instruction)
    if (index < 0 || 1 << (sib >> 6) !== width) return undefined
    const bound = this.#held[index]
    const entry = {
      kind: 'entry',
      width,
      anchor: undefined,
      count: bound?.kind === 'index' ? bound.count : undefined,
    } as const
    const at = offset + instruction.displacementOffset
    const displacement = size === 0 ? 0 : size === 1 ? this.#view.getInt8(at) : this.#view.getInt32(at, true)
    if (memory === Memory.index) {
      const low = displacement >>> 0
      const high = displacement < 0 ? 0xffff_ffff : 0
      if (!this.#window.has(low, high)) return undefined
      return { ...entry, table: this.#window.distance(low, high) }
    }
    const place = this.#placeIn(baseRegister(instruction), jump)
    return place === undefined ? undefined : { ...entry, table: place + displacement }
  }

  /** A 4-byte entry and the place that it is relative to. */
  #sum(a: number, b: number, jump: number): Held | undefined {
    const [x, y] = [this.#held[a], this.#held[b]]
    const [entry, other] = x?.kind === 'entry' ? [x, b] : [y, a]
    if (entry?.kind !== 'entry' || entry.width !== 4) return undefined
    const anchor = this.#placeIn(other, jump)
    return anchor === undefined ? undefined : { ...entry, anchor }
  }

  /** The place in a register: as seen on the way, or loaded long before by the last lea into it. */
  #placeIn(register: number, jump: number): number | undefined {
    const held = this.#held[register]
    if (held !== undefined) return held.kind === 'label' ? held.place : undefined
    const instruction = new Instruction()
    for (let offset = jump - 1; offset >= Math.max(0, jump - FAR); offset--) {
      if (!this.#bits.has(offset) || this.#view.getUint8(offset + 1) !== 0x8d) continue
      this.#decoder.decode(offset, instruction)
      const target = ((instruction.modrm >> 3) & 7) | ((instruction.prefixes & Prefix.rexR) >> 7)
      if (target === register && instruction.memory === Memory.rip)
        return (
          offset + instruction.length + this.#view.getInt32(offset + instruction.displacementOffset, true)
        )
    }
    return undefined
  }
}
