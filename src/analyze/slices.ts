/**
 * Addresses that no instruction holds alone: built of two halves, summed, xored with a key, stored half by
 * half. Nobody looks for them in every instruction: what may be the last step of one (a constant shifted, two
 * constants joined, the other half stored) marks a short slice of code, and only there constants are
 * followed.
 *
 * The fields of one address are written together or not at all. Where a jump enters between them, or a field
 * serves two addresses, no value of the field is right on every path, and it is a warning instead.
 */
import { hex } from '../core/address.ts'
import { viewOf } from '../core/bytes.ts'
import { findRange } from '../core/range.ts'
import type { TableBuilder } from '../table/builder.ts'
import { ABS32, ABS32S, ABS64 } from '../table/kinds.ts'
import { ADDRESS_FLOW } from '../table/site.ts'
import { baseRegister, indexRegister } from '../x86/effects.ts'
import { Encoding, Instruction, type InstructionDecoder, Prefix } from '../x86/instruction.ts'
import { Ends } from '../x86/notable-rows.ts'
import { branchTarget } from '../x86/target.ts'
import { type JumpTable, targetsOf } from './jump-tables.ts'
import { isTaken, Mark, take } from './marks.ts'
import { Place, type Places } from './places.ts'
import { SliceScreen } from './slice-screen.ts'
import { nameOf, type Value } from './slice-values.ts'
import { followSlice, type Unit } from './slice-walk.ts'
import type { Window } from './window.ts'

/** Bytes from a constant to what is made of it, at the most. */
export const CONSTANT_REACH = 96
/** Bytes of a slice behind the step that marked it. */
const AFTER = 48
/** From here on no number is an address by chance. */
const CLEAR = 1n << 40n

/** The opcodes of the one-byte map that load, join, shift and store constants. */
const WATCHED = new Uint8Array(256)
for (const opcode of [
  0x05, 0x0d, 0x2d, 0x35, 0x01, 0x03, 0x09, 0x0b, 0x29, 0x2b, 0x31, 0x33, 0x68, 0x81, 0x83, 0x8d, 0xc1, 0xc7,
])
  WATCHED[opcode] = 1
WATCHED.fill(1, 0xb8, 0xc0)

/** Of offsets: the branches that lead there. */
type Sources = ReadonlyMap<number, readonly number[]>

export interface SliceContext {
  /** Instructions that divert the flow, and the tables that they go by. */
  readonly ends: Ends
  readonly shared: readonly number[]
  readonly tables: readonly JumpTable[]
  /** Instructions that give registers constants, and others. */
  readonly watched: Uint32Array
  readonly window: Window
  readonly decoder: InstructionDecoder
  readonly marks: Uint8Array
  readonly places: Places
  readonly warn: (offset: number, length: number, kind: string, message: string, remedy: string) => void
}

/** The same for units that one change of their fields serves: what is added beside them does not matter, a key does. */
const identityOf = (unit: Unit): string =>
  unit.pieces.some(({ operation }) => operation === 'xor') ? `${nameOf(unit)}=${unit.value}` : nameOf(unit)

/** Where a unit's bytes are entered, but at its first instruction. */
function enteredAt({ first, end }: Unit, marks: Uint8Array): number[] {
  const found: number[] = []
  for (let at = first + 1; at < end; at++) if ((marks[at] & (Mark.target | Mark.entry)) !== 0) found.push(at)
  return found
}

/** All that leads to some offsets: a look at every branch, for the few that are asked for. */
function findSources(
  { decoder, ends, shared, tables, window }: SliceContext,
  view: DataView,
  wanted: ReadonlySet<number>,
): Sources {
  const sources = new Map<number, number[]>()
  if (wanted.size === 0) return sources
  const add = (target: number, source: number): void => {
    if (wanted.has(target)) sources.set(target, [...(sources.get(target) ?? []), source])
  }
  const instruction = new Instruction()
  for (let i = 0; i < ends.count; i++)
    if ((ends.kinds[i] & Ends.rip) === 0) add(ends.targets[i], ends.starts[i])
  for (const at of shared) {
    decoder.decode(at, instruction)
    add(branchTarget(view, instruction), at)
  }
  for (const table of tables) for (const target of targetsOf(view, table, window)) add(target, table.jumps[0])
  return sources
}

/** Watches the instructions of a blob go by in order. */
export class SliceWatcher {
  readonly #code: Uint8Array
  readonly #builder: TableBuilder
  /** start, end of each slice, ascending. */
  readonly #slices: number[] = []
  /** Offset of the last instruction that gave a register a constant, for each. */
  readonly #constants = new Int32Array(16).fill(-CONSTANT_REACH)
  /** Offsets of the first and the last of the stores of constants that stand together. */
  #firstStore = -CONSTANT_REACH
  #lastStore = -CONSTANT_REACH
  readonly #view: DataView
  /** What the upper half of an address in a covered range is: the first and the last, in pairs. */
  readonly #highs: readonly number[]
  /** Whether 0 is an address in a covered range. */
  readonly #hasZero: boolean
  /** Offsets of the stores of what can be an upper half, ascending. */
  readonly #uppers: number[] = []

  constructor(code: Uint8Array, builder: TableBuilder) {
    this.#code = code
    this.#view = viewOf(code)
    this.#builder = builder
    const { covered } = builder.blob
    this.#highs = covered.flatMap(({ start, end }) => [Number(start >> 32n), Number(end >> 32n)])
    this.#hasZero = findRange(covered, 0n) >= 0
  }

  watch(instruction: Instruction): void {
    const { opcode, modrm, prefixes } = instruction
    if (WATCHED[opcode] === 0 || instruction.map !== 0 || instruction.encoding !== Encoding.legacy) return
    const rm = (modrm & 7) | ((prefixes & Prefix.rexB) >> 5)
    if (opcode >= 0xb8 && opcode <= 0xbf)
      this.load((opcode & 7) | ((prefixes & Prefix.rexB) >> 5), instruction.offset)
    else if (opcode === 0xc7) {
      if (modrm >= 0xc0) this.load(rm, instruction.offset)
      else this.#store(instruction)
    } else if (opcode === 0x68) this.#store(instruction)
    else if ((prefixes & Prefix.w) === 0) return
    else if (opcode === 0x8d) this.#sum(baseRegister(instruction), indexRegister(instruction), instruction)
    else if (opcode < 0x40 && (opcode & 7) === 5) this.#sum(0, -1, instruction)
    else if (modrm < 0xc0) return
    else if (opcode === 0x81 || opcode === 0x83 || opcode === 0xc1) this.#sum(rm, -1, instruction)
    else this.#sum(rm, ((modrm >> 3) & 7) | ((prefixes & Prefix.rexR) >> 7), instruction)
  }

  /** The instruction at `offset` gives a register a constant. */
  load(register: number, offset: number): void {
    this.#constants[register] = offset
  }

  /** An operation on registers (-1: none) that hold constants marks a slice from the first of those. */
  #sum(a: number, b: number, instruction: Instruction): void {
    const earliest = instruction.offset - CONSTANT_REACH
    if (a < 0 || this.#constants[a] <= earliest || (b >= 0 && this.#constants[b] <= earliest)) return
    let start = this.#constants[a]
    for (const constant of this.#constants) if (constant > earliest) start = Math.min(start, constant)
    this.#mark(start, instruction)
  }

  /**
   * A store of what can be an upper half marks a slice from the first store near it. Below 2^32 a lower half
   * is an address alone: there the halves of 0 are told only where something else marked a slice.
   */
  #store(instruction: Instruction): void {
    const { offset } = instruction
    if (offset - this.#lastStore > CONSTANT_REACH / 4 || offset - this.#firstStore > CONSTANT_REACH)
      this.#firstStore = offset
    this.#lastStore = offset
    if (instruction.immediateSize !== 4) return
    const value = this.#view.getUint32(offset + instruction.immediateOffset, true)
    const highs = this.#highs
    for (let i = 0; i < highs.length; i += 2)
      if (value >= highs[i] && value <= highs[i + 1]) {
        // A store of 8 bytes completes nothing.
        if (value !== 0 || (this.#hasZero && instruction.immediateWidth === 4)) this.#uppers.push(offset)
        if (value !== 0) this.#mark(this.#firstStore, instruction)
        return
      }
  }

  #mark(start: number, instruction: Instruction): void {
    const slices = this.#slices
    const end = instruction.offset + instruction.length + AFTER
    if (slices.length > 0 && start < slices[slices.length - 1]) slices[slices.length - 1] = end
    else slices.push(start, end)
  }

  /** Adds the addresses to the table, and takes their fields. */
  finish(context: SliceContext): void {
    const units: Unit[] = []
    const walk = { ...context, view: this.#view }
    const screen = new SliceScreen({ ...walk, covered: this.#builder.blob.covered })
    const uppers = this.#uppers
    let upper = 0
    for (let i = 0; i < this.#slices.length; i += 2) {
      const start = this.#slices[i]
      const end = Math.min(this.#slices[i + 1], this.#code.length)
      while (uppers[upper] < start) upper++
      if (uppers[upper] < end || screen.mayJoin(start, end))
        units.push(...followSlice(walk, start, end).filter((unit) => this.#isAddress(unit, context.places)))
    }
    const owners = new Map<number, Set<string>>()
    for (const unit of units)
      for (const { offset } of unit.pieces)
        owners.set(offset, (owners.get(offset) ?? new Set()).add(identityOf(unit)))
    const sources = findSources(
      context,
      this.#view,
      new Set(units.flatMap((unit) => enteredAt(unit, context.marks))),
    )
    const done = new Set<string>()
    for (const unit of units) {
      const name = identityOf(unit)
      if (done.has(name)) continue
      done.add(name)
      const isShared = unit.pieces.some(({ offset }) => owners.get(offset)!.size > 1)
      if (!this.#refuse(unit, isShared, sources, context)) this.#add(unit, context.marks)
    }
  }

  /**
   * Whether the constants are an address together, and none of them is alone (a half shifted up is none: in a
   * range of 4 GiB it lies within, too). Below 2^40 a number may be in the range by chance; there the address
   * is one of something that begins.
   */
  #isAddress({ value, constants, pieces }: Value, places: Places): boolean {
    const { covered, base, own } = this.#builder.blob
    const range = findRange(covered, value)
    if (range < 0) return false
    const hasUpper = pieces.some(({ shift }) => shift === 32)
    const isAlone = (constant: bigint): boolean =>
      !(hasUpper && (constant & 0xffff_ffffn) === 0n) && findRange(covered, constant) >= 0
    if (constants.some(isAlone)) return false
    if (value >= CLEAR || range !== own) return true
    const place: number = places.at(Number(value - base))
    return place === Place.entry || place === Place.label || place === Place.object || place === Place.zero
  }

  /** Warns of an address whose fields cannot be written. */
  #refuse(unit: Unit, isShared: boolean, sources: Sources, { marks, warn }: SliceContext): boolean {
    // What comes from the same slice, with what is known there, enters nothing.
    const entered = enteredAt(unit, marks).findLast((at) => {
      const known = unit.joins.get(at)?.sources ?? []
      const all = sources.get(at) ?? []
      return (
        (marks[at] & Mark.entry) !== 0 || all.length === 0 || all.some((source) => !known.includes(source))
      )
    })
    if (entered === undefined && !isShared && !unit.isForked) return false
    const what = `the address ${hex(unit.value)} is put together from ${unit.pieces.length === 1 ? 'a field and a constant' : `${unit.pieces.length} fields`} here`
    if (entered !== undefined)
      warn(
        unit.first,
        unit.end - unit.first,
        'split-entered',
        `${what}, and a jump enters between them at offset ${hex(entered)}: they were left as they are.`,
        'Say what the fields hold (`sites`), or that the bytes between are not entered.',
      )
    else if (unit.isForked)
      warn(
        unit.first,
        unit.end - unit.first,
        'split-forked',
        `${what}, and on another path from other fields: they were left as they are.`,
        'Load the address before the paths part, or say what the fields hold (`sites`).',
      )
    else
      warn(
        unit.first,
        unit.end - unit.first,
        'split-shared',
        `${what}, and one of them belongs to another address too: they were left as they are.`,
        'Give each address fields of its own, or say what the fields hold (`sites`).',
      )
    return true
  }

  #add({ pieces, value }: Unit, marks: Uint8Array): void {
    if (pieces.some(({ offset, width }) => isTaken(marks, offset, width))) return
    for (const { offset, width } of pieces) take(marks, offset, width)
    const [{ offset, width, shift, operation }] = pieces
    if (pieces.length > 1 || shift !== 0 || operation === 'xor')
      this.#builder.addSplit(pieces, value, undefined, ADDRESS_FLOW)
    else {
      const kind = width === 8 ? ABS64 : operation === 'add' ? ABS32S : ABS32
      this.#builder.addTarget(offset, kind, value, ADDRESS_FLOW, 0, true)
    }
  }
}
