/** A valid encoding of a cell, by what its leaf allows, with registers that nothing uses implicitly: r8 and up. */
import { Layout } from '../../src/x86/layout.ts'
import type { Leaf } from './grid.ts'

const LEGACY_MAPS: readonly (readonly number[])[] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]]
/** R X B as bits 2, 1, 0; the ones that extend most first. */
const EXTENSIONS = [5, 4, 1, 0]
/** A valid V'vvvv, the high registers first, if it can be not the number of reg, rm or index. */
function vvvvOf(leaf: Leaf, key: number): number {
  const valid = [13, 12, 11, 10, 4, 3, 2, 1, 0].filter((v) => has(leaf.vvvv, v))
  const taken = key < 8 ? [key, (key + 1) & 7] : [(key - 8) >> 3, key & 7]
  return valid.find((v) => !taken.includes(v & 7)) ?? valid[0]
}

/** What follows the opcode: ModRM with its SIB, and ones (an immediate of 0 makes a shift do nothing). */
function operands(leaf: Leaf, key: number): number[] {
  const ones = Array.from({ length: 8 }, () => 1)
  if ((leaf.layout & Layout.hasModrm) === 0) return ones
  if (key >= 8) return [key + 0xb8, ...ones]
  return (leaf.layout & Layout.needsSib) !== 0
    ? [(key << 3) | 4, ((key + 1) & 7) << 3, ...ones]
    : [key << 3, ...ones]
}

export function witness(page: number, opcode: number, key: number, leaf: Leaf): readonly number[] {
  if (page < 64) return legacyWitness(page, opcode, key, leaf)
  return page < 96 ? vexWitness(page, opcode, key, leaf) : evexWitness(page, opcode, key, leaf)
}

const has = (mask: number, bit: number): boolean => ((mask >>> bit) & 1) !== 0

function legacyWitness(page: number, opcode: number, key: number, leaf: Leaf): readonly number[] {
  const w = (page >> 3) & 1
  for (const a67 of [0, 1])
    for (const rxb of EXTENSIONS) {
      const context = ((rxb & 4) >> 1) | ((rxb & 1) << 3) | (a67 << 4)
      if (!has(leaf.contexts, context)) continue
      const prefixes = [
        ...((page & 1) !== 0 ? [0x66] : []),
        ...((page & 2) !== 0 ? [0xf3] : (page & 4) !== 0 ? [0xf2] : []),
      ]
      const suffix = (leaf.layout & Layout.suffix) !== 0
      return [
        ...(a67 === 1 ? [0x67] : []),
        ...prefixes,
        0x40 | (w << 3) | rxb,
        ...LEGACY_MAPS[page >> 4],
        opcode,
        ...(suffix ? [key < 8 ? key << 3 : key + 0xb8, 0x9e] : operands(leaf, key)),
      ]
    }
  throw new Error(`no witness for page ${page} opcode ${opcode} key ${key}`)
}

function vexWitness(page: number, opcode: number, key: number, leaf: Leaf): readonly number[] {
  const xop = page >= 80
  const map = xop ? ((page - 80) >> 2) + 8 : (page - 64) >> 2
  const v = vvvvOf(leaf, key)
  for (const rxb of EXTENSIONS)
    for (const lw of [0, 1, 2, 3]) {
      if (!has(leaf.contexts, lw | (rxb & 4) | ((rxb & 1) << 4))) continue
      const p1 = ((lw & 2) << 6) | ((~v & 15) << 3) | ((lw & 1) << 2) | (page & 3)
      return [xop ? 0x8f : 0xc4, ((~rxb & 7) << 5) | map, p1, opcode, ...operands(leaf, key)]
    }
  throw new Error(`no witness for page ${page} opcode ${opcode} key ${key}`)
}

function evexWitness(page: number, opcode: number, key: number, leaf: Leaf): readonly number[] {
  const map = (page - 96) >> 3
  const v = vvvvOf(leaf, key)
  // Where reg must differ from rm, only one of two equal numbers is extended.
  const equal = key >= 8 && (key - 8) >> 3 === (key & 7)
  const rxb = EXTENSIONS.find((value) => has(leaf.registers, value) && !(equal && value === 5))!
  const context = Array.from({ length: 32 }, (_, i) => i).find((bit) => has(leaf.contexts, bit))!
  const p0 = ((~rxb & 7) << 5) | 0x10 | map
  const p1 = ((page & 1) << 7) | ((~v & 15) << 3) | 4 | ((page >> 1) & 3)
  const p2 = ((context & 8) << 4) | ((context & 3) << 5) | ((context & 4) << 2) | 8 | ((context & 16) >> 4)
  return [0x62, p0, p1, p2, opcode, ...operands(leaf, key)]
}
