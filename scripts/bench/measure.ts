/**
 * Contestants in turn, so that whatever else the machine does hits all of them alike; medians of many rounds;
 * and no result without a check: what a contestant returns has to be the same in every round, and the same
 * for all that claim to do the same work.
 */

export interface Contestant {
  readonly name: string
  /** Does the work once; returns what it did, in a few words: counts, a checksum. */
  run(): string
  /** Contestants with the same word here must return the same. */
  readonly agrees?: string
}

/** One line of the report. */
export interface Result {
  readonly work: string
  readonly unit: 'x' | 'ms'
  /** Ours over the rival's speed (more is better), the rival's over our time, or milliseconds. */
  readonly value: number | undefined
  readonly floor: string
  readonly aim: string
  /** Medians of all contestants, in milliseconds; or why there are none. */
  readonly medians: Readonly<Record<string, number>>
  readonly note: string
}

export interface Settings {
  readonly rounds: number
  readonly short: boolean
}

export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1]

/** Least milliseconds of one timing: shorter work is repeated. */
const LEAST = 20

/** Milliseconds that each runs before it is timed. */
const WARM = 2000

/** Milliseconds of one run of each, by name. */
export function race(
  contestants: readonly Contestant[],
  { rounds, short }: Settings,
): Record<string, number> {
  const returned = contestants.map((contestant) => {
    const first = contestant.run()
    if (contestant.run() !== first) throw new Error(`${contestant.name} does not do the same twice: ${first}`)
    return first
  })
  contestants.forEach((one, i) => {
    const j = contestants.findIndex((other) => one.agrees !== undefined && other.agrees === one.agrees)
    if (j >= 0 && returned[i] !== returned[j])
      throw new Error(`${one.name} and ${contestants[j].name} differ: ${returned[i]}; ${returned[j]}`)
  })
  if (!short) contestants.forEach(warmUp)
  const times = contestants.map((contestant) => timeOf(contestant, 1))
  const repeats = times.map((time) => (short ? 1 : Math.max(1, Math.ceil(LEAST / time))))
  const rows = contestants.map((): number[] => [])
  for (let round = 0; round < rounds; round++)
    contestants.forEach((contestant, i) => {
      rows[i].push(timeOf(contestant, repeats[i]))
    })
  contestants.forEach((contestant, i) => {
    if (contestant.run() !== returned[i]) throw new Error(`${contestant.name} changed its mind`)
  })
  return Object.fromEntries(contestants.map(({ name }, i) => [name, median(rows[i])]))
}

/** Runs until the compiler has done what it will do. */
function warmUp(contestant: Contestant): void {
  const end = performance.now() + WARM
  while (performance.now() < end) contestant.run()
}

function timeOf(contestant: Contestant, repeats: number): number {
  const start = process.hrtime.bigint()
  for (let i = 0; i < repeats; i++) contestant.run()
  return Number(process.hrtime.bigint() - start) / 1e6 / repeats
}

/** A short checksum of numbers or bytes (FNV-1a over them). */
export function checksum(values: Uint8Array | Uint32Array): string {
  let hash = 0x811c_9dc5
  for (let i = 0; i < values.length; i++) hash = Math.imul(hash ^ values[i], 0x0100_0193)
  return (hash >>> 0).toString(16)
}
