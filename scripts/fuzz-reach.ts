/**
 * Differential execution of moves out of reach: `npm run fuzz:reach -- --seed N --count M [--sabotage NAME]`.
 * Instructions with an address field that leaves its reach run natively, where they were and where they were
 * moved to, in the same random state; registers, flags, vectors, memory, stack and red zone must be the same.
 * What this CPU lacks is followed symbolically. Prints JSON.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { NativeHarness } from '../test/support/native/harness.ts'
import { randomNumbers } from './fuzz/encodings.ts'
import { makeCase, type ReachCase } from './fuzz/reach-case.ts'
import { CLASSES, TemplateMaker } from './fuzz/reach-cases.ts'
import { type Known, learn, pickTemplate, TRIES } from './fuzz/reach-known.ts'
import { DISTANCES, mapReach } from './fuzz/reach-places.ts'
import { reduceCase } from './fuzz/reach-reduce.ts'
import { type Outcome, runCases, type Tamper } from './fuzz/reach-run.ts'
import { SABOTAGES, saboteur } from './fuzz/reach-sabotage.ts'
import { wrongBySymbols } from './fuzz/reach-symbolic.ts'

interface Tally {
  executed: number
  /** At both places, by the same signal about the same operand. */
  faulted: number
  /** Left another state than they found. */
  changed: number
  /** Branches that went to their target. */
  taken: number
}

export interface ReachReport {
  readonly seed: number
  readonly executed: number
  /** Reduced cases that differ, as text. */
  readonly differences: readonly string[]
  readonly refused: readonly string[]
  /** Encodings (opcode, prefixes, group) that run here. */
  readonly encodings: number
  /** Those that do not, followed symbolically: how many of them, cases, and what is wrong. */
  readonly symbolic: {
    readonly encodings: number
    readonly followed: number
    readonly wrong: readonly string[]
  }
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

const BATCH = 2000
/** One case in so many is of what the CPU lacks. */
const SYMBOLIC = 100

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

  async run({ count, seed, tamper = (moved) => moved, most = 10 }: ReachOptions): Promise<ReachReport> {
    const next = randomNumbers(seed)
    const harness = this.#harness
    const report = new Report(this.#known)
    const maker = new TemplateMaker(next)
    while (report.executed < count && report.differences.length < most) {
      const cases: ReachCase[] = []
      while (cases.length < Math.min(BATCH, count - report.executed)) {
        const template = pickTemplate(this.#known, CLASSES[next() % CLASSES.length], maker, next)
        const distance = DISTANCES[next() % DISTANCES.length]
        if (template !== undefined) cases.push(makeCase(template, distance, () => harness.newState(), next))
      }
      for (const { item, outcome } of await runCases(harness, cases, tamper, next)) {
        report.add(item, outcome)
        if (outcome.what === 'differs' && report.differences.length < most)
          report.differences.push(await reduceCase(harness, item, tamper))
      }
      for (let i = 0; i < cases.length / SYMBOLIC; i++) report.follow(next)
    }
    return report.finish(seed)
  }

  close(): void {
    this.#harness.close()
  }
}

class Report {
  executed = 0
  readonly differences: string[] = []
  readonly #refused: string[] = []
  readonly #wrong: string[] = []
  #followed = 0
  readonly #classes: Record<string, Record<string, Tally>> = {}
  readonly #known: Known

  constructor(known: Known) {
    this.#known = known
  }

  add({ template, distance }: ReachCase, outcome: Outcome): void {
    this.executed++
    const distances = (this.#classes[template.caseClass] ??= {})
    const tally = (distances[distance] ??= { executed: 0, faulted: 0, changed: 0, taken: 0 })
    tally.executed++
    if (outcome.what === 'faulted') tally.faulted++
    if (outcome.what === 'same' && outcome.changed) tally.changed++
    if (outcome.what === 'same' && outcome.taken) tally.taken++
    if (outcome.what === 'refused') this.#refused.push(outcome.why)
  }

  /** Has an instruction that does not run here moved, and what stands in for it followed. */
  follow(next: () => number): void {
    const { lacking } = this.#known
    this.#followed++
    const why = wrongBySymbols(lacking[next() % lacking.length])
    if (why !== undefined) this.#wrong.push(why)
  }

  finish(seed: number): ReachReport {
    const { executed, differences } = this
    const { keys, lacking } = this.#known
    return {
      seed,
      executed,
      differences,
      refused: this.#refused,
      encodings: keys.size,
      symbolic: { encodings: lacking.length, followed: this.#followed, wrong: this.#wrong },
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
  const fuzzer = await ReachFuzzer.start(Number(values.seed))
  try {
    const report = await fuzzer.run({ seed: Number(values.seed), count: Number(values.count), tamper })
    console.log(JSON.stringify({ ...report, refused: report.refused.slice(0, 20) }, null, 1))
    process.exitCode = report.differences.length + report.symbolic.wrong.length === 0 ? 0 : 1
  } finally {
    fuzzer.close()
  }
}
