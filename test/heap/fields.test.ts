import { describe, expect, it } from 'vitest'
import { CodeHeap, type HeapOptions } from '../../src/heap/heap.ts'
import type { Block, CodeHandle } from '../../src/heap/object.ts'
import { simulatedMemory } from '../../src/heap/simulated.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'

const BASE = 0x1000n

function heapAt(base: bigint, size: number, options: HeapOptions = {}) {
  const memory = simulatedMemory<Block>({ base, size })
  const heap = new CodeHeap(memory, options)
  const add = (code: Uint8Array, sites: SiteInput[], at = BASE): CodeHandle => {
    const moved = heap.moved(at, code.length)
    return heap.add({
      bytes: code,
      base: at,
      table: RelocationTable.fromSites(sites, { code, base: at, moved, runs: [] }),
    })
  }
  const view = (handle: CodeHandle): DataView =>
    new DataView(memory.bytes.buffer, Number(heap.entry(handle) - base))
  return { heap, add, view }
}

describe('fields whose kind looks at more than their value', () => {
  it('eip32: its target stays below 2^32, wherever it was made for', () => {
    const base = 0xffff_0000n
    const { heap, add, view } = heapAt(base, 0x20000)
    // lea rax, [eip + 8], which is at offset 16
    const code = new Uint8Array(24)
    code.set([0x67, 0x48, 0x8d, 0x05, 8, 0, 0, 0, 0xc3])
    const handle = add(code, [{ offset: 4, kind: 'eip32' }])
    heap.move(handle, { to: base + 0x8000n })
    expect(() => heap.move(handle, { to: base + 0x10000n })).toThrow(/eip32/)
    // Its last bytes are above, what it refers to is the last place below.
    expect(() => heap.move(handle, { to: base + 0xfff0n })).toThrow(
      expect.objectContaining({ code: 'refused' }),
    )
    heap.move(handle, { to: base + 0xffe0n })
    expect(view(handle).getInt32(4, true)).toBe(8)
    expect(heap.verify()).toEqual([])
  })

  it.each(['slide', 'drain'] as const)('xor pieces hold an address under a key that stays: %s', (mode) => {
    const base = 0x7f12_3456_0000n
    const key = 0x1234_5678_9abc_def0n
    const { heap, add, view } = heapAt(base, 0x20000)
    const callee = add(new Uint8Array(40), [], 0x8000n)
    const code = new Uint8Array(64)
    const piece = (offset: number, shift: number) => ({ offset, width: 4, shift, operation: 'xor' }) as const
    const put = (at: number, value: bigint): void => {
      const bytes = new DataView(code.buffer)
      bytes.setUint32(at, Number((value ^ key) & 0xffff_ffffn), true)
      bytes.setUint32(at + 8, Number((value ^ key) >> 32n), true)
    }
    put(0, BASE + 0x20n)
    put(20, heap.entry(callee) + 4n)
    const site = (at: number, target: bigint): SiteInput => ({
      kind: 'split',
      pieces: [piece(at, 0), piece(at + 8, 32)],
      target,
    })
    const handle = add(code, [site(0, BASE + 0x20n), site(20, heap.entry(callee) + 4n)])
    const held = (at: number): bigint =>
      (BigInt(view(handle).getUint32(at, true)) | (BigInt(view(handle).getUint32(at + 8, true)) << 32n)) ^ key
    const check = (): void => {
      expect(held(0)).toBe(heap.entry(handle) + 0x20n)
      expect(held(20)).toBe(heap.entry(callee) + 4n)
      expect(heap.verify()).toEqual([])
    }
    check()
    heap.move(handle, { mode, to: base + 0x1_0000n })
    check()
    heap.move(callee, { mode, to: base + 0x1_8ff0n })
    check()
    heap.compact({ mode })
    check()
  })
})
