/** Follows the constants of a slice of code, and of the branches in it, forwards. */
import { endsFlow, Flow, Instruction, type InstructionDecoder } from '../x86/instruction.ts'
import { branchTarget } from '../x86/target.ts'
import type { Places } from './places.ts'
import { SliceState, type Value } from './slice-values.ts'

/** A value that is put together out of more than one constant. */
export interface Unit extends Value {
  /** Offset behind the instruction that completes it. */
  readonly end: number
  /** What the branches of its slice bring to where they lead. */
  readonly joins: ReadonlyMap<number, Join>
}

/** What arrives at a place by branches: what is known then, and the branches. */
interface Join {
  readonly states: SliceState[]
  readonly sources: number[]
}

export interface WalkContext {
  readonly view: DataView
  readonly decoder: InstructionDecoder
  readonly places: Pick<Places, 'isCode'>
}

/** All that the instructions in [start, end) put together. */
export function followSlice({ view, decoder, places }: WalkContext, start: number, end: number): Unit[] {
  const units: Unit[] = []
  let state = new SliceState(view)
  const joins = new Map<number, Join>()
  const instruction = new Instruction()
  let isReached = true
  for (let at = start; at < end; at += instruction.length) {
    if (!places.isCode(at) || decoder.decode(at, instruction) === 0) break
    for (const arriving of joins.get(at)?.states ?? []) {
      if (isReached) state.meet(arriving)
      else state = arriving
      isReached = true
    }
    const value = state.step(instruction)
    if (value !== undefined) units.push({ ...value, end: at + instruction.length, joins })
    const target = branchTarget(view, instruction)
    if (target > at && target < end && instruction.flow !== Flow.call) {
      const join = joins.get(target) ?? { states: [], sources: [] }
      join.states.push(state.copy())
      join.sources.push(at)
      joins.set(target, join)
    }
    isReached = !endsFlow(instruction.flow)
    if (!isReached) state.forget()
  }
  return units
}
