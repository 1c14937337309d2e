/** Families of programs that try a heap from one side each, from a seed, over either kind of memory. */
import type { HeapMemory } from '../../../src/heap/memory.ts'
import { nativeMemory } from '../../../src/heap/native/reservation.ts'
import type { Block } from '../../../src/heap/object.ts'
import { simulatedMemory } from '../../../src/heap/simulated.ts'
import { random } from '../support/program.ts'

export type Maker = 'simulated' | 'native'

export interface FamilyRun {
  readonly maker: Maker
  readonly seed: number
  /** Random numbers below. */
  readonly next: (below: number) => number
  /**
   * Makes memory; `base` is where simulated memory is, and native memory too where it `must` be. It is closed
   * after the run.
   */
  memory(size?: number, base?: bigint, must?: boolean): HeapMemory<Block>
  /** Adds to a count of the report. */
  count(name: string, by?: number): void
}

export interface Family {
  readonly name: string
  /** What must hold. */
  readonly title: string
  readonly makers: readonly Maker[]
  /** Throws where anything is wrong. */
  readonly run: (run: FamilyRun) => void
}

export const BOTH: readonly Maker[] = ['simulated', 'native']

/** Below 2 GiB, so that every kind of field can hold an address there, and nowhere else used. */
export const LOW = 0x5400_0000n

/** Runs a family once. Returns its counts. */
export function runFamily({ run }: Family, maker: Maker, seed: number): Record<string, number> {
  const counts: Record<string, number> = {}
  const memories: HeapMemory<Block>[] = []
  const make = (size: number, base: bigint, must: boolean): HeapMemory<Block> =>
    maker === 'simulated'
      ? simulatedMemory({ base, size })
      : nativeMemory({ size, ...(must ? { base } : {}) })
  try {
    run({
      maker,
      seed,
      next: random(seed),
      memory(size = 64 << 10, base = LOW, must = false) {
        const memory = make(size, base, must)
        memories.push(memory)
        return memory
      },
      count(name, by = 1) {
        counts[name] = (counts[name] ?? 0) + by
      },
    })
  } finally {
    for (const memory of memories) memory.close()
  }
  return counts
}

/** The code of the error that `work` throws, or `nothing`. */
export function thrown(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    const { code } = error as { code?: string }
    return code ?? String(error)
  }
  return 'nothing'
}

/** Throws unless it holds. */
export function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}
