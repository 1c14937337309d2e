/**
 * The shape of the generated tables: how a cell is found and what its leaf says. The generator, the expansion
 * and the scanner share these numbers.
 *
 * A page is 256 cells, one an opcode, of one map under one prefix class. A cell names a row: a leaf for each
 * ModRM key, which is `reg` for a memory operand and 8 + (modrm & 63) for a register. A leaf is one behaviour:
 * what follows the opcode, where control goes, and which contexts are valid. Leaf 0 is no instruction.
 */

/** Keys of a row: 8 memory, 64 register. */
export const ROW_KEYS = 72

/** The key of a ModRM byte. */
export const rowKey = (modrm: number): number => (modrm >= 0xc0 ? modrm - 0xb8 : (modrm >> 3) & 7)

/**
 * Page numbers. Legacy: map (0 to 3), REX.W, and the bits p66, f3, f2 of the prefixes. VEX and XOP: map and
 * pp. EVEX: map (0 to 7), pp, W.
 */
export const legacyPage = (map: number, w: number, p66f3f2: number): number => (map << 4) | (w << 3) | p66f3f2
export const vexPage = (map: number, pp: number): number => 64 + (map << 2) + pp
export const xopPage = (map: number, pp: number): number => 80 + ((map - 8) << 2) + pp
export const evexPage = (map: number, pp: number, w: number): number => 96 + (map << 3) + (pp << 1) + w
export const PAGE_COUNT = 160

/**
 * Contexts: the bits beside opcode and ModRM on which validity hangs, as an index into the leaf's 32-bit mask.
 *   legacy     lock, REX.R, REX.X, REX.B, 67h
 *   VEX, XOP   L, W, R, X, B
 *   EVEX       L'L (2 bits), b, z, aaa != 0
 */
export const legacyContext = (lock: number, r: number, x: number, b: number, a67: number): number =>
  lock | (r << 1) | (x << 2) | (b << 3) | (a67 << 4)
export const vexContext = (l: number, w: number, r: number, x: number, b: number): number =>
  l | (w << 1) | (r << 2) | (x << 3) | (b << 4)
export const evexContext = (ll: number, b: number, z: number, masked: number): number =>
  ll | (b << 2) | (z << 3) | (masked << 4)

/** Fields of a leaf's layout word. */
export const Layout = {
  /** Bytes after ModRM, SIB and displacement, 0 to 8. */
  tailMask: 0xf,
  /** What the tail is: one of {@link Tail}. */
  tailShift: 4,
  tailKindMask: 3,
  /** The tail's last byte is a second immediate. */
  immediate2: 0x40,
  /** log2 of the immediate's operand width in bytes, plus 1; 0: no immediate. */
  widthShift: 7,
  widthMask: 7,
  flowShift: 10,
  flowMask: 15,
  hasModrm: 0x4000,
  /** mod is ignored: always a register (mov cr, mov dr). */
  registerOnly: 0x8000,
  /** A memory operand without ModRM (xlatb). */
  implicitMemory: 0x10000,
  /** Valid only with a SIB byte. */
  needsSib: 0x20000,
  /** The SIB's index is a vector register: always there. */
  vsib: 0x40000,
  branch16: 0x80000,
  /** Register numbers that must differ: one of {@link Unique}. */
  uniqueShift: 20,
  uniqueMask: 3,
  /** The tail is a 3DNow! opcode: valid only where the bitmap says so. */
  suffix: 0x400000,
} as const

/** What the bytes after the displacement are. `hidden`: no operand (a register in imm8[7:4], a 3DNow! opcode). */
export const Tail = { hidden: 0, immediate: 1, branch: 2, moffs: 3 } as const

/** Which register operands must differ. `all`: reg, vvvv (where used) and the index or rm; `destination`: reg from the others. */
export const Unique = { none: 0, all: 1, destination: 2 } as const
