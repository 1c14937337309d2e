/**
 * The few instructions that veneers are made of. Registers are numbers of machine code. None of these
 * instructions touches a flag. Source of the encodings: Intel SDM vol. 2.
 */

export const RSP = 4

/** The low 32 bits of `value`, the lowest byte first. */
export const int32 = (value: number): number[] => [
  value & 0xff,
  (value >> 8) & 0xff,
  (value >> 16) & 0xff,
  (value >> 24) & 0xff,
]

/** An opcode with each register in its low bits. */
const onLow = (opcode: number): readonly (readonly number[])[] =>
  Array.from({ length: 16 }, (_, register) =>
    register < 8 ? [opcode | register] : [0x41, opcode | (register & 7)],
  )
const PUSH = onLow(0x50)
const POP = onLow(0x58)

/** `push r64`, `pop r64`; `pop rsp` loads rsp. */
export const push = (register: number): readonly number[] => PUSH[register]
export const pop = (register: number): readonly number[] => POP[register]

/** `mov r64, imm64`, in one array: there is one in most veneers. */
export function moveImmediate(register: number, value: bigint): number[] {
  const low = Number(BigInt.asIntN(32, value))
  const high = Number(BigInt.asIntN(32, value >> 32n))
  const rex = register < 8 ? 0x48 : 0x49
  const opcode = 0xb8 | (register & 7)
  return [
    rex,
    opcode,
    low & 0xff,
    (low >> 8) & 0xff,
    (low >> 16) & 0xff,
    (low >> 24) & 0xff,
    high & 0xff,
    (high >> 8) & 0xff,
    (high >> 16) & 0xff,
    (high >> 24) & 0xff,
  ]
}

/** `lea rsp, [rsp + by]`; nothing where `by` is 0. */
export const adjustStack = (by: number): number[] => (by === 0 ? [] : [0x48, 0x8d, ...onStack(RSP, by)])

/** `lea register, [rsp + at]` */
export const stackAddress = (register: number, at: number): number[] => [
  register < 8 ? 0x48 : 0x4c,
  0x8d,
  ...onStack(register, at),
]

/** Prefixes of a `mov` of 8, 4 or 2 bytes, with `extensions` (REX.R, X, B) of its registers. */
export function movePrefix(size: number, extensions: number): number[] {
  const rex = extensions | (size === 8 ? 8 : 0)
  return [...(size === 2 ? [0x66] : []), ...(rex === 0 ? [] : [0x40 | rex])]
}

/** `mov [rsp + at], register` of 8, 4 or 2 bytes. */
export const storeStack = (at: number, register: number, size = 8): number[] => [
  ...movePrefix(size, register >= 8 ? 4 : 0),
  0x89,
  ...onStack(register, at),
]

/** `mov register, [rsp + at]` of 8, 4 or 2 bytes. */
export const loadStack = (register: number, at: number, size = 8): number[] => [
  ...movePrefix(size, register >= 8 ? 4 : 0),
  0x8b,
  ...onStack(register, at),
]

/** `lea register, [base + register]`; of rsp `[rsp + register + depth]`. */
export function addBase(register: number, base: number, depth = 0): number[] {
  const rex = 0x48 | (register >= 8 ? 6 : 0) | (base >= 8 ? 1 : 0)
  const low = (register & 7) << 3
  const sib = low | (base & 7)
  if (base === RSP && depth !== 0) return [rex, 0x8d, 0x84 | low, sib, ...int32(depth)]
  // mod 0 with rbp or r13 would be a displacement without base.
  return (base & 7) === 5 ? [rex, 0x8d, 0x44 | low, sib, 0] : [rex, 0x8d, 0x04 | low, sib]
}

/** ModRM, SIB and displacement of `[rsp + at]`. */
function onStack(register: number, at: number): number[] {
  const reg = (register & 7) << 3
  if (at >= -128 && at < 128) return [0x44 | reg, 0x24, at & 0xff]
  return [0x84 | reg, 0x24, ...int32(at)]
}
