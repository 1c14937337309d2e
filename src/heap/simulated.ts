/** Memory at any address, as plain bytes: deterministic, nothing of the machine in it. */
import { type AddressLike, toAddress, toOffset } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { checkFunction, optional, optionsRule } from '../core/options.ts'
import { CheckedWriter, type CodeWriter, checkReservation, type HeapMemory, POISON } from './memory.ts'
import { type Extent, Registry } from './registry.ts'

export interface SimulatedOptions {
  /** Address of byte 0, a multiple of 4096. */
  readonly base: AddressLike
  /** Bytes, whole pages. */
  readonly size: number
  /** What a call does; without it, code cannot be called. */
  readonly call?: ((address: bigint, args: readonly bigint[]) => bigint) | undefined
}

const checkOptions = optionsRule<SimulatedOptions>('simulatedMemory', {
  base: toAddress,
  size: toOffset,
  call: optional(checkFunction),
})

/** A reservation that is an array. Throws `bad-argument`. */
export function simulatedMemory<T extends Extent>(options: SimulatedOptions): HeapMemory<T> {
  const base = toAddress(checkOptions(options).base, 'base')
  checkReservation(base, options.size)
  const bytes = new Uint8Array(options.size).fill(POISON)
  const registry = new Registry<T>(options.size)
  let writing = false
  return {
    base,
    size: options.size,
    registry,
    bytes,
    committed: options.size,
    write<R>(from: number, to: number, work: (writer: CodeWriter) => R): R {
      if (writing) throw new RelocError('bad-argument', 'A write scope is open: scopes do not nest.')
      writing = true
      const writer = new CheckedWriter(registry, bytes.subarray(from, to), from, to)
      try {
        return work(writer)
      } finally {
        writer.close()
        writing = false
      }
    },
    ...(options.call === undefined ? {} : { call: options.call }),
    close(): void {},
  }
}
