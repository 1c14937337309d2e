/**
 * Immediates that are addresses, for the reach fuzzer. What they do depends on the address, so that the two
 * places cannot do the same; each has a reference instead: the same operation with the moved address in a
 * register of its own.
 */
import { type Template, templateOf } from './reach-cases.ts'

const FIELD = [0, 0, 0, 0]
const bit3 = (register: number, rex: number): number => (register >= 8 ? rex : 0)

/** REX.W with R of `reg` and B of `rm`, an opcode, and ModRM for two registers. */
const twoRegisters = (opcode: readonly number[], reg: number, rm: number): number[] => [
  0x48 | bit3(reg, 4) | bit3(rm, 1),
  ...opcode,
  0xc0 | ((reg & 7) << 3) | (rm & 7),
]

/** The memory operand of an instruction with this reg: ModRM, SIB and displacement; `[rsp + 16]` where rm is 4. */
const memoryOperand = (mod: number, reg: number, rm: number): number[] => {
  const modrm = (mod << 6) | ((reg & 7) << 3) | (rm & 7)
  const sib = (rm & 7) === 4 ? [0x24] : []
  return [modrm, ...sib, ...(mod === 1 ? [16] : mod === 2 ? [16, 0, 0, 0] : [])]
}

function make(
  head: readonly number[],
  kind: 'abs32' | 'abs32s',
  reference: NonNullable<Template['reference']>,
): Template {
  const template = templateOf(Uint8Array.from([...head, ...FIELD]), head.length, kind, 'immediate')
  return { ...template, reference }
}

/** `mov r32, imm32` in both its forms: the register becomes the whole address. */
function move32(next: () => number): Template {
  const register = next() & 15
  const rex = register >= 8 ? [0x41] : (next() & 3) === 0 ? [0x40] : []
  const head = (next() & 1) === 0 ? [...rex, 0xb8 | (register & 7)] : [...rex, 0xc7, 0xc0 | (register & 7)]
  return make(head, 'abs32', (value) => twoRegisters([0x89], value, register))
}

const push = (): Template =>
  make([0x68], 'abs32s', (value) => (value >= 8 ? [0x41, 0x50 | (value & 7)] : [0x50 | value]))

/** Opcode and group of `op r/m64, imm32`, and the opcode that does it with a register. */
function operation(next: () => number): { head: number; group: number; opcode: number } {
  const group = next() & 7
  const r = next() & 7
  if (r === 0) return { head: 0xf7, group: 0, opcode: 0x85 }
  if (r === 1) return { head: 0xc7, group: 0, opcode: 0x89 }
  return { head: 0x81, group, opcode: (group << 3) | 1 }
}

function withRegister(next: () => number): Template {
  const { head, group, opcode } = operation(next)
  const rm = next() & 15
  const accumulator = head === 0x81 ? (group << 3) | 5 : head === 0xf7 ? 0xa9 : 0
  const bytes =
    rm === 0 && accumulator !== 0
      ? [0x48, accumulator]
      : [0x48 | bit3(rm, 1), head, 0xc0 | (group << 3) | (rm & 7)]
  return make(bytes, 'abs32s', (value) => twoRegisters([opcode], value, rm))
}

function withMemory(next: () => number): Template {
  const { head, group, opcode } = operation(next)
  const rm = next() & 15
  const mod = (rm & 7) === 5 || (rm & 7) === 4 ? 1 + (next() & 1) : next() % 3
  return make([0x48 | bit3(rm, 1), head, ...memoryOperand(mod, group, rm)], 'abs32s', (value) => [
    0x48 | bit3(value, 4) | bit3(rm, 1),
    opcode,
    ...memoryOperand(mod, value, rm),
  ])
}

/** `imul r64, s64, imm32`. */
function product(next: () => number): Template {
  const to = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15][next() % 15]
  const from = next() & 15
  return make(twoRegisters([0x69], to, from), 'abs32s', (value) => [
    ...twoRegisters([0x8b], to, from),
    ...twoRegisters([0x0f, 0xaf], to, value),
  ])
}

/** `lea r64, [disp32 + base]` or with an index, or with neither. */
function addressOf(next: () => number): Template {
  const to = next() & 15
  const other = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, -1][next() & 15]
  const scale = next() & 3
  const low = other < 0 ? 4 : other & 7
  const asBase = other >= 0 && low !== 4 && (next() & 1) === 0
  const rex = 0x48 | bit3(to, 4) | bit3(other, asBase ? 1 : 2)
  const operand = asBase ? [0x80 | low] : [0x04, (scale << 6) | (low << 3) | 5]
  const reg = (to & 7) << 3
  return make([rex, 0x8d, operand[0] | reg, ...operand.slice(1)], 'abs32s', (value) => [
    0x48 | bit3(to, 4) | bit3(other, 2) | bit3(value, 1),
    0x8d,
    0x44 | reg,
    ((asBase ? 0 : scale) << 6) | (low << 3) | (value & 7),
    0,
  ])
}

export function makeImmediate(next: () => number): Template {
  const makers = [move32, push, withRegister, withRegister, withMemory, withMemory, product, addressOf]
  return makers[next() % makers.length](next)
}
