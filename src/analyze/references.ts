/**
 * Where the relative operands of a linear reading point. The reading gives starts and fields; the end of an instruction is the next
 * start, so the targets follow without decoding anything again:
 *
 *     target = next start + displacement;  1 byte behind the field: rel8, else a 4-byte displacement (with an immediate behind it, maybe)
 *
 * A RIP operand's field follows a ModRM byte of mod 0, rm 5; no branch opcode looks like one.
 */
import { isSelfLabelAt } from './got.ts'

export interface References {
  /** Operands that stay inside the blob. */
  readonly count: number
  /** Starts of their instructions. */
  readonly sources: Int32Array
  /** Targets; as -1 - target for those that are read or written as data. */
  readonly targets: Int32Array
  /** Starts of the instructions that point outside, and distances from the base of where. */
  readonly outsideSources: Uint32Array
  readonly outsideTargets: Float64Array
  /** Those of them that have a field of one byte: compiled code does not leave a blob by a short branch. */
  readonly shortOutside: readonly number[]
  /** Starts of what needs a look for other reasons: 66-prefixed branches, EIP operands. */
  readonly odd: readonly number[]
  /** Starts of what looks like an indirect jump. */
  readonly jumps: readonly number[]
  /** Number of instructions that take the address of the code they are in, before a movabs. */
  readonly selfLabels: number
}

/** Whether the byte before a relative field is the ModRM byte of a RIP operand, not a branch's opcode. */
const isRipModrm = (byte: number): boolean => (byte & 0xc7) === 5

/** Whether FF /4 is at `start`, with up to two prefixes (REX, notrack, bnd) before it or not. */
export function isIndirectJump(code: Uint8Array, start: number): boolean {
  let at = start
  for (const last = start + 2; at < last && code[at] !== 0xff; at++)
    if ((code[at] & 0xf0) !== 0x40 && code[at] !== 0x3e && code[at] !== 0xf2) return false
  return code[at] === 0xff && (code[at + 1] & 0x38) === 0x20
}

/** The references of a reading of `code`; `span` is the moved range's length. */
export function findReferences(
  code: Uint8Array,
  span: number,
  starts: Uint32Array,
  sites: Uint32Array,
): References {
  const view = new DataView(code.buffer, code.byteOffset, code.length)
  const sources = new Int32Array(sites.length)
  const targets = new Int32Array(sites.length)
  const outsideSources = new Uint32Array(sites.length)
  const outsideTargets = new Float64Array(sites.length)
  const shortOutside: number[] = []
  const odd: number[] = []
  const jumps: number[] = []
  let count = 0
  let outsideCount = 0
  let selfLabels = 0
  for (let i = 0, s = 0; i < starts.length; i++) {
    const start = starts[i] | 0
    if (
      (code[start] === 0xff || code[start + 1] === 0xff || code[start + 2] === 0xff) &&
      isIndirectJump(code, start)
    )
      jumps.push(start)
    const next = i + 1 < starts.length ? starts[i + 1] | 0 : code.length
    if (s === sites.length || sites[s] >= next) continue
    const field = sites[s++] | 0
    const rip = isRipModrm(code[field - 1])
    // Past a gap of the reading the next start is no end; such places are rejected ones, and looked at anyway.
    const size = next - field
    if (size === 2 || code[start] === 0x66 || code[start] === 0x67) odd.push(start)
    const target =
      next + (size === 1 ? view.getInt8(field) : field + 4 <= code.length ? view.getInt32(field, true) : 0)
    if (target < 0 || target >= span) {
      outsideSources[outsideCount] = start
      outsideTargets[outsideCount++] = target
      if (size === 1) shortOutside.push(start)
      continue
    }
    const lea = rip && code[field - 2] === 0x8d
    if (lea && isSelfLabelAt(code, start, next, target)) selfLabels++
    if (lea || target >= code.length) continue
    sources[count] = start
    targets[count++] = rip ? -1 - target : target
  }
  return {
    count,
    sources,
    targets,
    outsideSources: outsideSources.subarray(0, outsideCount),
    outsideTargets: outsideTargets.subarray(0, outsideCount),
    shortOutside,
    odd,
    jumps,
    selfLabels,
  }
}
