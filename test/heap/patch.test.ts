import { describe, expect, it } from 'vitest'
import { CodeHeap } from '../../src/heap/heap.ts'
import type { HeapMemory } from '../../src/heap/memory.ts'
import type { Block } from '../../src/heap/object.ts'
import { simulatedMemory } from '../../src/heap/simulated.ts'
import { RelocationTable } from '../../src/table/table.ts'

const HEAP = 0x4000_0000n
const BASE = 0x1000n

/** Memory that notes the positions of what is written, and of what is patched. */
function watched(): {
  readonly memory: HeapMemory<Block>
  readonly written: number[]
  readonly patched: number[]
} {
  const memory = simulatedMemory<Block>({ base: HEAP, size: 1 << 16 })
  const [written, patched]: [number[], number[]] = [[], []]
  return {
    written,
    patched,
    memory: {
      ...memory,
      write: (from, to, work) =>
        memory.write(from, to, (writer) =>
          work({
            poison: (position, size) => writer.poison(position, size),
            write: (position, bytes) => {
              written.push(position)
              writer.write(position, bytes)
            },
            patch: (position, bytes) => {
              patched.push(position)
              writer.patch(position, bytes)
            },
          }),
        ),
    },
  }
}

describe('code that may be running in another thread', () => {
  it.each(Array.from({ length: 12 }, (_, offset) => offset))(
    'follows its callee by one store, or the callee stays: a field at offset %i',
    (offset) => {
      const { memory, written, patched } = watched()
      const heap = new CodeHeap(memory)
      const callee = heap.add({ bytes: Uint8Array.of(0xc3), base: BASE, name: 'callee' })
      const code = new Uint8Array(48).fill(0x90)
      const view = new DataView(code.buffer)
      view.setInt32(offset, Number(heap.entry(callee) - BASE) - offset - 4, true)
      const moved = heap.moved(BASE, code.length)
      const table = RelocationTable.fromSites([{ kind: 'pc32', offset }], {
        code,
        base: BASE,
        moved,
        runs: [],
      })
      const caller = heap.add({ bytes: code, base: BASE, table, name: 'caller' })
      const at = Number(heap.entry(caller) - HEAP)
      const target = (): bigint =>
        heap.entry(caller) + BigInt(offset + 4 + new DataView(memory.bytes.buffer, at).getInt32(offset, true))
      const release = heap.hold()
      written.length = 0
      const goes = (offset % 8) + 4 <= 8
      if (goes) heap.move(callee, { mode: 'drain', to: HEAP + 0x8000n })
      else
        expect(() => heap.move(callee, { mode: 'drain' })).toThrow(/not written at once, and may be running/)
      expect(patched).toEqual(goes ? [at] : [])
      expect(written).toEqual(goes ? [0x8000] : [])
      expect(target()).toBe(heap.entry(callee))
      release()
      heap.move(callee, { to: HEAP + 0x4000n })
      expect(target()).toBe(HEAP + 0x4000n)
      expect(patched.length).toBe(goes ? 1 : 0)
      expect(heap.verify()).toEqual([])
    },
  )
})
