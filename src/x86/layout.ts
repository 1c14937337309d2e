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
  /**
   * Bytes after ModRM, SIB and displacement, 0 to 8: immediates, a branch field, moffs, or a byte that is no operand.
   */
  tailMask: 0xf,
  /** Bytes of the immediate operand at the tail's start, 4 bits. */
  immediateShift: 4,
  /** Bytes of the relative branch field, 3 bits. */
  branchShift: 8,
  /** log2 of the bytes that the immediate becomes, plus 1, 3 bits; 0: no immediate. */
  widthShift: 11,
  /** One of `Flow`, 4 bits. */
  flowShift: 14,
  hasModrm: 0x40000,
  /** ModRM with mod < 3 is a memory operand. (Not so for mov cr and mov dr.) */
  memory: 0x80000,
  /** The SIB's index is a vector register: always there. */
  vsib: 0x100000,
  /** Register numbers that must differ: one of {@link Unique}, 2 bits. */
  uniqueShift: 21,
  /** The tail is the address of a memory operand. */
  moffs: 0x800000,
  /** The tail's last byte is a second immediate. */
  immediate2: 0x1000000,
  /** A memory operand without ModRM (xlatb). */
  implicitMemory: 0x2000000,
  /** Valid only with a SIB byte. */
  needsSib: 0x4000000,
  branch16: 0x8000000,
  /** The tail is a 3DNow! opcode: valid only where the bitmap says so. */
  suffix: 0x10000000,
  /** The bits from `moffs` on: what few instructions have. */
  rare: -0x800000,
} as const

/**
 * Which register operands must differ. `all`: reg, vvvv (where used) and the index or rm; `destination`: reg
 * from the others.
 */
export const Unique = { none: 0, all: 1, destination: 2 } as const
