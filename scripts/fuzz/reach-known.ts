/** Which encodings run on this CPU, learnt by running them; the rest is for the symbolic check. */
import type { NativeHarness } from '../../test/support/native/harness.ts'
import { makeCase } from './reach-case.ts'
import { type CaseClass, CELLS, type Form, type Template, TemplateMaker } from './reach-cases.ts'
import { makeImmediate } from './reach-immediates.ts'
import { runCases } from './reach-run.ts'

/** How often a cell is tried, and how many samples of an encoding are run. */
export const TRIES = 24
const SAMPLES = 6

export interface Known {
  /** Cells of each class of RIP-relative instructions; of gathers, which have none. */
  readonly cells: ReadonlyMap<CaseClass, readonly number[]>
  /** All cells with an encoding that runs. */
  readonly all: readonly number[]
  readonly keys: ReadonlySet<string>
  /** One of each encoding that always faults here. */
  readonly lacking: readonly Template[]
}

interface Sample {
  readonly template: Template
  readonly cell: number
}

/** Runs every encoding some times: what always faults here is lacking. */
export async function learn(harness: NativeHarness, next: () => number, tries: number): Promise<Known> {
  const maker = new TemplateMaker(next)
  const samples = new Map<string, Sample[]>()
  for (let cell = 0; cell < CELLS; cell++)
    for (const form of ['rip', 'index'] as const)
      for (let i = 0, found = 0; i < tries && found < SAMPLES; i++) {
        const template = maker.make(cell, form)
        if (template === undefined || (form === 'index' && template.caseClass !== 'gather')) continue
        found++
        const list = samples.get(template.key)
        if (list === undefined) samples.set(template.key, [{ template, cell }])
        else if (list.length < SAMPLES) list.push({ template, cell })
      }
  const all = [...samples.values()].flat()
  const cases = all.map(({ template }) => makeCase(template, 'near', () => harness.newState(), next))
  const ran = await runCases(harness, cases)
  const good = new Map<string, number>()
  for (const { item, outcome } of ran)
    good.set(item.template.key, (good.get(item.template.key) ?? 0) + (outcome.what === 'faulted' ? 0 : 1))
  const isGood = ([key, list]: [string, Sample[]]): boolean => 2 * good.get(key)! > list.length
  const keys = new Set([...samples].filter(isGood).map(([key]) => key))
  const cells = new Map<CaseClass, Set<number>>()
  for (const { template, cell } of all) {
    if (!keys.has(template.key)) continue
    const set = cells.get(template.caseClass) ?? new Set()
    cells.set(template.caseClass, set.add(cell))
  }
  return {
    keys,
    cells: new Map([...cells].map(([name, set]) => [name, [...set]])),
    all: [...new Set(all.filter(({ template }) => keys.has(template.key)).map(({ cell }) => cell))],
    lacking: [
      ...[...samples]
        .filter(([key]) => !keys.has(key))
        .map(([, [{ template }]]) => template)
        .filter(({ branch }) => branch === undefined),
      maker.xbegin(),
    ],
  }
}

/** The forms of the classes that are told by how they address memory. */
const FORM_OF: Partial<Readonly<Record<CaseClass, readonly Form[]>>> = {
  absolute: ['absolute'],
  index: ['index'],
  base: ['base'],
  addr32: ['eip', 'absolute', 'index32', 'base32'],
  gather: ['index'],
  hint: ['rip', 'absolute', 'index', 'base'],
}

/** An instruction of the class that runs here; undefined where none was found. */
export function pickTemplate(
  { cells, all, keys }: Known,
  caseClass: CaseClass,
  maker: TemplateMaker,
  next: () => number,
): Template | undefined {
  if (caseClass === 'branch') return maker.branch()
  if (caseClass === 'short') return maker.short()
  if (caseClass === 'immediate') return makeImmediate(next)
  if (caseClass === 'addr32' && next() % 16 === 0) return maker.moffs()
  const list = cells.get(caseClass) ?? all
  if (caseClass === 'gather' && list === all) return undefined
  const forms = FORM_OF[caseClass] ?? ['rip']
  for (let i = 0; i < 40; i++) {
    const cell = list[next() % list.length]
    const form = forms[next() % forms.length]
    const template = maker.make(cell, form, caseClass === 'lock')
    if (template !== undefined && template.caseClass === caseClass && keys.has(template.key)) return template
  }
  return undefined
}
