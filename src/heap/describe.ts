/** The map of a reservation as text, for a person. */
import { hex } from '../core/address.ts'
import type { Block } from './object.ts'
import { reasonToStay } from './plan.ts'
import type { HeapState } from './state.ts'

/** Lines of a long map; the rest is counted. */
const LINES = 200

export function describeHeap(state: HeapState): string {
  const { memory, free } = state
  const lines = [
    `${hex(memory.base)}  ${memory.registry.count} blocks of ${memory.registry.used} bytes, ${free.count} holes of ${free.total} bytes, ${state.calls + state.holds} calls running`,
  ]
  let at = 0
  let left = 0
  const line = (text: string): void => {
    if (lines.length <= LINES) lines.push(text)
    else left++
  }
  const hole = (to: number): void => {
    if (to > at) line(`${hex(memory.base + BigInt(at))}  ${String(to - at).padStart(8)}  free`)
  }
  for (const block of memory.registry) {
    hole(block.position)
    line(describeBlock(state, block))
    at = block.position + block.size
  }
  hole(memory.size)
  return [...lines, ...(left > 0 ? [`and ${left} more lines`] : [])].join('\n')
}

function describeBlock(state: HeapState, block: Block): string {
  const { object } = block
  const notes: string[] = []
  const reason = reasonToStay(state, block)
  if (block.links.length > 0)
    notes.push(`refers to ${block.links.map((link) => link.handle.name).join(', ')}`)
  if (object.callers.size > 0) notes.push(`${object.callers.size} callers`)
  if (object.roots.length > 0) notes.push(`${object.roots.length} roots`)
  if (reason !== undefined) notes.push(`stays: ${reason}${object.pins > 1 ? ` ${object.pins} times` : ''}`)
  const text = notes.length > 0 ? `  (${notes.join('; ')})` : ''
  return `${hex(state.address(block))}  ${String(block.size).padStart(8)}  ${object.handle.name}${text}`
}
