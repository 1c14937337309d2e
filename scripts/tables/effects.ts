/**
 * What instructions do to general registers and flags, by iced's instruction information, as the words of an effect.
 */
import * as iced from 'iced-x86'
import { Effect } from '../../src/x86/effects.ts'
import { Layout, PAGE_COUNT, ROW_KEYS } from '../../src/x86/layout.ts'
import type { Grid, Leaf } from './grid.ts'
import { Prober } from './probe.ts'
import { witness } from './witness.ts'

const { OpAccess, OpCodeOperandKind: Kind, Register } = iced

/** Where an operand's register number is. */
type Place = 'reg' | 'rm' | 'opcode' | 'vvvv'

const PLACES: ReadonlyMap<number, readonly [Place, boolean]> = new Map<number, readonly [Place, boolean]>([
  [Kind.r8_reg, ['reg', true]],
  [Kind.r16_reg, ['reg', false]],
  [Kind.r32_reg, ['reg', false]],
  [Kind.r64_reg, ['reg', false]],
  [Kind.r16_reg_mem, ['reg', false]],
  [Kind.r32_reg_mem, ['reg', false]],
  [Kind.r64_reg_mem, ['reg', false]],
  [Kind.r8_or_mem, ['rm', true]],
  [Kind.r16_or_mem, ['rm', false]],
  [Kind.r32_or_mem, ['rm', false]],
  [Kind.r64_or_mem, ['rm', false]],
  [Kind.r16_rm, ['rm', false]],
  [Kind.r32_rm, ['rm', false]],
  [Kind.r64_rm, ['rm', false]],
  [Kind.r8_opcode, ['opcode', true]],
  [Kind.r16_opcode, ['opcode', false]],
  [Kind.r32_opcode, ['opcode', false]],
  [Kind.r64_opcode, ['opcode', false]],
  [Kind.r32_vvvv, ['vvvv', false]],
  [Kind.r64_vvvv, ['vvvv', false]],
])

const SHIFT = {
  reg: Effect.regShift,
  rm: Effect.rmShift,
  opcode: Effect.opcodeShift,
  vvvv: Effect.vvvvShift,
} as const

/** Bit 0: may be read, bit 1: may be written. */
const ACCESS: ReadonlyMap<number, number> = new Map([
  [OpAccess.Read, 1],
  [OpAccess.CondRead, 1],
  [OpAccess.Write, 2],
  [OpAccess.CondWrite, 2],
  [OpAccess.ReadWrite, 3],
  [OpAccess.ReadCondWrite, 3],
])

/** Two words: operands and flags; registers used implicitly. */
export type EffectWords = readonly [number, number]

/** Pages of 256 x 72 effect numbers, and the effects; number 0 does nothing. */
export interface EffectGrid {
  readonly effects: readonly EffectWords[]
  readonly pages: Grid
}

/** The effects of every valid cell of `grid`. */
export function buildEffects(grid: Grid, leaves: readonly Leaf[]): EffectGrid {
  const prober = new Prober(iced.DecoderOptions.None)
  const factory = new iced.InstructionInfoFactory()
  const effects: EffectWords[] = [[0, 0]]
  const ids = new Map<string, number>([['0,0', 0]])
  const known = new Map<string, number>()
  const pages = new Map<number, Uint16Array>()
  for (let number = 0; number < PAGE_COUNT; number++) {
    const page = grid.get(number)
    if (page === undefined) continue
    const effectPage = new Uint16Array(page.length)
    // Equal registers last: an instruction's effects are those that it has with two (`xor eax, eax` reads none).
    const valid = Array.from(page.keys()).filter((i) => page[i] !== 0)
    const cells = [
      ...valid.filter((i) => !isEqual(i % ROW_KEYS)),
      ...valid.filter((i) => isEqual(i % ROW_KEYS)),
    ]
    const witnesses = cells.map((i) => witness(number, (i / ROW_KEYS) | 0, i % ROW_KEYS, leaves[page[i]]))
    for (const bytes of witnesses) prober.add(bytes)
    const codes = prober.run()
    cells.forEach((i, n) => {
      const { layout } = leaves[page[i]]
      const memory = i % ROW_KEYS < 8 && (layout & Layout.memory) !== 0
      // String instructions repeat by F2 or F3 without another code.
      const key = `${codes[n]},${memory},${number < 64 ? number & 6 : 0}`
      let id = known.get(key)
      if (id === undefined) {
        const bytes = witnesses[n]
        const words = prober.look(bytes, (instruction) =>
          effectOf(instruction, factory, bytes, layout, memory),
        )
        id = ids.get(words.join()) ?? effects.push(words) - 1
        ids.set(words.join(), id)
        known.set(key, id)
      }
      effectPage[i] = id
    })
    pages.set(number, effectPage)
  }
  factory.free()
  prober.free()
  return { effects, pages }
}

/** Are reg and rm one number? */
const isEqual = (key: number): boolean => key >= 8 && (key - 8) >> 3 === (key & 7)

function effectOf(
  instruction: iced.Instruction,
  factory: iced.InstructionInfoFactory,
  bytes: readonly number[],
  layout: number,
  memory: boolean,
): EffectWords {
  if (instruction.code === iced.Code.INVALID) throw new Error(`witness [${bytes}] is invalid`)
  const info = factory.info(instruction)
  const opcode = iced.CodeExt.opCode(instruction.code)
  let words = 0
  const explicit = new Set<number>()
  for (let i = 0; i < opcode.opCount; i++) {
    const place = PLACES.get(opcode.opKind(i))
    if (place === undefined || instruction.opKind(i) !== iced.OpKind.Register) continue
    const access = ACCESS.get(info.opAccess(i)) ?? 0
    words |= (access | (place[1] ? 4 : 0)) << SHIFT[place[0]]
    explicit.add(numberOf(instruction.opRegister(i)))
  }
  if (memory) {
    explicit.add(numberOf(instruction.memoryBase))
    explicit.add(numberOf(instruction.memoryIndex))
  }
  const used = info.usedRegisters() as iced.UsedRegister[]
  let implicit = 0
  let address = false
  for (const register of used) {
    const n = numberOf(register.register)
    const access = ACCESS.get(register.access) ?? 0
    if (n >= 0 && !explicit.has(n)) implicit |= ((access & 1) << n) | ((access >> 1) << (n + 16))
    if (memory && n >= 0 && n === numberOf(instruction.memoryBase) && (access & 1) !== 0) address = true
    register.free()
  }
  if (memory && !address) words |= Effect.noAddress
  if ((layout & Layout.vsib) !== 0) words |= Effect.vsib
  if (instruction.rflagsRead !== 0) words |= Effect.readsFlags
  if (instruction.rflagsModified !== 0) words |= Effect.writesFlags
  opcode.free()
  info.free()
  return [words, implicit]
}

/** 0 to 15 of a general register of any width, else -1. */
function numberOf(register: number): number {
  if (!iced.RegisterExt.isGPR(register)) return -1
  return iced.RegisterExt.fullRegister(register) - Register.RAX
}
