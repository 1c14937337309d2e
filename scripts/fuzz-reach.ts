/**
 * Differential execution of moves out of reach: `npm run fuzz:reach -- --seed N --count M`. Instructions with an address field that leaves its reach run natively, where they
 * were and where they were moved to, in the same random state; registers, flags, vectors, memory, stack and red zone must be the same. Prints JSON.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { NativeHarness } from '../test/support/native/harness.ts'
import { randomNumbers } from './fuzz/encodings.ts'
import { type CaseClass, CELLS, CLASSES, type Template, TemplateMaker } from './fuzz/reach-cases.ts'
import {
  DISTANCES,
  type Distance,
  makeCase,
  mapReach,
  type ReachCase,
  runCases,
  type Tamper,
} from './fuzz/reach-run.ts'
import { SABOTAGES, saboteur } from './fuzz/reach-sabotage.ts'

interface Tally {
  executed: number
  faulted: number
  unchanged: number
}

export interface ReachReport {
  readonly seed: number
  readonly executed: number
  readonly differences: readonly string[]
  readonly refused: readonly string[]
  /** Encodings (opcode, prefixes, group) that are met; and those left out because they fault here, whatever the state. */
  readonly encodings: number
  readonly leftOut: number
  /** Per class and distance. */
  readonly classes: Readonly<Record<string, Readonly<Record<string, Tally>>>>
}

export interface ReachOptions {
  readonly count: number
  readonly seed: number
  readonly tamper?: Tamper | undefined
  /** Stops after so many differences. */
  readonly most?: number
}

/** Runs `count` cases. */
export async function fuzzReach(options: ReachOptions): Promise<ReachReport> {
  const fuzzer = await ReachFuzzer.start(options.seed)
  try {
    return await fuzzer.run(options)
  } finally {
    fuzzer.close()
  }
}

/** A process to run in, and the encodings that run there. */
export class ReachFuzzer {
  readonly #harness: NativeHarness
  readonly #known: Known

  private constructor(harness: NativeHarness, known: Known) {
    this.#harness = harness
    this.#known = known
  }

  /** Learns which encodings run here; each is looked for `tries` times. */
  static async start(seed: number, tries: number = TRIES): Promise<ReachFuzzer> {
    const harness = await NativeHarness.start()
    try {
      await mapReach(harness)
      return new ReachFuzzer(harness, await learn(harness, randomNumbers(seed), tries))
    } catch (error) {
      harness.close()
      throw error
    }
  }

  async run({ count, seed, tamper, most = 10 }: ReachOptions): Promise<ReachReport> {
    const next = randomNumbers(seed)
    const harness = this.#harness
    const known = this.#known
    const report = new Report(known)
    const maker = new TemplateMaker(next)
    while (report.executed < count && report.differences.length < most) {
      const cases: ReachCase[] = []
      while (cases.length < Math.min(2000, count - report.executed)) {
        const template = pick(known, maker, next)
        if (template !== undefined) cases.push(makeCase(template, pickDistance(next), harness, next))
      }
      for (const [i, outcome] of (await runCases(harness, cases, tamper)).entries())
        report.add(cases[i], outcome)
    }
    return report.finish(seed)
  }

  close(): void {
    this.#harness.close()
  }
}

const NAMES = Object.keys(DISTANCES) as Distance[]
const pickDistance = (next: () => number): Distance => NAMES[next() % NAMES.length]

/** Cells (twice the number, plus 1 for a displacement without base) of each class, and the keys that run here. */
interface Known {
  readonly cells: Map<CaseClass, number[]>
  readonly keys: Set<string>
  /** Encodings that always fault here. */
  readonly leftOut: number
}

/** How often a cell is tried, and how many samples of an encoding are run. */
const TRIES = 24
const SAMPLES = 6

/** Runs every encoding some times at home: what always faults here is left out. */
async function learn(harness: NativeHarness, next: () => number, tries: number): Promise<Known> {
  const maker = new TemplateMaker(next)
  const samples = new Map<string, { template: Template; cell: number }[]>()
  for (let cell = 0; cell < 2 * CELLS; cell++)
    for (let i = 0, found = 0; i < tries && found < SAMPLES; i++) {
      const template = maker.make(cell >> 1, (cell & 1) === 1)
      if (template === undefined) continue
      found++
      const list = samples.get(template.key)
      if (list === undefined) samples.set(template.key, [{ template, cell }])
      else if (list.length < SAMPLES) list.push({ template, cell })
    }
  const all = [...samples.values()].flat()
  const cases = all.map(({ template }) => makeCase(template, 'near', harness, next))
  const outcomes = await runCases(harness, cases)
  const good = new Map<string, number>()
  outcomes.forEach(({ what }, i) => {
    const { key } = all[i].template
    good.set(key, (good.get(key) ?? 0) + (what === 'faulted' ? 0 : 1))
  })
  const keys = new Set(
    [...samples].filter(([key, list]) => good.get(key) === list.length).map(([key]) => key),
  )
  const cells = new Map<CaseClass, Set<number>>()
  for (const { template, cell } of all) {
    if (!keys.has(template.key)) continue
    const set = cells.get(template.caseClass) ?? new Set()
    cells.set(template.caseClass, set.add(cell))
  }
  return {
    keys,
    cells: new Map([...cells].map(([name, set]) => [name, [...set]])),
    leftOut: samples.size - keys.size,
  }
}

function pick({ cells, keys }: Known, maker: TemplateMaker, next: () => number): Template | undefined {
  const caseClass = CLASSES[next() % CLASSES.length]
  if (caseClass === 'branch') return maker.branch()
  const list = cells.get(caseClass)
  if (list === undefined) return undefined
  const cell = list[next() % list.length]
  for (let i = 0; i < 20; i++) {
    const template = maker.make(cell >> 1, (cell & 1) === 1, caseClass === 'lock')
    if (template !== undefined && template.caseClass === caseClass && keys.has(template.key)) return template
  }
  return undefined
}

class Report {
  executed = 0
  readonly differences: string[] = []
  readonly #refused: string[] = []
  readonly #classes: Record<string, Record<string, Tally>> = {}
  readonly #known: Known

  constructor(known: Known) {
    this.#known = known
  }

  add({ template, distance }: ReachCase, outcome: Awaited<ReturnType<typeof runCases>>[number]): void {
    this.executed++
    const distances = (this.#classes[template.caseClass] ??= {})
    const tally = (distances[distance] ??= { executed: 0, faulted: 0, unchanged: 0 })
    tally.executed++
    if (outcome.what === 'faulted') tally.faulted++
    else if (outcome.what === 'same' && !outcome.changed) tally.unchanged++
    else if (outcome.what === 'differs') this.differences.push(outcome.why)
    else if (outcome.what === 'refused') this.#refused.push(outcome.why)
  }

  finish(seed: number): ReachReport {
    const { executed, differences } = this
    return {
      seed,
      executed,
      differences,
      refused: this.#refused,
      encodings: this.#known.keys.size,
      leftOut: this.#known.leftOut,
      classes: this.#classes,
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      count: { type: 'string', default: '20000' },
      sabotage: { type: 'string' },
    },
  })
  const { sabotage } = values
  if (sabotage !== undefined && !Object.hasOwn(SABOTAGES, sabotage))
    throw new Error(`--sabotage is one of ${Object.keys(SABOTAGES).join(', ')}`)
  const tamper = sabotage === undefined ? undefined : saboteur(sabotage)
  const report = await fuzzReach({ seed: Number(values.seed), count: Number(values.count), tamper })
  console.log(JSON.stringify({ ...report, refused: report.refused.slice(0, 20) }, null, 1))
  process.exitCode = report.differences.length === 0 ? 0 : 1
}
