/** What this process takes, and whether any page of a heap could ever be written and executed. */
import { readFileSync } from 'node:fs'

export interface Footprint {
  /** Of this process, V8's own included. */
  readonly mappings: number
  /** Of heaps and of the memory that they share pages with. */
  readonly heapMappings: number
  readonly residentMiB: number
}

/** Looks at /proc/self/maps again and again. */
export class Watch {
  /** After garbage collections, in the order they were taken. */
  readonly settled: Footprint[] = []
  readonly peak: { mappings: number; heapMappings: number; residentMiB: number } = {
    mappings: 0,
    heapMappings: 0,
    residentMiB: 0,
  }
  samples = 0
  /** Lines of pages that could be written and executed at once. V8 has such of its own. */
  readonly writableCode: string[] = []
  readonly #isOurs: (line: string) => boolean
  readonly #settleAt: number[]

  /**
   * @param isOurs says of further mappings that they are to be watched
   * @param settleAt parts of the whole, 0 to 1, at which what is left after a garbage collection is noted
   */
  constructor(isOurs: (line: string) => boolean, settleAt: readonly number[]) {
    this.#isOurs = (line) => line.includes('memfd:x64-reloc') || isOurs(line)
    this.#settleAt = [...settleAt]
  }

  sample(): Footprint {
    const lines = readFileSync('/proc/self/maps', 'utf8').split('\n')
    const ours = lines.filter(this.#isOurs)
    this.writableCode.push(...ours.filter((line) => /^\S+ .w.?x/.test(line)))
    const residentMiB = process.memoryUsage.rss() >> 20
    const now = { mappings: lines.length, heapMappings: ours.length, residentMiB }
    for (const [name, value] of Object.entries(now)) {
      const key = name as keyof Footprint
      this.peak[key] = Math.max(this.peak[key], value)
    }
    this.samples++
    return now
  }

  /** Where one is due, notes what is left after a garbage collection, when V8 has given back what it found. */
  async settle(progress: number): Promise<void> {
    if (progress < (this.#settleAt[0] ?? Number.POSITIVE_INFINITY)) return
    this.#settleAt.shift()
    for (let i = 0; i < 3; i++) {
      globalThis.gc?.()
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    this.settled.push(this.sample())
  }
}

/**
 * What a process is started with that watches itself: a small young generation, so that what grows is not
 * V8's, and `gc`.
 */
export const CHILD_FLAGS: readonly string[] = ['--expose-gc', '--max-semi-space-size=1']

/** The arguments of node for the same script once more, to be watched. */
export const sameScript = (...more: readonly string[]): string[] => [
  ...CHILD_FLAGS,
  ...process.execArgv,
  ...process.argv.slice(1),
  ...more,
]
