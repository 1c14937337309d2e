/**
 * An instruction with another memory operand: the same bytes but for what addresses memory.
 *
 * Where the operand was RIP-relative, the CPU ignored REX.X and REX.B (VEX, EVEX, XOP alike); with a base register they would count, so they are
 * cleared. The new operand has no displacement, hence EVEX's disp8*N plays no part. Source: Intel SDM vol. 2, 2.2.1.6, 2.3.5.2, 2.7.1.
 */
import { RSP } from './emit.ts'
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

/** Prefixes without 67h, which would cut a 64-bit address; and without a REX before others, which means nothing there and would where they end. */
export const withoutAddressSize = (prefixes: readonly number[]): number[] =>
  prefixes.filter((byte, i) => byte !== 0x67 && (i === prefixes.length - 1 || (byte & 0xf0) !== 0x40))

/** The prefixes that matter to a plain load or store in this instruction's place: its segment, if it has one. */
export const segmentPrefix = (instruction: Instruction): number[] =>
  (instruction.prefixes & Prefix.fs) !== 0 ? [0x64] : (instruction.prefixes & Prefix.gs) !== 0 ? [0x65] : []

/** The bytes behind the memory operand: immediates, opcode suffixes. */
export const bytesBehindOperand = (bytes: Uint8Array, instruction: Instruction): Uint8Array =>
  bytes.subarray(instruction.displacementOffset + instruction.displacementSize)

/**
 * `bytes`, whose memory operand is RIP-relative or has a 4-byte displacement, with `[base]` or `[base + index * scale]` in its place: `base`, a scratch
 * register, takes the place of displacement and base. Where `stand` is one, register operands rsp become it.
 */
export function withBase(
  bytes: Uint8Array,
  instruction: Instruction,
  base: number,
  stand: number | undefined,
): number[] {
  const { modrmOffset, modrm } = instruction
  const hasSib = (modrm & 7) === RSP
  const head = withoutExtension([...bytes.subarray(0, modrmOffset)], instruction, hasSib)
  let reg = modrm & 0x38
  if (stand !== undefined) reg = replaceStackPointer(head, instruction, reg, stand)
  const kept = [...withoutAddressSize(head.slice(0, prefixLength(bytes))), ...head.slice(prefixLength(bytes))]
  const operand = hasSib ? [reg | 4, (instruction.sib & 0xf8) | base] : [reg | base]
  return [...kept, ...operand, ...bytesBehindOperand(bytes, instruction)]
}

/** Where the byte with R, X and B of an instruction is; -1: it has none. */
function extensionAt(head: readonly number[], instruction: Instruction): number {
  const prefixes = prefixLength(Uint8Array.from(head))
  if (instruction.encoding === Encoding.legacy || instruction.encoding === Encoding.d3now)
    return (instruction.prefixes & Prefix.rex) === 0 ? -1 : prefixes - 1
  return prefixes + 1
}

/** Two-byte VEX: no X, no B. */
const isShortVex = (head: readonly number[], at: number): boolean => head[at - 1] === 0xc5

/** Clears B, and X where no index needs it. In VEX, EVEX and XOP the bits are inverted. */
function withoutExtension(head: number[], instruction: Instruction, hasSib: boolean): number[] {
  const at = extensionAt(head, instruction)
  if (at < 0) return head
  if (instruction.encoding === Encoding.legacy || instruction.encoding === Encoding.d3now)
    head[at] &= hasSib ? ~1 : ~3
  else if (!isShortVex(head, at)) head[at] |= hasSib ? 0x20 : 0x60
  return head
}

/** Puts `stand` in the place of rsp, in ModRM.reg (returned) or vvvv. */
function replaceStackPointer(head: number[], instruction: Instruction, reg: number, stand: number): number {
  if (instruction.encoding !== Encoding.legacy && instruction.vvvv === RSP) {
    const at = extensionAt(head, instruction) + (head[prefixLength(Uint8Array.from(head))] === 0xc5 ? 0 : 1)
    head[at] = (head[at] & 0x87) | ((~stand & 15) << 3)
  }
  return reg === RSP << 3 && (instruction.prefixes & Prefix.rexR) === 0 ? stand << 3 : reg
}
