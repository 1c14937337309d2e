/** The branch in an instruction's place and the veneer that it goes to. */
import type { VeneerArea } from './emit.ts'

/** What veneers may use. */
export interface FarRules {
  /** Bytes below rsp that belong to the running function. */
  readonly redZone: 0 | 128
  /** A register that no veneer of an indirect call or jump need preserve. */
  readonly scratch: 'r11' | undefined
}

/** A field that is out of reach, and where its instruction is. */
export interface FarField {
  /** Of the field, from the instruction's first byte. */
  readonly at: number
  /** What it shall stand for. */
  readonly target: bigint
  /** Offset of the instruction from the area's start, at its new place. */
  readonly place: number
}

/** Why there is no far form: a clause, and what the caller can do. */
export interface NoFarForm {
  readonly reason: string
  readonly remedy: string
}

/** A call or jump to the veneer at `start`, as long as `length` bytes: 67h does nothing to either. */
export function branchTo(
  area: VeneerArea,
  opcode: number,
  place: number,
  length: number,
  start: number,
): Uint8Array {
  const patch = new Uint8Array(length).fill(0x67)
  patch[length - 5] = opcode
  area.referToVeneer(patch, length - 4, place + length, start)
  return patch
}

/** A veneer that does `emit` and comes back behind the instruction; returns the jump to it. */
export function detour(area: VeneerArea, place: number, length: number, emit: () => void): Uint8Array {
  const start = area.length
  emit()
  area.emitJump(place + length)
  area.end(start)
  return branchTo(area, 0xe9, place, length, start)
}
