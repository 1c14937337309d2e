/**
 * Applies a plan: a copy, then one tight loop per group. It decides nothing; every value has been checked by the plan.
 *
 * Each loop is its own function over one field type, so that it stays monomorphic; 64-bit values are added as two 32-bit
 * halves with a carry. Fields have any alignment, which is what DataView is for.
 */
import { viewOf } from '../core/bytes.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import { writePieces } from '../table/split.ts'
import type { Plan } from './plan.ts'

/** Copies `code` into `into` (they may be the same memory, or overlap) and changes what the plan says. */
export function applyPlan(plan: Plan, code: Uint8Array, into: Uint8Array): void {
  if (into.buffer !== code.buffer || into.byteOffset !== code.byteOffset) into.set(code)
  const view = viewOf(into)
  for (const { group, change } of plan.groups) {
    if (change === 0n) continue
    switch (KIND_ROWS[group.kind].width) {
      case 1:
        add8(view, group.offsets, Number(change))
        break
      case 2:
        add16(view, group.offsets, Number(change))
        break
      case 4:
        add32(view, group.offsets, Number(BigInt.asIntN(32, change)))
        break
      default:
        add64(
          view,
          group.offsets,
          Number(BigInt.asUintN(32, change)),
          Number(BigInt.asIntN(32, change >> 32n)),
        )
    }
  }
  for (const { split, bits } of plan.splits) writePieces(view, split.pieces, bits)
  for (const { offset, bytes } of plan.veneers?.patches ?? []) into.set(bytes, offset)
}

function add8(view: DataView, offsets: Uint32Array, change: number): void {
  for (let i = 0; i < offsets.length; i++) view.setInt8(offsets[i], view.getInt8(offsets[i]) + change)
}

function add16(view: DataView, offsets: Uint32Array, change: number): void {
  for (let i = 0; i < offsets.length; i++)
    view.setInt16(offsets[i], view.getInt16(offsets[i], true) + change, true)
}

function add32(view: DataView, offsets: Uint32Array, change: number): void {
  for (let i = 0; i < offsets.length; i++) {
    const offset = offsets[i]
    view.setInt32(offset, (view.getInt32(offset, true) + change) | 0, true)
  }
}

function add64(view: DataView, offsets: Uint32Array, low: number, high: number): void {
  for (let i = 0; i < offsets.length; i++) {
    const offset = offsets[i]
    const sum = view.getUint32(offset, true) + low
    view.setInt32(offset, sum | 0, true)
    view.setInt32(
      offset + 4,
      (view.getInt32(offset + 4, true) + high + (sum >= 0x1_0000_0000 ? 1 : 0)) | 0,
      true,
    )
  }
}
