import { describe, expect, it } from 'vitest'
import { CodeHeap } from '../../src/heap/heap.ts'
import type { Block, CodeHandle } from '../../src/heap/object.ts'
import { simulatedMemory } from '../../src/heap/simulated.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'

const BASE = 0x1000n
const HEAP = 0x4000_0000n
const MANAGED = { start: 0x5000_0000n, length: 0x1000 }

/**
 * A filler, a callee, and an object that holds: its own address, the callee's twice, a distance to what stays, a root.
 */
function heapOfThree() {
  const memory = simulatedMemory<Block>({ base: HEAP, size: 1 << 16 })
  const heap = new CodeHeap(memory, { managed: [MANAGED] })
  const data = (length: number, name: string): CodeHandle => {
    const bytes = new Uint8Array(length)
    const moved = heap.moved(0x8000n, length)
    const table = RelocationTable.fromSites([], { code: bytes, base: 0x8000n, moved, runs: [] })
    return heap.add({ bytes, base: 0x8000n, table, name })
  }
  const filler = data(100, 'filler')
  const callee = data(40, 'callee')
  const code = new Uint8Array(48)
  const view = new DataView(code.buffer)
  view.setBigUint64(0, BASE + 8n, true)
  view.setBigUint64(8, heap.entry(callee) + 4n, true)
  view.setInt32(16, Number(heap.entry(callee) - BASE) - 20, true)
  view.setInt32(20, Number(0x2000_0000n - BASE) - 24, true)
  view.setBigUint64(24, MANAGED.start + 16n, true)
  const sites: SiteInput[] = [
    { kind: 'abs64', offset: 0 },
    { kind: 'abs64', offset: 8 },
    { kind: 'pc32', offset: 16 },
    { kind: 'pc32', offset: 20 },
    { kind: 'abs64', offset: 24 },
  ]
  const moved = heap.moved(BASE, code.length)
  const table = RelocationTable.fromSites(sites, { code, base: BASE, moved, runs: [] })
  const handle = heap.add({ bytes: code, base: BASE, table, name: 'frozen one', entries: [0] })
  const look = () => {
    const at = heap.entry(handle)
    const bytes = new DataView(memory.bytes.buffer, Number(at - HEAP), 48)
    return {
      own: bytes.getBigUint64(0, true) - at,
      absolute: bytes.getBigUint64(8, true) - heap.entry(callee),
      relative: at + 20n + BigInt(bytes.getInt32(16, true)) - heap.entry(callee),
      fixed: at + 24n + BigInt(bytes.getInt32(20, true)),
      root: bytes.getBigUint64(24, true),
    }
  }
  return { heap, memory, filler, callee, handle, look }
}

const RIGHT = { own: 8n, absolute: 4n, relative: 0n, fixed: 0x2000_0000n, root: MANAGED.start + 16n }

describe('a frozen object', () => {
  it('stays for good, follows what moves, and can be freed', () => {
    const { heap, filler, callee, handle, look } = heapOfThree()
    expect(look()).toEqual(RIGHT)
    heap.freeze(handle)
    const at = heap.entry(handle)
    heap.free(filler)
    const { moves, kept } = heap.compact()
    expect(moves.map((move) => move.handle.name)).toEqual(['callee'])
    expect(kept).toEqual([{ handle, reason: 'frozen' }])
    expect(heap.entry(handle)).toBe(at)
    heap.patchRoot(handle, 0, MANAGED.start + 32n)
    heap.move(callee, { mode: 'drain' })
    expect(look()).toEqual({ ...RIGHT, root: MANAGED.start + 32n })
    expect(heap.verify()).toEqual([])
    expect(heap.describe()).toContain('stays: frozen')
    expect(() => heap.move(handle)).toThrow(/frozen one does not move: frozen/)
    heap.free(handle, callee)
    expect(heap.verify()).toEqual([])
  })

  it('is not made of what still runs elsewhere, nor of what is not itself', () => {
    const { heap, memory, handle, look } = heapOfThree()
    const release = heap.hold()
    heap.move(handle, { mode: 'drain' })
    expect(() => heap.freeze(handle)).toThrow(expect.objectContaining({ code: 'refused' }))
    release()
    memory.bytes[Number(heap.entry(handle) - HEAP) + 40] ^= 1
    expect(() => heap.freeze(handle)).toThrow(expect.objectContaining({ code: 'not-verified' }))
    memory.bytes[Number(heap.entry(handle) - HEAP) + 40] ^= 1
    heap.freeze(handle)
    expect(look()).toEqual(RIGHT)
    expect(heap.verify()).toEqual([])
  })
})
