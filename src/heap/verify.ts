/**
 * Every invariant that a heap must hold at any time, checked from what is there: places, bytes, the reverse
 * index, roots.
 */
import { hex } from '../core/address.ts'
import { POISON } from './memory.ts'
import type { Block } from './object.ts'
import { GRANULE } from './registry.ts'
import type { HeapState } from './state.ts'

/** An invariant that does not hold. */
export interface Violation {
  /**
   * `tiling`: used and free ranges are the reservation, neighbours coalesced. `poison`: free bytes and those
   * behind objects are `int3`. `alignment`. `canonical`: every field holds what the places say, every other
   * byte is what it was, code is a function of the root table. `index`: blocks know their objects and callees
   * their callers. `lifecycle`: only what was retired is entered by nothing.
   */
  readonly invariant: 'tiling' | 'poison' | 'alignment' | 'canonical' | 'index' | 'lifecycle'
  readonly message: string
}

export function verifyHeap(state: HeapState): Violation[] {
  const violations: Violation[] = []
  const wrong = (invariant: Violation['invariant'], message: string): void => {
    violations.push({ invariant, message })
  }
  checkTiling(state, wrong)
  for (const block of state.memory.registry) checkBlock(state, block, wrong)
  return violations
}

type Report = (invariant: Violation['invariant'], message: string) => void

function checkTiling({ memory, free }: HeapState, wrong: Report): void {
  let at = 0
  let freeBytes = 0
  let freeRanges = 0
  let lastFree = -1
  const holes = free[Symbol.iterator]()
  let hole = holes.next()
  const passHoles = (until: number): void => {
    for (; !hole.done && hole.value.start < until; hole = holes.next()) {
      const { start, size } = hole.value
      if (start !== at) wrong('tiling', `${hex(at)} to ${hex(start)} is neither used nor free.`)
      if (start === lastFree) wrong('tiling', `Two free ranges touch at ${hex(start)}.`)
      at = lastFree = start + size
      freeBytes += size
      freeRanges++
      const end = Math.min(at, memory.committed)
      const bad = firstOther(memory.bytes, Math.min(start, end), end)
      if (bad >= 0) wrong('poison', `The free byte at ${hex(bad)} is ${hex(memory.bytes[bad])}.`)
    }
  }
  for (const block of memory.registry) {
    passHoles(block.position)
    if (block.position !== at)
      wrong('tiling', `${block.object.handle.name} lies at ${hex(block.position)}, expected ${hex(at)}.`)
    at = block.position + block.size
  }
  passHoles(memory.size)
  if (at !== memory.size) wrong('tiling', `${hex(at)} to ${hex(memory.size)} is neither used nor free.`)
  if (freeBytes !== free.total || freeRanges !== free.count)
    wrong(
      'tiling',
      `The free list counts ${free.count} ranges of ${free.total} bytes, it has ${freeRanges} of ${freeBytes}.`,
    )
  if (free.total + memory.registry.used !== memory.size)
    wrong('tiling', `${memory.registry.used} used and ${free.total} free bytes are not ${memory.size}.`)
}

function checkBlock(state: HeapState, block: Block, wrong: Report): void {
  const { object, position, size } = block
  const { name } = object.handle
  const { bytes, base } = state.memory
  if ((base + BigInt(position)) % BigInt(object.align) !== 0n)
    wrong(
      'alignment',
      `${name} lies at ${hex(base + BigInt(position))}, not at a multiple of ${object.align}.`,
    )
  if (size <= object.length || size % GRANULE !== 0) wrong('tiling', `${name} has no trap behind it.`)
  const bad = firstOther(bytes, position + object.length, position + size)
  if (bad >= 0) wrong('poison', `The byte behind ${name} at ${hex(bad)} is ${hex(bytes[bad])}.`)
  if (state.canonical(block) !== object.canonical)
    wrong(
      'canonical',
      `${name} at ${hex(base + BigInt(position))} is not what was added: a field or a byte is wrong.`,
    )
  for (const callee of block.links) {
    if (!callee.callers.has(block)) wrong('index', `${callee.handle.name} does not know its caller ${name}.`)
    if (state.memory.registry.find(callee.block.position) !== callee.block)
      wrong('lifecycle', `${name} refers to ${callee.handle.name}, which is gone.`)
  }
  for (const caller of object.callers)
    if (!caller.links.includes(object) || state.memory.registry.find(caller.position) !== caller)
      wrong('index', `${name} knows a caller that does not refer to it.`)
  if (
    block.retired !== state.retired.has(block) ||
    (block === object.block) === (block.retired && !object.freed)
  )
    wrong('lifecycle', `${name} at ${hex(position)} is ${block.retired ? '' : 'not '}retired, and entered.`)
  if (!object.freed && state.objects[object.handle.index] !== object)
    wrong('lifecycle', `The handle of ${name} does not lead to it.`)
}

/** Position of the first byte in [from, to) that is no `int3`, or -1. */
function firstOther(bytes: Uint8Array, from: number, to: number): number {
  for (let i = from; i < to; i++) if (bytes[i] !== POISON) return i
  return -1
}
