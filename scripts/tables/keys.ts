/** Keys of a row (see src/x86/layout.ts) as ModRM bytes, and the registers that a probe uses with them. */
import { ROW_KEYS } from '../../src/x86/layout.ts'

export const KEYS: readonly number[] = Array.from({ length: ROW_KEYS }, (_, i) => i)
export const isMemory = (key: number): boolean => key < 8
export const regOf = (key: number): number => (key < 8 ? key : (key - 8) >> 3)
/** ModRM of a key; memory: [rax] or, with SIB, [rax + index], the index another register than reg. */
export const modrmOf = (key: number, sib: boolean): number =>
  isMemory(key) ? (key << 3) | (sib ? 4 : 0) : key + 0xb8
export const sibOf = (key: number): number => ((regOf(key) + 1) & 7) << 3
/** A vvvv that is neither 0 nor reg nor rm nor the index. */
export const otherVvvv = (key: number): number =>
  [1, 2, 3].find((v) => v !== regOf(key) && v !== (isMemory(key) ? (regOf(key) + 1) & 7 : key & 7))!
/** Every memory key, and for every reg one register, which is neither reg nor the same for all. */
export const FORM_KEYS = KEYS.filter((key) => isMemory(key) || (key & 7) === ((regOf(key) + 1) & 7))
export const bits = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i)
