/**
 * Constants as instructions put them together: what each register, and each stored half of a pointer, is
 * known to hold, and the fields that it came from. Anything that is not understood is forgotten.
 */
import { lowestBit } from '../core/bits.ts'
import { readField } from '../core/bytes.ts'
import type { SplitPiece } from '../table/site.ts'
import { baseRegister, fillEffects, indexRegister, RegisterEffects } from '../x86/effects.ts'
import { Encoding, Flow, type Instruction, Memory, Prefix } from '../x86/instruction.ts'

/** What a call may change: rax, rcx, rdx, rsi, rdi, r8 to r11 (System V; Microsoft's are fewer). */
export const CALLER_SAVED = 0x0fc7

const RSP = 4
const [ADD, OR, SUB, XOR] = [0, 1, 5, 6]

/** A known 64-bit value. */
export interface Value {
  readonly value: bigint
  /** The fields that make it; beside them there are only constants that stay. */
  readonly pieces: readonly SplitPiece[]
  /** Offset of the first instruction that holds one of them. */
  readonly first: number
  /** The constants that went into it, as the operations took them. */
  readonly constants: readonly bigint[]
  /** Whether the fields are not the same on every path: others make the same value there. */
  readonly isForked: boolean
}

const ZERO: Value = { value: 0n, pieces: [], first: 0, constants: [], isForked: false }

/** What two paths agree on: the value; if its fields are not the same ones, it is forked. */
function agree(a: Value | undefined, b: Value | undefined): Value | undefined {
  if (a === undefined || b === undefined || a.value !== b.value) return undefined
  return nameOf(a) === nameOf(b) ? a : { ...a, first: Math.min(a.first, b.first), isForked: true }
}

/** The same for the same fields, joined in the same way. */
export const nameOf = ({ pieces }: Value): string =>
  pieces
    .map(({ offset, shift, operation }) => `${offset}.${shift}.${operation}`)
    .sort()
    .join()

/** A constant that stays: an addend or a key. */
const constantOf = (value: bigint, first: number): Value => ({
  value,
  pieces: [],
  first,
  constants: [value],
  isForked: false,
})

const wrap = (value: bigint): bigint => BigInt.asUintN(64, value)

/** The bit above the highest that a value's pieces hold. */
const topOf = (pieces: readonly SplitPiece[]): number =>
  pieces.reduce((top, { shift, width }) => Math.max(top, shift + 8 * width), 0)
const bottomOf = (pieces: readonly SplitPiece[]): number =>
  pieces.reduce((bottom, { shift }) => Math.min(bottom, shift), 64)

/** Whether both can be handed a part of a change: their bits are apart. */
const areApart = (a: Value, b: Value): boolean =>
  topOf(a.pieces) <= bottomOf(b.pieces) || topOf(b.pieces) <= bottomOf(a.pieces)

export class SliceState {
  readonly #view: DataView
  readonly #effects = new RegisterEffects()
  readonly #registers: (Value | undefined)[] = []
  /** How often each register was written: a store's place is its base register as it is then, and the displacement. */
  readonly #versions = new Uint32Array(16)
  readonly #halves = new Map<string, Value>()
  /** How far rsp is from where it was when last it was set to something unknown. */
  #depth = 0

  /** @param view of the code */
  constructor(view: DataView) {
    this.#view = view
    this.forget()
  }

  forget(): void {
    this.#registers.fill(undefined)
    this.#registers.length = 16
    this.#halves.clear()
  }

  /** The same state, to be kept for where a branch leads. */
  copy(): SliceState {
    const copy = new SliceState(this.#view)
    this.#registers.forEach((value, register) => {
      copy.#registers[register] = value
    })
    copy.#versions.set(this.#versions)
    for (const [name, half] of this.#halves) copy.#halves.set(name, half)
    copy.#depth = this.#depth
    return copy
  }

  /** Keeps what both ways to a place agree on: the same values of the same fields. */
  meet(other: SliceState): void {
    const isStack = this.#depth === other.#depth && this.#versions[RSP] === other.#versions[RSP]
    for (let register = 0; register < 16; register++) {
      const mine = this.#versions[register]
      const theirs = other.#versions[register]
      if (register === RSP ? !isStack : mine !== theirs) this.#versions[register] = Math.max(mine, theirs) + 1
      this.#registers[register] = agree(this.#registers[register], other.#registers[register])
    }
    for (const [name, half] of this.#halves) {
      const agreed = agree(half, other.#halves.get(name))
      if (agreed === undefined) this.#halves.delete(name)
      else this.#halves.set(name, agreed)
    }
  }

  /**
   * Takes what `instruction` does, and returns the value that it puts together out of more than one constant,
   * if it does.
   */
  step(instruction: Instruction): Value | undefined {
    const general = instruction.encoding === Encoding.legacy && instruction.map === 0
    const made = general ? this.#general(instruction) : undefined
    if (made !== undefined) return made.constants.length > 1 && made.pieces.length > 0 ? made : undefined
    fillEffects(instruction, this.#effects)
    let { writes } = this.#effects
    if (instruction.flow === Flow.call || instruction.flow === Flow.indirectCall) writes |= CALLER_SAVED
    if ((writes & (1 << RSP)) !== 0 && this.#moveStack(instruction)) writes &= ~(1 << RSP)
    for (; writes !== 0; writes &= writes - 1) this.#set(lowestBit(writes), undefined)
    return undefined
  }

  #set(register: number, value: Value | undefined): void {
    this.#registers[register] = value
    this.#versions[register]++
  }

  /** What an instruction of the one-byte map leaves in a register or in memory, if that is known. */
  #general(instruction: Instruction): Value | undefined {
    const { opcode, modrm, prefixes } = instruction
    const wide = (prefixes & Prefix.w) !== 0
    const isRegister = modrm >= 0xc0 && instruction.modrmOffset !== 0
    const rm = (modrm & 7) | ((prefixes & Prefix.rexB) >> 5)
    const reg = ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7)
    if ((prefixes & Prefix.p66) !== 0) return undefined
    if (opcode >= 0xb8 && opcode <= 0xbf)
      return this.#let((opcode & 7) | ((prefixes & Prefix.rexB) >> 5), this.#immediate(instruction))
    // C7 /7 is xbegin.
    if (opcode === 0xc7 && (modrm & 0x38) === 0)
      return isRegister ? this.#let(rm, this.#immediate(instruction)) : this.#store(instruction)
    if (opcode === 0x68) return this.#push(instruction)
    if (isRegister && (opcode === 0x31 || opcode === 0x33) && rm === reg) return this.#let(rm, ZERO)
    if (!wide) return undefined
    if (opcode === 0x8d) return this.#let(reg, this.#address(instruction))
    if (opcode === 0x05 || opcode === 0x0d || opcode === 0x2d || opcode === 0x35)
      return this.#let(0, this.#withConstant(opcode >> 3, this.#registers[0], instruction))
    if (!isRegister) return undefined
    if (opcode === 0x89) return this.#let(rm, this.#registers[reg])
    if (opcode === 0x8b) return this.#let(reg, this.#registers[rm])
    if (opcode === 0x81 || opcode === 0x83)
      return this.#let(rm, this.#withConstant((modrm >> 3) & 7, this.#registers[rm], instruction))
    if (opcode === 0xc1 && (modrm & 0x38) === 0x20) return this.#let(rm, this.#shifted(rm, instruction))
    if ((opcode & 0xc5) === 0x01 && opcode < 0x40) {
      const to = (opcode & 2) === 0 ? rm : reg
      const from = to === rm ? reg : rm
      return this.#let(to, join(opcode >> 3, this.#registers[to], this.#registers[from]))
    }
    return undefined
  }

  /** Gives a register a value; undefined where it is not known, so that the caller forgets. */
  #let(register: number, value: Value | undefined): Value | undefined {
    if (value !== undefined) this.#set(register, value)
    return value
  }

  #field(instruction: Instruction): bigint {
    const bits = readField(
      this.#view,
      instruction.offset + instruction.immediateOffset,
      instruction.immediateSize,
    )
    return instruction.immediateSize < instruction.immediateWidth
      ? wrap(BigInt.asIntN(8 * instruction.immediateSize, bits))
      : bits
  }

  /** The immediate operand as a value with one piece. */
  #immediate(instruction: Instruction): Value {
    const { offset, immediateOffset, immediateSize, immediateWidth } = instruction
    const value = this.#field(instruction)
    const width = immediateSize as 4 | 8
    const operation = immediateWidth > immediateSize ? 'add' : 'or'
    return {
      value,
      pieces: [{ offset: offset + immediateOffset, width, shift: 0, operation }],
      first: offset,
      constants: [value],
      isForked: false,
    }
  }

  /** A constant operand: a piece where the bits below are free, else an addend or a key. */
  #withConstant(operation: number, value: Value | undefined, instruction: Instruction): Value | undefined {
    if (value === undefined || value.constants.length === 0) return undefined
    if (instruction.immediateSize === 4 && bottomOf(value.pieces) >= 32 && operation === ADD)
      return join(ADD, value, this.#immediate(instruction))
    return join(operation, value, constantOf(this.#field(instruction), instruction.offset))
  }

  #shifted(register: number, instruction: Instruction): Value | undefined {
    const value = this.#registers[register]
    const count = Number(this.#field(instruction)) & 63
    if (value === undefined) return undefined
    const pieces = value.pieces.map((piece) => ({
      ...piece,
      shift: piece.shift + count,
    }))
    // A piece whose sign is shifted out is like any other; one that loses bits of its own cannot be handed
    // all of a change.
    if (pieces.some(({ shift, width }) => shift + 8 * width > 64)) return undefined
    const plain = pieces.map(
      (piece): SplitPiece =>
        piece.operation === 'add' && piece.shift + 8 * piece.width === 64
          ? { ...piece, operation: 'or' }
          : piece,
    )
    const constants = value.constants.map((constant) => wrap(constant << BigInt(count)))
    return {
      ...value,
      value: wrap(value.value << BigInt(count)),
      pieces: plain,
      constants,
    }
  }

  /** lea: a base, an index of scale 1, and a constant, as far as they are known. */
  #address(instruction: Instruction): Value | undefined {
    if (instruction.memory !== Memory.base) return undefined
    const base = this.#registers[baseRegister(instruction)]
    const index = indexRegister(instruction)
    if (index >= 0 && instruction.sib >> 6 !== 0) return undefined
    const sum = index < 0 ? base : join(ADD, base, this.#registers[index])
    const { displacementSize, displacementOffset, offset } = instruction
    if (sum === undefined || sum.constants.length === 0 || displacementSize === 0) return sum
    const bits = readField(this.#view, offset + displacementOffset, displacementSize)
    return join(ADD, sum, constantOf(wrap(BigInt.asIntN(8 * displacementSize, bits)), offset))
  }

  /** A 32-bit constant goes into memory: with its neighbour it may make a pointer. */
  #store(instruction: Instruction): Value | undefined {
    const place = this.#placeOf(instruction)
    if (place === undefined || instruction.immediateSize !== 4) return undefined
    const half = this.#immediate(instruction)
    return this.#keepHalf(place.name, place.displacement, half, instruction.immediateWidth === 8)
  }

  #push(instruction: Instruction): Value {
    this.#depth -= 8
    const half = this.#immediate(instruction)
    this.#keepHalf(this.#stackName(), this.#depth, half, true)
    return half
  }

  #stackName = (): string => `s${this.#versions[RSP]}`

  /**
   * Keeps what is stored and returns the pointer that it completes. The upper half of an extended store is no field.
   */
  #keepHalf(name: string, at: number, half: Value, extended: boolean): Value {
    this.#halves.set(`${name}:${at}`, half)
    if (extended) this.#halves.delete(`${name}:${at + 4}`)
    const above = this.#halves.get(`${name}:${at + 4}`)
    const below = this.#halves.get(`${name}:${at - 4}`)
    if (above !== undefined) return joinHalves(half, above)
    // A full store below was overwritten in its upper half by this one.
    return below === undefined || extended ? half : joinHalves(below, half)
  }

  /**
   * A name for the memory operand's place, the same as long as its registers keep what they hold; a
   * displacement from there.
   */
  #placeOf(instruction: Instruction): { readonly name: string; readonly displacement: number } | undefined {
    const { memory, displacementSize: size, offset } = instruction
    const at = offset + instruction.displacementOffset
    const displacement = size === 0 ? 0 : size === 1 ? this.#view.getInt8(at) : this.#view.getInt32(at, true)
    if ((instruction.prefixes & (Prefix.fs | Prefix.gs | Prefix.p67)) !== 0) return undefined
    if (memory === Memory.rip)
      return {
        name: 'i',
        displacement: offset + instruction.length + displacement,
      }
    if (memory !== Memory.base) return undefined
    const base = baseRegister(instruction)
    const index = indexRegister(instruction)
    if (base === RSP && index < 0)
      return {
        name: this.#stackName(),
        displacement: this.#depth + displacement,
      }
    const scaled = index < 0 ? '' : `+${index}.${this.#versions[index]}.${instruction.sib >> 6}`
    return { name: `${base}.${this.#versions[base]}${scaled}`, displacement }
  }

  /** Follows rsp through push, pop, add and sub; false for anything else. */
  #moveStack(instruction: Instruction): boolean {
    const { opcode, modrm, encoding, map } = instruction
    if (encoding !== Encoding.legacy || map !== 0 || (instruction.prefixes & Prefix.p66) !== 0) return false
    if ((opcode >= 0x50 && opcode <= 0x57) || opcode === 0x6a) this.#depth -= 8
    else if (opcode >= 0x58 && opcode <= 0x5f && opcode !== 0x5c) this.#depth += 8
    else if ((opcode === 0x81 || opcode === 0x83) && (modrm === 0xc4 || modrm === 0xec)) {
      const step = Number(BigInt.asIntN(64, this.#field(instruction)))
      this.#depth += modrm === 0xc4 ? step : -step
    } else return false
    return true
  }
}

function joinHalves(low: Value, high: Value): Value {
  const [first] = low.pieces
  const [second] = high.pieces
  return {
    value: (low.value & 0xffff_ffffn) | wrap(high.value << 32n),
    pieces: [
      { ...first, operation: 'or' },
      { ...second, shift: 32, operation: 'or' },
    ],
    first: Math.min(low.first, high.first),
    constants: [low.value & 0xffff_ffffn, wrap(high.value << 32n)],
    isForked: low.isForked || high.isForked,
  }
}

/** What add, or, sub, xor make of two values; undefined where the result's fields could not take a change of it. */
function join(operation: number, a: Value | undefined, b: Value | undefined): Value | undefined {
  if (a === undefined || b === undefined) return undefined
  const first = Math.min(...[a, b].filter(({ pieces }) => pieces.length > 0).map((value) => value.first))
  const constants = [...a.constants, ...b.constants]
  const made = (value: bigint, pieces: readonly SplitPiece[]): Value => ({
    value: wrap(value),
    pieces,
    first,
    constants,
    isForked: a.isForked || b.isForked,
  })
  // Where both hold the same bits, the wider takes the change; the other is an addend or a key, and stays.
  const carrier = topOf(b.pieces) > topOf(a.pieces) ? b : a
  if (operation === SUB) return made(a.value - b.value, a.pieces)
  if (operation === XOR)
    return made(
      a.value ^ b.value,
      carrier.pieces.map((piece) => ({ ...piece, operation: 'xor' })),
    )
  const pieces = areApart(a, b) ? [...a.pieces, ...b.pieces] : carrier.pieces
  const all = [...a.pieces, ...b.pieces]
  // Xor has no carry, a sum has: their fields cannot be mixed.
  if (all.some((piece) => piece.operation === 'xor')) return undefined
  if (operation === ADD) return made(a.value + b.value, pieces)
  const isSum = (a.value & b.value) === 0n && areApart(a, b)
  const signed = all.length > 1 && all.some((piece) => piece.operation === 'add')
  return operation === OR && isSum && !signed ? made(a.value | b.value, pieces) : undefined
}
