/** What has to follow the code outside the heap, and how it is told. */
import type { CodeHandle } from './object.ts'
import type { HeapState } from './state.ts'
import type { MovedObject } from './transaction.ts'

/** A move that was made; addresses. */
export interface CodeMove {
  readonly handle: CodeHandle
  readonly from: bigint
  readonly to: bigint
  /** Bytes of code. */
  readonly length: number
}

/** What follows the code: a profiler's map, unwind tables. All calls are required: a table that hears of no move is wrong. */
export interface SideTable {
  /** After an object was added; `code` is not to be kept. */
  onAdd(added: { readonly handle: CodeHandle; readonly address: bigint; readonly code: Uint8Array }): void
  /** After moves, all of one transaction. */
  onMove(moves: readonly CodeMove[]): void
  /** Once for each object, when its last byte is given back. */
  onDealloc(handle: CodeHandle): void
}

/** Tells all side tables. What is told has been done, whatever one of them throws; the first error is thrown when all were told. */
export class SideTables {
  readonly #tables: readonly SideTable[]

  constructor(tables: readonly SideTable[]) {
    this.#tables = tables
  }

  tell(what: (table: SideTable) => void): void {
    const errors: unknown[] = []
    for (const table of this.#tables)
      try {
        what(table)
      } catch (error) {
        errors.push(error)
      }
    if (errors.length > 0) throw errors[0]
  }

  /** Of moves that are made. Returns them as addresses. */
  tellMoves(state: HeapState, moved: readonly MovedObject[]): CodeMove[] {
    const { base } = state.memory
    const moves = moved.map(({ object, from, to }) => ({
      handle: object.handle,
      from: base + BigInt(from),
      to: base + BigInt(to),
      length: object.length,
    }))
    if (moves.length > 0) this.tell((table) => table.onMove(moves))
    return moves
  }
}
