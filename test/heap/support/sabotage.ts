/** Ways to break a heap, which its invariants and the results of its code must show. */
import type { CodeWriter, HeapMemory } from '../../../src/heap/memory.ts'
import type { Block } from '../../../src/heap/object.ts'
import type { StackAccess } from '../../../src/heap/stack.ts'

/** A way to break the heap; each must be caught. */
export const SABOTAGES = ['inbound', 'root', 'return-address', 'dealloc-twice', 'reuse-before-drain'] as const
export type Sabotage = (typeof SABOTAGES)[number]

/** Memory that does one thing wrong, now and then. */
export function sabotaged(memory: HeapMemory<Block>, sabotage: Sabotage | undefined): HeapMemory<Block> {
  if (sabotage !== 'inbound' && sabotage !== 'root' && sabotage !== 'return-address') return memory
  const write = <R>(from: number, to: number, work: (writer: CodeWriter) => R): R => {
    const before = new Map([...memory.registry].map((block) => [block, block.position]))
    return memory.write(from, to, (writer) =>
      work({
        poison: (position, size) => writer.poison(position, size),
        patch: (position, bytes) => {
          if (sabotage !== 'inbound') writer.patch(position, bytes)
        },
        write: (position, bytes) => {
          // A block that stays and is written all the same: its roots changed (code alone), or its referents
          // moved (whole granules, of its neighbours too).
          const block = memory.registry.find(position)
          const stays = block !== undefined && before.get(block) === position
          if (stays && (sabotage === 'root') === (bytes.length === block.object.length)) return
          writer.write(position, bytes)
        },
      }),
    )
  }
  const stack: StackAccess | undefined =
    memory.stack === undefined || sabotage !== 'return-address'
      ? memory.stack
      : { ...memory.stack, write: () => undefined }
  return {
    base: memory.base,
    size: memory.size,
    registry: memory.registry,
    bytes: memory.bytes,
    get committed() {
      return memory.committed
    },
    write: sabotage === 'return-address' ? (from, to, work) => memory.write(from, to, work) : write,
    ...(memory.call === undefined ? {} : { call: (address, args) => memory.call!(address, args) }),
    ...(memory.callback === undefined
      ? {}
      : { callback: (callee, arity) => memory.callback!(callee, arity) }),
    ...(stack === undefined ? {} : { stack }),
    close: () => memory.close(),
  }
}
