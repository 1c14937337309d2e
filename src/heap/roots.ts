/**
 * Roots: the managed addresses that an object's code holds. The table beside the code says what they are, the
 * code is a copy of it; the set is fixed when the object is added.
 */
import { readField, viewOf, writeField } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { fieldValue, KIND_ROWS } from '../table/kinds.ts'
import type { SplitPiece } from '../table/site.ts'
import { joinPieces, movedValue, solvePieces, writePieces } from '../table/split.ts'
import { addNarrow, addWord, measureFields, viewFrom } from './fields.ts'
import type { Block } from './object.ts'
import type { HeapState } from './state.ts'

/** A field that holds a managed address, or its distance from a place in the code. */
export interface RootField {
  /** Kind code. */
  readonly kind: number
  readonly offset: number
  /** `split` only. */
  readonly pieces?: readonly SplitPiece[] | undefined
}

/** One managed address; all fields that hold it change together. */
export class Root {
  readonly fields: readonly RootField[]
  #address: bigint
  /** Of its negative, as two unsigned numbers of 32 bits. */
  low = 0
  high = 0

  constructor(address: bigint, fields: readonly RootField[]) {
    this.fields = fields
    this.#address = this.address = address
  }

  /** The truth; the fields follow it. */
  get address(): bigint {
    return this.#address
  }

  set address(address: bigint) {
    this.#address = address
    const negative = BigInt.asUintN(64, -address)
    this.low = Number(negative & 0xffff_ffffn)
    this.high = Number(negative >> 32n)
  }
}

/**
 * The writes that let the fields of `root` follow it to `to`: pairs of offset and new bytes. Nothing is written.
 * Throws `refused` where a field cannot hold it.
 */
export function planRoot(
  bytes: Uint8Array,
  root: Root,
  to: bigint,
): { readonly offset: number; readonly width: number; readonly bits: bigint }[] {
  const view = viewOf(bytes)
  const change = BigInt.asIntN(64, to - root.address)
  const refused = (limit: string, offset: number): RelocError =>
    new RelocError(
      'refused',
      `The root 0x${root.address.toString(16)} cannot become 0x${to.toString(16)}: the field at offset ${offset} does not hold it; ${limit}.`,
    )
  return root.fields.flatMap((field) => {
    if (field.pieces !== undefined) {
      const solved = solvePieces(view, field.pieces, root.address, change)
      if (solved === undefined) throw refused('its pieces are too narrow', field.offset)
      return field.pieces.map(({ offset, width }, i) => ({ offset, width, bits: solved[i] }))
    }
    const row = KIND_ROWS[field.kind]
    const bits = readField(view, field.offset, row.width)
    const value = fieldValue(row, bits) + change
    const judged = row.rule === 'target' ? to : value
    if (row.rule !== 'any' && (judged < row.min || judged > row.max)) throw refused(row.limit, field.offset)
    return [{ offset: field.offset, width: row.width, bits: value }]
  })
}

/**
 * Takes the root's address out of its fields in an object's bytes, at `at` of `view`: what is left is the
 * same wherever it points.
 */
export function normaliseRoot(view: DataView, at: number, root: Root): void {
  for (const { kind, offset, pieces } of root.fields) {
    if (pieces !== undefined) {
      const bytes = viewFrom(view, at)
      const rest = movedValue(joinPieces(bytes, pieces), pieces, root.address, -root.address)
      writePieces(
        bytes,
        pieces,
        pieces.map(({ shift, width }) => BigInt.asUintN(8 * width, rest >> BigInt(shift))),
      )
    } else if (KIND_ROWS[kind].width === 8) addWord(view, at + offset, root.low, root.high)
    else addNarrow(view, at + offset, KIND_ROWS[kind].width, root.low)
  }
}

/**
 * Changes roots and every field that holds one, in every block: all or none. Throws `refused`, also for a
 * root among `held`.
 */
export function changeRoots(
  state: HeapState,
  changes: ReadonlyMap<Root, bigint>,
  held: ReadonlySet<Root>,
): void {
  const images: { readonly block: Block; readonly code: Uint8Array }[] = []
  for (const block of state.memory.registry) {
    const changed = block.object.roots.filter((root) => changes.has(root))
    if (changed.length === 0) continue
    if (changed.some((root) => held.has(root)))
      throw new RelocError(
        'refused',
        `${block.object.handle.name} builds a root from several pieces, and code stands, or may stand, among them, or it holds one in a field that is not written at once, and may be running: \`heldRoots\` says which roots stay for now.`,
      )
    const code = state.wholeOf(block).slice()
    const view = viewOf(code)
    for (const root of changed)
      for (const { offset, width, bits } of planRoot(code, root, changes.get(root)!))
        writeField(view, offset, width, bits)
    images.push({ block, code })
  }
  if (images.length === 0) return
  const first = images[0].block
  const last = images[images.length - 1].block
  state.memory.write(first.position, last.position + last.size, (writer) => {
    for (const [root, to] of changes) root.address = to
    for (const { block, code } of images) {
      if (state.holds > 0) writer.patch(block.position, code)
      else writer.write(block.position, code.subarray(0, block.length))
      measureFields(block.fields, code, { place: block.position, shift: 0, links: block.links })
    }
  })
}
