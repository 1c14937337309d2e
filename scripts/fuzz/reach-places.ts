/** Where the reach fuzzer's code and data lie, before and after: the address space of a case. */
import { exitAddress, type NativeHarness } from '../../test/support/native/harness.ts'

const PAGE = 4096
const BYTES = (pages: number): bigint => BigInt(pages * PAGE)

/**
 * Bytes of data that are compared, and mapped behind the data's address; the range that moves with it has a
 * page more, where nothing is.
 */
export const WINDOW = 2048
const DATA_PAGES = 3
export const RANGE: number = (DATA_PAGES + 1) * PAGE
/** Offset of an operand that is not there. */
export const ABSENT: number = DATA_PAGES * PAGE + 64

/** Data that stays while the code moves; branches go to TARGET, which leaves by exit 1. */
export const DATA = 0x4000_0000_0000n
export const TARGET: bigint = DATA + BYTES(8)
export const HOME: bigint = DATA - 0x20_0000n
/** Of branches of 8 bits, whose target is right before them. */
export const SHORT_HOME: bigint = HOME + BYTES(2)
export const SHORT_TARGET: bigint = SHORT_HOME - 16n
export const STACK = 0x3000_0000_0000n
/** Code and data whose addresses 32 bits hold: both move. */
export const LOW_HOME = 0x6800_0000n
export const LOW_DATA = 0x7000_0000n
const LOW_NEAR = 0x7400_0000n
const LOW_NEAR_DATA = 0x7800_0000n
/**
 * Linux's selector of 64-bit user code; a target that 32 bits hold, and what a far pointer to it is when read
 * as m16:64.
 */
export const CODE_SELECTOR = 0x33n
export const LOW_TARGET = 0x6000_0000n

const GIB = 1n << 30n
const EDGE = 1n << 31n

/** How far a field's value is from its limit; 2 sides where there are two. */
export const DISTANCES = [
  'near',
  'inside below',
  'inside above',
  'outside below',
  'outside above',
  'far',
  'farthest',
] as const
export type Distance = (typeof DISTANCES)[number]

const FAR = { far: DATA - 100n * GIB, farthest: 0x7e00_0000_0000n } as const
const FAR_DATA = { far: LOW_DATA + 100n * GIB, farthest: 0x7d00_0000_0000n } as const
/** A place for veneers almost out of the code's reach. */
const FAR_VENEERS: bigint = FAR.far + EDGE - BYTES(16)

export async function mapReach(harness: NativeHarness): Promise<void> {
  for (const at of [DATA, LOW_DATA, LOW_NEAR_DATA, FAR_DATA.far, FAR_DATA.farthest])
    await harness.map(at, DATA_PAGES * PAGE, 'rw')
  for (const limit of [EDGE, 2n * EDGE]) await harness.map(limit - BYTES(8), 16 * PAGE, 'rw')
  await harness.map(STACK, 4 * PAGE, 'rw')
  for (const at of [HOME, HOME - 0x10_0000n, LOW_HOME, LOW_NEAR, FAR.far, FAR.farthest, FAR_VENEERS])
    await harness.map(at, 4 * PAGE, 'rx')
  for (const at of [DATA - EDGE, DATA + EDGE]) await harness.map(at - BYTES(1), 16 * PAGE, 'rx')
  for (const edge of [EDGE, -EDGE]) await harness.map(HOME + edge, 4 * PAGE, 'rx')
  await harness.write(SHORT_TARGET, leaveBy(1))
  for (const at of [TARGET, LOW_TARGET, LOW_TARGET | (CODE_SELECTOR << 32n)]) {
    await harness.map(at, PAGE, 'rx')
    await harness.write(at, leaveBy(1))
  }
}

/** `jmp [rip]` and the address of an exit: leaves from anywhere, touching nothing. */
export function leaveBy(index: number): Uint8Array {
  const code = new Uint8Array(14)
  code.set([0xff, 0x25])
  new DataView(code.buffer).setBigUint64(6, exitAddress(index), true)
  return code
}

export interface Place {
  /** The code's new address. */
  readonly to: bigint
  /** That of the data. */
  readonly data: bigint
}

/**
 * Where code goes whose RIP-relative field ends `end` bytes behind its start and means `target`. The edges
 * are met to the byte, or missed by one.
 */
export function placeOfCode(distance: Distance, target: bigint, end: number, random: number): Place {
  const place = (to: bigint): Place => ({ to, data: DATA })
  const off = BigInt(random & 3)
  const at = (displacement: bigint): Place => place(target - BigInt(end) - displacement)
  if (distance === 'near') return place(HOME - 0x10_0000n + off)
  if (distance === 'inside below') return at(EDGE - 1n - off)
  if (distance === 'outside below') return at(EDGE + off)
  if (distance === 'inside above') return at(-EDGE + off)
  if (distance === 'outside above') return at(-EDGE - 1n - off)
  return place(FAR[distance] + off)
}

/**
 * Where code and data go whose absolute field is at its limit, `bits` wide: the operand lies `offset` bytes
 * into the data, aligned to `step`.
 */
export function placeOfData(
  distance: Distance,
  offset: number,
  bits: 31 | 32,
  step: number,
  random: number,
): Place {
  const to = [LOW_NEAR, FAR.far, FAR.farthest][random % 3] + BigInt((random >> 2) & 3)
  const limit = 1n << BigInt(bits)
  const off = BigInt(step * ((random >> 4) & 3))
  if (distance === 'near') return { to: LOW_NEAR, data: LOW_NEAR_DATA }
  // There is no lower limit in a process: "above" is nearer to the code's far places.
  if (distance.startsWith('inside'))
    return { to, data: limit - BigInt(step + offset) - (distance === 'inside below' ? 0n : off) }
  if (distance.startsWith('outside'))
    return { to, data: limit - BigInt(offset) + (distance === 'outside below' ? 0n : off) }
  return { to, data: FAR_DATA[distance as keyof typeof FAR_DATA] }
}

/** Where veneers go: mostly behind the code, else where there is room. */
export function veneerPlace(to: bigint, random: number): bigint | undefined {
  if (random % 4 !== 0) return undefined
  if (to >= FAR.far && to < FAR.far + BYTES(1) && (random & 16) !== 0)
    return FAR_VENEERS + BigInt((random >> 8) & 255)
  return to + 64n + BigInt((random >> 8) & 255)
}
