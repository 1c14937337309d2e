/** What has to follow the code outside the heap, and how it is told. */
import { isRecord, type Rule, wrongArgument } from '../core/options.ts'
import type { Block, CodeHandle } from './object.ts'

/** A move that was made; addresses. */
export class CodeMove {
  readonly handle: CodeHandle
  /** Bytes of code. */
  readonly length: number
  readonly #base: bigint
  readonly #from: number
  readonly #to: number

  /** @internal @param from a position, as `to` is: few ask for the addresses of ten thousand moves */
  constructor({ handle, length, position }: Block, to: number, base: bigint) {
    this.handle = handle
    this.length = length
    this.#base = base
    this.#from = position
    this.#to = to
  }

  get from(): bigint {
    return this.#base + BigInt(this.#from)
  }

  get to(): bigint {
    return this.#base + BigInt(this.#to)
  }
}

/**
 * What follows the code: a profiler's map, unwind tables. All calls are required: a table that hears of no
 * move is wrong.
 */
export interface SideTable {
  /** After an object was added; `code` is not to be kept. */
  onAdd(added: { readonly handle: CodeHandle; readonly address: bigint; readonly code: Uint8Array }): void
  /** After moves, all of one transaction. */
  onMove(moves: readonly CodeMove[]): void
  /** Once for each object, when its last byte is given back. */
  onDealloc(handle: CodeHandle): void
}

const CALLS = ['onAdd', 'onMove', 'onDealloc'] as const

export const checkSideTable: Rule<SideTable> = (value, what) => {
  if (!isRecord(value) || CALLS.some((call) => typeof value[call] !== 'function'))
    throw wrongArgument(value, what, `an object with the functions ${CALLS.join(', ')}`)
}

/**
 * Tells all side tables. What is told has been done, whatever one of them throws; the first error is thrown
 * when all were told.
 */
export class SideTables {
  readonly #tables: readonly SideTable[]

  constructor(tables: readonly SideTable[]) {
    this.#tables = tables
  }

  tell(events: readonly ((table: SideTable) => void)[]): void {
    const errors: unknown[] = []
    for (const event of events)
      for (const table of this.#tables)
        try {
          event(table)
        } catch (error) {
          errors.push(error)
        }
    if (errors.length > 0) throw errors[0]
  }
}
