import { describe, expect, it } from 'vitest'
import { CodeHeap } from '../../src/heap/heap.ts'
import type { HeapMemory } from '../../src/heap/memory.ts'
import type { Block, CodeHandle } from '../../src/heap/object.ts'
import { simulatedMemory } from '../../src/heap/simulated.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'

const BASE = 0x1000n
const HEAP = 0x4000_0000n
const MANAGED = { start: 0x5000_0000n, length: 0x1_0000 }
const ROOT = MANAGED.start + 0x1234n
const OTHER = MANAGED.start + 0x8000n

/** ROOT three times (8 bytes, 4 bytes, two halves at 16 and 24), OTHER once. */
function heapWithRoots(): {
  readonly heap: CodeHeap
  readonly handle: CodeHandle
  readonly code: () => DataView
} {
  const memory = simulatedMemory<Block>({ base: HEAP, size: 1 << 16 })
  const heap = new CodeHeap(memory, { managed: [MANAGED] })
  const code = new Uint8Array(40)
  const view = new DataView(code.buffer)
  view.setBigUint64(0, ROOT, true)
  view.setUint32(8, Number(ROOT), true)
  view.setUint32(16, Number(ROOT & 0xffff_ffffn), true)
  view.setUint32(24, Number(ROOT >> 32n), true)
  view.setBigUint64(32, OTHER, true)
  const piece = (offset: number, shift: number) => ({ offset, width: 4, shift, operation: 'or' }) as const
  const sites: SiteInput[] = [
    { kind: 'abs64', offset: 0 },
    { kind: 'abs32', offset: 8 },
    { kind: 'split', pieces: [piece(16, 0), piece(24, 32)] },
    { kind: 'abs64', offset: 32 },
  ]
  const moved = heap.moved(BASE, code.length)
  const table = RelocationTable.fromSites(sites, { code, base: BASE, moved, runs: [] })
  const handle = heap.add({ bytes: code, base: BASE, table })
  return {
    heap,
    handle,
    code: () => new DataView(memory.bytes.buffer, Number(heap.entry(handle) - HEAP), 40),
  }
}

describe('roots', () => {
  it('are each address once, and every field that holds one follows it, wherever the code is', () => {
    const { heap, handle, code } = heapWithRoots()
    expect(heap.roots(handle)).toEqual([ROOT, OTHER])
    heap.patchRoot(handle, 0, 0xfedc_ba98n)
    heap.move(handle)
    expect(heap.roots(handle)).toEqual([0xfedc_ba98n, OTHER])
    expect(code().getBigUint64(0, true)).toBe(0xfedc_ba98n)
    expect(code().getUint32(8, true)).toBe(0xfedc_ba98)
    expect([code().getUint32(16, true), code().getUint32(24, true)]).toEqual([0xfedc_ba98, 0])
    expect(code().getBigUint64(32, true)).toBe(OTHER)
    expect(heap.verify()).toEqual([])
  })

  it('change all or none', () => {
    const { heap, handle, code } = heapWithRoots()
    const before = new Uint8Array(code().buffer.slice(0))
    // The 4-byte field cannot follow; the others could.
    expect(() => heap.patchRoot(handle, 0, 0x1_0000_0000n)).toThrow(/offset 8 does not hold it/)
    const far = (root: bigint): bigint => root + (root === ROOT ? 0x1_0000_0000n : 16n)
    expect(() => heap.forwardRoots(far)).toThrow(expect.objectContaining({ code: 'refused' }))
    expect(new Uint8Array(code().buffer.slice(0))).toEqual(before)
    expect(heap.roots(handle)).toEqual([ROOT, OTHER])
    expect(heap.forwardRoots((root) => (root === OTHER ? root + 16n : root))).toBe(1)
    expect(heap.forwardRoots((root) => root)).toBe(0)
    expect(heap.verify()).toEqual([])
    expect(() => heap.patchRoot(handle, 2, 0n)).toThrow(/has 2 roots, there is no root 2/)
  })

  it('in pieces stay while code stands among them: by words, or anywhere where nobody knows', () => {
    const { heap, handle } = heapWithRoots()
    const at = heap.entry(handle)
    const held = (offset: bigint): bigint[] => heap.heldRoots({ words: [at + offset] })
    const offsets = Array.from({ length: 41 }, (_, i) => i).filter((i) => held(BigInt(i)).length > 0)
    expect(offsets).toEqual([17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28])
    expect(held(20n)).toEqual([ROOT])
    expect(() => heap.patchRoot(handle, 0, ROOT + 8n, { words: [0n, at + 20n] })).toThrow(/stands/)
    heap.patchRoot(handle, 1, OTHER + 8n, { words: [at + 20n] })
    const release = heap.hold()
    expect(heap.heldRoots()).toEqual([ROOT])
    expect(() => heap.forwardRoots((root) => root + 16n)).toThrow(
      expect.objectContaining({ code: 'refused' }),
    )
    expect(heap.forwardRoots((root) => root + 16n, { words: [at, at + 29n] })).toBe(2)
    release()
    expect(heap.heldRoots()).toEqual([])
    expect(heap.roots(handle)).toEqual([ROOT + 16n, OTHER + 24n])
    expect(heap.verify()).toEqual([])
  })

  it.each(Array.from({ length: 8 }, (_, offset) => offset))(
    'change by one store where code may be running, or not at all: a field at offset %i',
    (offset) => {
      const patched: number[] = []
      const memory = simulatedMemory<Block>({ base: HEAP, size: 1 << 16 })
      const watched: HeapMemory<Block> = {
        ...memory,
        write: (from, to, work) =>
          memory.write(from, to, (writer) =>
            work({
              poison: (position, size) => writer.poison(position, size),
              write: (position, bytes) => writer.write(position, bytes),
              patch: (position, bytes) => {
                patched.push(position)
                writer.patch(position, bytes)
              },
            }),
          ),
      }
      const heap = new CodeHeap(watched, { managed: [MANAGED] })
      const code = new Uint8Array(20)
      new DataView(code.buffer).setUint32(offset, Number(ROOT), true)
      const moved = heap.moved(BASE, code.length)
      const sites: SiteInput[] = [{ kind: 'abs32', offset }]
      const table = RelocationTable.fromSites(sites, { code, base: BASE, moved, runs: [] })
      const handle = heap.add({ bytes: code, base: BASE, table })
      const at = heap.entry(handle)
      const release = heap.hold()
      const goes = offset + 4 <= 8
      expect(heap.heldRoots()).toEqual(goes ? [] : [ROOT])
      if (goes) heap.patchRoot(handle, 0, OTHER)
      else expect(() => heap.patchRoot(handle, 0, OTHER)).toThrow(/not written at once, and may be running/)
      expect(patched).toEqual(goes ? [Number(at - HEAP)] : [])
      heap.patchRoot(handle, 0, OTHER, { words: [at] })
      release()
      heap.patchRoot(handle, 0, ROOT + 1n)
      expect(patched.length).toBe(goes ? 2 : 1)
      expect(heap.roots(handle)).toEqual([ROOT + 1n])
      expect(heap.verify()).toEqual([])
    },
  )
})
