/**
 * Scores the analysis against a corpus of linker pairs: the same objects linked at two addresses, so that the
 * bytes at the second address are known. Usage: score.ts DIR [--mode table|hinted|bare] [--decoder
 * iced|tables] [--case NAME] [--verify] [--verbose] [--json]
 *   --leave-out [--train DIR,DIR]   each case by statistics that were trained without its origin
 *   --levels                        right and wrong sites by address evidence and by code evidence
 *
 * A case is a folder with from.bin, to.bin and case.json (from, to, length, memLength, ranges, functions, relocs), or a
 * pack of small blobs with one line each in pack.jsonl. See the README's section on accuracy for the format.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { analyze } from '../src/analyze/analyze.ts'
import { useOpcodeScores } from '../src/analyze/opcode-stats.ts'
import { type PointStatistics, usePointStatistics } from '../src/analyze/points.ts'
import { RelocError } from '../src/core/errors.ts'
import { relocate } from '../src/relocate/relocate.ts'
import type { SiteInput } from '../src/table/from-sites.ts'
import type { SiteKind } from '../src/table/kinds.ts'
import { RelocationTable } from '../src/table/table.ts'
import { verify } from '../src/verify/verify.ts'
import type { DecoderKind } from '../src/x86/instruction.ts'
import { type Case, listCases, loadCase, type Pair, type Reloc } from './corpus.ts'
import { type Counts, countCase, emptyCounts, likelihoods } from './opcode-counts.ts'
import { countPoints, emptyPoints, type PointCounts, pointStatistics } from './point-counts.ts'

export type Mode = 'table' | 'hinted' | 'bare'
const MODES: readonly Mode[] = ['table', 'hinted', 'bare']

const ABSOLUTE: Readonly<Record<string, SiteKind>> = {
  '64': 'abs64',
  LINKER_GOT: 'abs64',
  INFERRED64: 'abs64',
  '32': 'abs32',
  '32S': 'abs32s',
}

/** The linker's record as a site of ours: what the two ends move with is `adj`. */
function siteOf(reloc: Reloc, pair: Pair): SiteInput {
  const inside = pair.from
  const outside = pair.from === 0n ? BigInt(pair.span) + 1n : pair.from - 1n
  const absolute = ABSOLUTE[reloc.type]
  if (absolute !== undefined && reloc.adj === 1)
    return { offset: reloc.offset, kind: absolute, target: inside }
  if (reloc.width < 8 && reloc.adj === -1)
    return {
      offset: reloc.offset,
      kind: reloc.width === 4 ? 'pc32' : reloc.width === 2 ? 'pc16' : 'pc8',
      target: outside,
    }
  const [target, anchor] = reloc.adj === -1 ? [outside, inside] : [inside, outside]
  return { offset: reloc.offset, kind: reloc.width === 8 ? 'diff64' : 'diff32', target, anchor }
}

export interface ScoreOptions {
  readonly decoder?: DecoderKind | undefined
  /** Verify each move too. */
  readonly verify?: boolean | undefined
}

export function tableFor(pair: Pair, mode: Mode, { decoder }: ScoreOptions = {}): RelocationTable {
  const { from: base, span, before: code } = pair
  if (mode === 'table')
    return RelocationTable.fromSites(
      pair.relocs.filter((reloc) => reloc.changes).map((reloc) => siteOf(reloc, pair)),
      { code, base, span },
    )
  const options = { base, span, decoder }
  return analyze(
    code,
    mode === 'bare'
      ? options
      : {
          ...options,
          hints: {
            ranges: pair.ranges.map(({ start, end, kind }) => ({ start, end, kind })),
            entries: pair.entries.filter((entry) => entry < pair.before.length),
          },
        },
  )
}

export interface PairScore {
  readonly exact: boolean
  /** Sites by what is wrong with them. */
  readonly missed: readonly Reloc[]
  readonly wrong: readonly Reloc[]
  /** Offsets of runs of bytes that should not have changed. */
  readonly spurious: readonly number[]
  readonly error: string | undefined
  readonly unverified: string | undefined
}

export function scorePair(pair: Pair, mode: Mode, options: ScoreOptions): PairScore {
  let bytes = pair.before
  let error: string | undefined
  let unverified: string | undefined
  try {
    const table = tableFor(pair, mode, options)
    bytes = relocate(pair.before, table, { to: pair.to }).bytes
    if (options.verify === true) {
      const verdict = verify(pair.before, bytes, {
        moves: [{ from: pair.from, to: pair.to, length: pair.span }],
        claim: table,
      })
      if (!verdict.ok)
        unverified =
          verdict.problems.find((problem) => problem.severity === 'error')?.message ?? 'not verified'
    }
  } catch (caught) {
    if (!(caught instanceof RelocError)) throw caught
    error = caught.message
  }
  const owners = new Map<number, Reloc>()
  for (const reloc of pair.relocs)
    if (reloc.changes) for (let i = 0; i < reloc.width; i++) owners.set(reloc.offset + i, reloc)
  const missed = new Set<Reloc>()
  const wrong = new Set<Reloc>()
  const spurious: number[] = []
  let last = -2
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] === pair.after[i]) continue
    const owner = owners.get(i)
    if (owner === undefined) {
      if (i !== last + 1) spurious.push(i)
      last = i
    } else {
      const same = bytes
        .subarray(owner.offset, owner.offset + owner.width)
        .every((byte, k) => byte === pair.before[owner.offset + k])
      ;(same ? missed : wrong).add(owner)
    }
  }
  const exact = missed.size + wrong.size + spurious.length === 0
  return { exact, missed: [...missed], wrong: [...wrong], spurious, error, unverified }
}

const isRelative = (reloc: Reloc): boolean => reloc.adj === -1

export interface CaseScore {
  readonly name: string
  readonly mode: Mode
  readonly exact: boolean
  readonly truth: number
  readonly missed: number
  readonly wrong: number
  readonly spurious: number
  readonly relative: number
  readonly errors: readonly string[]
  readonly unverified: readonly string[]
  readonly places: readonly string[]
}

export function scoreCase(one: Case, mode: Mode, options: ScoreOptions = {}): CaseScore {
  const scores = one.pairs.map((pair) => ({ pair, score: scorePair(pair, mode, options) }))
  const sum = (count: (score: PairScore) => number): number =>
    scores.reduce((total, { score }) => total + count(score), 0)
  return {
    name: one.name,
    mode,
    exact: scores.every(({ score }) => score.exact),
    truth: one.pairs.reduce((total, pair) => total + pair.relocs.filter((reloc) => reloc.changes).length, 0),
    missed: sum((score) => score.missed.length),
    wrong: sum((score) => score.wrong.length),
    spurious: sum((score) => score.spurious.length),
    relative: sum((score) => [...score.missed, ...score.wrong].filter(isRelative).length),
    errors: scores.flatMap(({ score }) => (score.error === undefined ? [] : [score.error])),
    unverified: scores.flatMap(({ score }) => (score.unverified === undefined ? [] : [score.unverified])),
    places: scores.flatMap(({ pair, score }) => describe(pair, score)),
  }
}

function describe(pair: Pair, score: PairScore): string[] {
  const site =
    (what: string) =>
    (reloc: Reloc): string =>
      `${pair.name} ${what} ${reloc.type} at 0x${reloc.offset.toString(16)}${reloc.sym ? ` (${reloc.sym})` : ''}`
  return [
    ...score.missed.map(site('missed')),
    ...score.wrong.map(site('wrong')),
    ...score.spurious.map((offset) => `${pair.name} spurious at 0x${offset.toString(16)}`),
  ]
}

function main(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      mode: { type: 'string' },
      case: { type: 'string' },
      train: { type: 'string' },
      'leave-out': { type: 'boolean' },
      levels: { type: 'boolean' },
      verbose: { type: 'boolean' },
      json: { type: 'boolean' },
      verify: { type: 'boolean' },
      decoder: { type: 'string' },
    },
  })
  const dir = positionals[0]
  if (dir === undefined)
    throw new Error(
      'usage: score.ts DIR [--mode table|hinted|bare] [--case NAME] [--leave-out] [--levels] [--verify] [--verbose] [--json]',
    )
  if (![undefined, 'iced', 'tables'].includes(values.decoder)) throw new Error('--decoder iced|tables')
  const options = { verify: values.verify, decoder: values.decoder as DecoderKind | undefined }
  const modes = values.mode === undefined ? MODES : MODES.filter((mode) => mode === values.mode)
  const cases = listCases(dir)
    .filter((name) => values.case === undefined || name.includes(values.case))
    .map((name) => loadCase(join(dir, name)))
  const trainFor =
    values['leave-out'] === true ? trainWithout([dir, ...(values.train?.split(',') ?? [])]) : undefined
  for (const mode of modes) {
    if (trainFor !== undefined && mode === 'table') continue
    const started = performance.now()
    const scores = cases.map((one) => {
      trainFor?.(one.origin)
      return scoreCase(one, mode, options)
    })
    if (values.json) console.log(JSON.stringify(scores))
    else report(mode, scores, values.verbose === true, (performance.now() - started) / 1000)
    if (values.levels === true && mode !== 'table') reportLevels(mode, cases)
  }
}

/** All statistics over some corpora, used as they are without one origin. */
function trainWithout(dirs: readonly string[]): (origin: string) => void {
  const forms = new Map<string, Counts>()
  const points = new Map<string, PointCounts>()
  for (const dir of dirs)
    for (const name of listCases(dir)) {
      const one = loadCase(join(dir, name))
      if (!forms.has(one.origin)) forms.set(one.origin, emptyCounts())
      if (!points.has(one.origin)) points.set(one.origin, emptyPoints())
      countCase(one, forms.get(one.origin)!)
      countPoints(one, points.get(one.origin)!)
    }
  const trained = new Map<string, [Int8Array, PointStatistics]>()
  return (origin) => {
    const others = <T>(all: Map<string, T>): T[] =>
      [...all].filter(([other]) => other !== origin).map(([, counts]) => counts)
    if (!trained.has(origin))
      trained.set(origin, [likelihoods(others(forms)), pointStatistics(others(points))])
    const [scores, places] = trained.get(origin)!
    useOpcodeScores(scores)
    usePointStatistics(places)
  }
}

/** The levels of both axes of evidence, strongest first. */
const LEVELS = { address: ['exact', 'encoding', 'flow', 'range'], code: ['given', 'flow', 'guess'] } as const

/**
 * How many of the sites that each level of evidence claims are the linker's, and how many of the linker's it
 * finds: by address evidence of the absolute sites, by code evidence of all.
 */
function reportLevels(mode: Mode, cases: readonly Case[]): void {
  const right = new Map<string, number>()
  const wrong = new Map<string, number>()
  const truth = { address: 0, code: 0 }
  for (const pair of cases.flatMap((one) => one.pairs)) {
    const changing = pair.relocs.filter((reloc) => reloc.changes)
    const offsets = new Set(changing.map((reloc) => reloc.offset))
    truth.address += changing.filter((reloc) => reloc.adj === 1).length
    truth.code += changing.length
    for (const { offset, kind, evidence } of tableFor(pair, mode).sites()) {
      const counts = offsets.has(offset) ? right : wrong
      const keys = [`code ${evidence.code}`]
      if (kind.startsWith('abs') || kind === 'split') keys.push(`address ${evidence.address}`)
      for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1)
    }
  }
  for (const axis of ['address', 'code'] as const) {
    let [good, bad] = [0, 0]
    for (const level of LEVELS[axis]) {
      const key = `${axis} ${level}`
      if (!right.has(key) && !wrong.has(key)) continue
      good += right.get(key) ?? 0
      bad += wrong.get(key) ?? 0
      const share = (part: number, of: number, digits: number): string => ((100 * part) / of).toFixed(digits)
      console.log(
        `  ${mode}, ${key}: ${right.get(key) ?? 0} right, ${wrong.get(key) ?? 0} wrong; with all above ${share(good, good + bad, 4)} % right, ` +
          `${share(good, truth[axis], 1)} % of ${truth[axis]} ${axis === 'address' ? 'absolute' : 'true'} sites`,
      )
    }
  }
}

function report(mode: Mode, scores: readonly CaseScore[], verbose: boolean, seconds: number): void {
  for (const score of scores) {
    if (score.exact && score.unverified.length === 0) continue
    console.log(
      `  ${score.name}: missed ${score.missed}, wrong ${score.wrong}, spurious ${score.spurious} of ${score.truth} (relative ${score.relative})`,
    )
    for (const text of [...score.errors, ...score.unverified].slice(0, 3))
      console.log(`      ${text.slice(0, 300)}`)
    if (verbose) for (const place of score.places.slice(0, 40)) console.log(`      ${place}`)
  }
  const total = (key: 'truth' | 'missed' | 'wrong' | 'spurious' | 'relative'): number =>
    scores.reduce((sum, score) => sum + score[key], 0)
  const bad = total('missed') + total('wrong') + total('spurious')
  console.log(
    `${mode}: ${scores.filter((score) => score.exact).length} of ${scores.length} exact; ` +
      `missed ${total('missed')}, wrong ${total('wrong')}, spurious ${total('spurious')} of ${total('truth')} sites` +
      ` (1 in ${bad === 0 ? '-' : Math.round(total('truth') / bad)}; relative ${total('relative')}); ${seconds.toFixed(1)} s`,
  )
}

if (process.argv[1]?.endsWith('score.ts')) main()
