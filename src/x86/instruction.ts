/**
 * What every decoder here says about one instruction of 64-bit code: a reusable record of plain numbers.
 *
 * Two decoders fill it, iced (`iced.ts`) and the generated tables (`scanner.ts`), and tests demand the same
 * numbers from both. Offsets of fields count from the instruction's first byte; a size of 0 means that the
 * field is not there.
 */

import { type OptionRules, oneOf, optional } from '../core/options.ts'

/** Which decoder: `tables` is fast and loads nothing, `iced` is the reference. */
export type DecoderKind = 'iced' | 'tables'

/** The makers decode near branches with a 66h prefix differently: Intel ignores it, AMD truncates the target. */
export type Cpu = 'intel' | 'amd'

/** Bytes of the longest instruction. */
export const MAX_LENGTH = 15

/** What options say about decoding. */
export const DECODING_RULES: OptionRules<{ readonly decoder?: DecoderKind; readonly cpu?: Cpu }> = {
  decoder: optional(oneOf('tables', 'iced')),
  cpu: optional(oneOf('intel', 'amd')),
}

/** Where execution goes after an instruction. The values 1 to 4 have a relative branch field. */
export const Flow = {
  next: 0,
  /** jcc, loop, loopcc, jrcxz. */
  conditional: 1,
  jump: 2,
  call: 3,
  /** The field is the address of the fallback path. */
  xbegin: 4,
  /** ret, retf, iret, sysret, sysexit, rsm, uiret ... */
  ret: 5,
  /** Near and far, by register or memory. */
  indirectJump: 6,
  indirectCall: 7,
  /** syscall, sysenter, vmcall and the like: comes back. */
  system: 8,
  /** int n, int1. */
  interrupt: 9,
  int3: 10,
  /** ud0, ud1, ud2: never comes back. */
  undefined: 11,
  halt: 12,
} as const

/** One of the values of {@link Flow}. */
export type FlowClass = (typeof Flow)[keyof typeof Flow]

/** How the memory operand forms its address. String instructions (`movsb`) have none: theirs is implicit. */
export const Memory = {
  none: 0,
  /** A base register, with or without index (and `xlatb`). */
  base: 1,
  /** An index register without base. */
  index: 2,
  /** The displacement alone. */
  absolute: 3,
  /** The displacement alone, of full width and without ModRM (`mov rax,[moffs64]`). */
  moffs: 4,
  rip: 5,
  /** RIP-relative with a 67h prefix: the address wraps at 2^32. */
  eip: 6,
} as const

/** One of the values of {@link Memory}. */
export type MemoryForm = (typeof Memory)[keyof typeof Memory]

/** How the opcode is encoded. */
export const Encoding = { legacy: 0, vex: 1, evex: 2, xop: 3, d3now: 4 } as const

/**
 * Bits of `Instruction.prefixes`. `p66`, `f3`, `f2` are the prefixes, or what VEX.pp, EVEX.pp, XOP.pp say; of f2
 * and f3 the last counts. `rexR`, `rexX`, `rexB`, `w` come from REX, VEX, EVEX or XOP alike: set means an
 * extended register or the wide form.
 */
export const Prefix = {
  p66: 0x1,
  f3: 0x2,
  f2: 0x4,
  p67: 0x8,
  lock: 0x10,
  fs: 0x20,
  gs: 0x40,
  /** There is a REX prefix that counts, so byte registers 4 to 7 are spl, bpl, sil, dil. */
  rex: 0x80,
  rexB: 0x100,
  rexX: 0x200,
  rexR: 0x400,
  w: 0x800,
} as const

/** One decoded instruction; filled again and again by `InstructionDecoder.decode`. */
export class Instruction {
  /** Bytes from the blob's start. */
  offset = 0
  /** Bytes, 1 to 15; 0 where the bytes are no instruction (then no other field but `offset` means anything). */
  length = 0

  /** ModRM displacement (4 or 1 bytes) or moffs (8; 4 with 67h). */
  displacementOffset = 0
  displacementSize = 0
  /** The immediate operand: 1, 2, 4 or 8 bytes. */
  immediateOffset = 0
  immediateSize = 0
  /** The operand's bytes that the immediate becomes; where more than `immediateSize`, it is sign-extended. */
  immediateWidth = 0
  /** A second immediate of 1 byte: enter, extrq, insertq. 0: none. */
  immediate2Offset = 0
  /** The relative branch field: 1, 2 or 4 bytes. */
  branchOffset = 0
  branchSize = 0

  /** One of {@link Flow}. */
  flow: number = Flow.next
  /** One of {@link Memory}. */
  memory: number = Memory.none
  /** The branch target is truncated to 16 bits (AMD, 66h prefix): 1, else 0. */
  branch16 = 0

  /** One of {@link Encoding}. */
  encoding: number = Encoding.legacy
  /** 0: one-byte opcodes; 1: 0F; 2: 0F38; 3: 0F3A; 5, 6: EVEX maps; 8, 9, 10: XOP maps. */
  map = 0
  /** The opcode byte in that map; for 3DNow! the suffix byte (map 1). */
  opcode = 0
  /** Bits of {@link Prefix}. */
  prefixes = 0
  /** 0: there is no ModRM byte. */
  modrmOffset = 0
  modrm = 0
  /** The SIB byte; 0 without one. */
  sib = 0
  /** VEX, EVEX, XOP: the register in vvvv (0 to 15), else 0. */
  vvvv = 0
}

/** Decodes at any offset of one code buffer. */
export interface InstructionDecoder {
  /** Fills `out` and returns the length, 0 where the bytes at `offset` are no instruction or run past the end. */
  decode(offset: number, out: Instruction): number
}

/** True where `flow` has a relative branch field. */
export const isRelativeBranch = (flow: number): boolean => flow >= Flow.conditional && flow <= Flow.xbegin

/** True where the instruction after it is not reached from it. A `halt` and traps may come back. */
export const endsFlow = (flow: number): boolean =>
  flow === Flow.jump || flow === Flow.ret || flow === Flow.indirectJump || flow === Flow.undefined
