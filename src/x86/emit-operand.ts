/**
 * An instruction with another memory operand: the same bytes but for what addresses memory.
 *
 * Where the operand was RIP-relative, the CPU ignored REX.X and REX.B (VEX, EVEX, XOP alike); with a base
 * register they would count, so they are cleared. The new operand has no displacement but 0, hence EVEX's
 * disp8*N plays no part. Source: Intel SDM vol. 2, 2.2.1.6, 2.3.5.2, 2.7.1.
 */
import { readSigned, viewOf } from '../core/bytes.ts'
import { baseRegister, indexRegister } from './effects.ts'
import { addBase, int32, moveImmediate, movePrefix, RSP } from './emit.ts'
import { Encoding, type Instruction, Prefix } from './instruction.ts'

const LEGACY_PREFIXES: ReadonlySet<number> = new Set([
  0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3,
])
const isPrefix = (byte: number): boolean => LEGACY_PREFIXES.has(byte) || (byte & 0xf0) === 0x40

/** Number of legacy and REX prefix bytes of an instruction. */
export function prefixLength(bytes: Uint8Array): number {
  let at = 0
  while (isPrefix(bytes[at])) at++
  return at
}

/**
 * Prefixes without 67h, which would cut a 64-bit address; and without a REX before others, which means
 * nothing there and would where they end.
 */
export const withoutAddressSize = (prefixes: readonly number[]): number[] =>
  prefixes.filter((byte, i) => byte !== 0x67 && (i === prefixes.length - 1 || (byte & 0xf0) !== 0x40))

/** The prefixes that matter to a plain load or store in this instruction's place: its segment, if it has one. */
const segmentPrefix = ({ prefixes }: Instruction): number[] =>
  (prefixes & Prefix.fs) !== 0 ? [0x64] : (prefixes & Prefix.gs) !== 0 ? [0x65] : []

/**
 * With 67h the CPU cuts what base and index come to as well: then they are a part of the address that a register holds.
 */
const isCut = ({ prefixes }: Instruction): boolean => (prefixes & Prefix.p67) !== 0

/** The index stays a part of the operand. */
const keepsIndex = (instruction: Instruction): boolean => (instruction.modrm & 7) === 4 && !isCut(instruction)

/**
 * ModRM, SIB and displacement of `[base]` or `[base + index * scale]`, with the index of `instruction`;
 * `base` is not rsp or r12.
 */
function operandAt(instruction: Instruction, reg: number, base: number): number[] {
  const low = base & 7
  // mod 0 with rbp or r13 would be a displacement without base.
  const [mod, displacement] = low === 5 ? [0x40, [0]] : [0, []]
  return keepsIndex(instruction)
    ? [mod | reg | 4, (instruction.sib & 0xf8) | low, ...displacement]
    : [mod | reg | low, ...displacement]
}

/** A `mov` between `register` and the memory operand, `base` standing for its displacement and base. */
function moveOperand(
  instruction: Instruction,
  opcode: 0x89 | 0x8b,
  register: number,
  base: number,
  size: number,
): number[] {
  const index = keepsIndex(instruction) && indexRegister(instruction) >= 8 ? 2 : 0
  const extensions = (register >= 8 ? 4 : 0) | index | (base >= 8 ? 1 : 0)
  const operand = operandAt(instruction, (register & 7) << 3, base)
  return [...segmentPrefix(instruction), ...movePrefix(size, extensions), opcode, ...operand]
}

/** `mov to, [operand]` of 8, 4 or 2 bytes. */
export const loadOperand = (instruction: Instruction, to: number, base: number, size = 8): number[] =>
  moveOperand(instruction, 0x8b, to, base, size)
/** `mov [operand], from` of 8, 4 or 2 bytes. */
export const storeOperand = (instruction: Instruction, from: number, base: number, size = 8): number[] =>
  moveOperand(instruction, 0x89, from, base, size)

/** Whether `farAddress` needs a second register. */
export const needsHelper = (instruction: Instruction): boolean =>
  isCut(instruction) && (baseRegister(instruction) >= 0 || indexRegister(instruction) >= 0)

/**
 * Puts the address into `register` as far as it stays no index: the far displacement and the base; rsp is
 * `depth` lower than it was. Where 67h cuts base and index, what they come to is a signed distance from the
 * displacement.
 */
export function farAddress(
  instruction: Instruction,
  register: number,
  target: bigint,
  depth: number,
  helper: number = register,
): number[] {
  const base = baseRegister(instruction)
  if (needsHelper(instruction)) {
    const extend = [0x48 | (register >= 8 ? 5 : 0), 0x63, 0xc0 | ((register & 7) * 9)]
    const sum = registerSum(instruction, register, depth)
    return [...sum, ...extend, ...moveImmediate(helper, target), ...addBase(register, helper)]
  }
  return [...moveImmediate(register, target), ...(base < 0 ? [] : addBase(register, base, depth))]
}

/** `lea r32, [base + index * scale]`; 67h is kept, so it is what the CPU computed, but for rsp's `depth`. */
function registerSum(instruction: Instruction, register: number, depth: number): number[] {
  const [base, index] = [baseRegister(instruction), indexRegister(instruction)]
  const rex = 0x40 | (register >= 8 ? 4 : 0) | (index >= 8 ? 2 : 0) | (base >= 8 ? 1 : 0)
  const reg = (register & 7) << 3
  const sib = (instruction.modrm & 7) === 4 ? instruction.sib : 0x20 | (base & 7)
  const displacement = int32(base === RSP ? depth : 0)
  return [0x67, rex, 0x8d, base < 0 ? reg | 4 : 0x84 | reg, sib, ...displacement]
}

/** Where the memory operand ends: behind it are immediates and opcode suffixes. */
const endOfOperand = ({ displacementOffset, displacementSize }: Instruction): number =>
  displacementOffset + displacementSize

/**
 * `bytes`, whose memory operand is RIP-relative or has a 4-byte displacement, with `[base]` or `[base + index
 * * scale]` in its place: `base`, a scratch register, takes the place of displacement and base. Where `stand`
 * is one, register operands rsp become it. An extended base needs an instruction that `canExtend`.
 */
export function withBase(
  bytes: Uint8Array,
  instruction: Instruction,
  base: number,
  stand: number | undefined,
): number[] {
  const { modrmOffset } = instruction
  const prefixes = prefixLength(bytes)
  const head: number[] = []
  for (let i = 0; i < modrmOffset; i++) head.push(bytes[i])
  replaceExtension(head, prefixes, instruction, base)
  let reg = bytes[modrmOffset] & 0x38
  if (stand !== undefined) reg = replaceStackPointer(head, prefixes, instruction, reg, stand)
  const isCutHere = isCut(instruction)
  const kept = isCutHere ? [...withoutAddressSize(head.slice(0, prefixes)), ...head.slice(prefixes)] : head
  kept.push(...operandAt(instruction, reg, base))
  for (let i = endOfOperand(instruction); i < bytes.length; i++) kept.push(bytes[i])
  return kept
}

/** `bytes` with an operand beside rsp `depth` bytes further up. */
export function deeper(bytes: Uint8Array, instruction: Instruction, depth: number): number[] {
  const { modrmOffset, sib, displacementOffset, displacementSize } = instruction
  if (baseRegister(instruction) !== RSP) return [...bytes]
  const displacement =
    displacementSize === 0 ? 0 : readSigned(viewOf(bytes), displacementOffset, displacementSize)
  return [
    ...bytes.subarray(0, modrmOffset),
    (bytes[modrmOffset] & 0x3f) | 0x80,
    sib,
    ...int32(displacement + depth),
    ...bytes.subarray(modrmOffset + 2 + displacementSize),
  ]
}

const isLegacy = ({ encoding }: Instruction): boolean =>
  encoding === Encoding.legacy || encoding === Encoding.d3now

/** Offset of the byte with R, X and B of an instruction with `prefixes` prefix bytes; -1: it has none. */
function extensionAt(prefixes: number, instruction: Instruction): number {
  if (!isLegacy(instruction)) return prefixes + 1
  return (instruction.prefixes & Prefix.rex) === 0 ? -1 : prefixes - 1
}

/** Two-byte VEX: no X, no B. */
const isShortVex = (head: readonly number[], at: number): boolean => head[at - 1] === 0xc5

/** Makes B that of `base`, and clears X where no index needs it. In VEX, EVEX and XOP the bits are inverted. */
function replaceExtension(head: number[], prefixes: number, instruction: Instruction, base: number): void {
  const at = extensionAt(prefixes, instruction)
  if (at < 0) return
  const cleared = keepsIndex(instruction) ? 1 : 3
  const b = base >= 8 ? 1 : 0
  if (isLegacy(instruction)) head[at] = (head[at] & ~cleared) | b
  else if (!isShortVex(head, at)) head[at] = (head[at] | (cleared << 5)) ^ (b << 5)
}

/** Puts `stand` in the place of rsp, in ModRM.reg (returned) or vvvv. */
function replaceStackPointer(
  head: number[],
  prefixes: number,
  instruction: Instruction,
  reg: number,
  stand: number,
): number {
  if (instruction.encoding !== Encoding.legacy && instruction.vvvv === RSP) {
    const at = extensionAt(prefixes, instruction) + (head[prefixes] === 0xc5 ? 0 : 1)
    head[at] = (head[at] & 0x87) | ((~stand & 15) << 3)
  }
  return reg === RSP << 3 && (instruction.prefixes & Prefix.rexR) === 0 ? stand << 3 : reg
}
