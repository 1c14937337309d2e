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
  first: Footprint | undefined
  last: Footprint | undefined
  readonly peak: { mappings: number; heapMappings: number; residentMiB: number } = {
    mappings: 0,
    heapMappings: 0,
    residentMiB: 0,
  }
  samples = 0
  /** Lines of pages that could be written and executed at once. V8 has such of its own. */
  readonly writableCode: string[] = []

  /** Whether a line of the maps is about a heap. */
  readonly #isOurs: (line: string) => boolean

  /** @param isOurs says of further mappings that they are to be watched */
  constructor(isOurs: (line: string) => boolean = () => false) {
    this.#isOurs = (line) => line.includes('memfd:x64-reloc') || isOurs(line)
  }

  sample(): void {
    const lines = readFileSync('/proc/self/maps', 'utf8').split('\n')
    const ours = lines.filter(this.#isOurs)
    this.writableCode.push(...ours.filter((line) => /^\S+ .w.?x/.test(line)))
    const now = {
      mappings: lines.length,
      heapMappings: ours.length,
      residentMiB: process.memoryUsage.rss() >> 20,
    }
    this.first ??= now
    this.last = now
    this.peak.mappings = Math.max(this.peak.mappings, now.mappings)
    this.peak.heapMappings = Math.max(this.peak.heapMappings, now.heapMappings)
    this.peak.residentMiB = Math.max(this.peak.residentMiB, now.residentMiB)
    this.samples++
  }

  /** Takes what came before (a program that warms up) for nothing. */
  restart(): void {
    this.first = undefined
    Object.assign(this.peak, { mappings: 0, heapMappings: 0, residentMiB: 0 })
  }
}
