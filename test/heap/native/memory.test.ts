import { readFileSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { NativeMemory, nativeUnavailable, PAGE_SIZE } from '../../../src/heap/native/memory.ts'

const LOW = 0x62340000n
const HIGH = 0x7e0000000000n

const reason = nativeUnavailable()

describe.skipIf(reason !== undefined)(`native memory${reason === undefined ? '' : `: ${reason}`}`, () => {
  const opened: NativeMemory[] = []
  const open = (): NativeMemory => {
    const memory = new NativeMemory()
    opened.push(memory)
    return memory
  }
  afterEach(() => {
    for (const memory of opened.splice(0)) memory.close()
  })

  it('maps at exactly the address that was asked for, zeroed, low and high', () => {
    const memory = open()
    for (const address of [LOW, HIGH]) {
      memory.map(address, 100)
      expect(memory.read(address, PAGE_SIZE)).toEqual(new Uint8Array(PAGE_SIZE))
      memory.write(address + 4090n, Uint8Array.of(1, 2, 3))
      expect(memory.read(address + 4089n, 5)).toEqual(Uint8Array.of(0, 1, 2, 3, 0))
    }
  })

  it('replaces nothing: a taken address, its own or of another, is refused and stays as it was', () => {
    const memory = open()
    memory.map(HIGH, PAGE_SIZE)
    memory.write(HIGH, Uint8Array.of(7))
    const other = open()
    expect(() => other.map(HIGH - BigInt(PAGE_SIZE), 2 * PAGE_SIZE)).toThrow(/taken/)
    expect(other.mappings()).toEqual([])
    expect(memory.read(HIGH, 1)).toEqual(Uint8Array.of(7))
  })

  it('writes only what is rw, reads only what is readable, both only in mappings of its own', () => {
    const memory = open()
    memory.map(HIGH, 3 * PAGE_SIZE)
    memory.write(HIGH + 4090n, new Uint8Array(12).fill(9))
    memory.protect(HIGH + BigInt(PAGE_SIZE), PAGE_SIZE, 'rx')
    expect(() => memory.write(HIGH + 4090n, new Uint8Array(12))).toThrow(/is 'rx' now, not 'rw'/)
    expect(memory.read(HIGH + 4090n, 12)).toEqual(new Uint8Array(12).fill(9))
    memory.protect(HIGH, 2 * PAGE_SIZE, 'none')
    expect(() => memory.read(HIGH + 8190n, 4)).toThrow(/'none'/)
    expect(() => memory.read(HIGH + 12280n, 16)).toThrow(/not mapped here/)
    expect(() => memory.write(HIGH - 1n, Uint8Array.of(1))).toThrow(/not mapped here/)
    memory.protect(HIGH, 3 * PAGE_SIZE, 'r')
    expect(memory.mappings()).toEqual([{ start: HIGH, end: HIGH + 12288n, access: 'r' }])
  })

  it('has one file seen twice: written through one view, read and executable through the other', () => {
    const memory = open()
    const file = memory.createShared('test', PAGE_SIZE)
    memory.mapShared(file, 0, HIGH, PAGE_SIZE, 'rx')
    const writable = memory.mapShared(file, 0, undefined, PAGE_SIZE, 'rw')
    memory.closeShared(file)
    memory.write(writable + 16n, Uint8Array.of(0xc3))
    expect(memory.read(HIGH + 16n, 1)).toEqual(Uint8Array.of(0xc3))
    const line = readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .find((text) => text.startsWith(HIGH.toString(16)))
    expect(line).toMatch(/ r-xs /)
  })

  it('gives back what it mapped', () => {
    const memory = open()
    memory.map(HIGH, PAGE_SIZE)
    expect(() => memory.unmap(HIGH + BigInt(PAGE_SIZE), PAGE_SIZE)).toThrow(/not what was mapped/)
    memory.unmap(HIGH, PAGE_SIZE)
    expect(() => memory.read(HIGH, 1)).toThrow(/not mapped here/)
    memory.map(HIGH, PAGE_SIZE)
    memory.close()
    expect(readFileSync('/proc/self/maps', 'utf8')).not.toContain(HIGH.toString(16))
  })

  it.each([
    [HIGH + 8n, 1],
    [HIGH, 0],
    [0x7ffffffff000n, 1],
    [1n << 63n, PAGE_SIZE],
    [HIGH, -1],
    [-1n, 1],
  ])('refuses the place %s with %s bytes', (address, length) => {
    expect(() => open().map(address, length)).toThrow(expect.objectContaining({ code: 'bad-argument' }))
  })
})
