/**
 * Builds ground truth: links the same objects twice and records what changed.
 *
 *     npx tsx scripts/build-pairs.ts OUT [--work DIR] [--only REGEXP] [--list]
 *
 * For developers. It needs GNU ld and as, the compilers of the recipes (gcc, clang, rustc, go, gfortran, gnat,
 * gdc, ldc2, ghc, nim, nasm) and the static libraries that they name (Debian's `-dev` packages); a recipe whose
 * tools are missing is reported and left out. OUT must lie outside the repository: the objects belong to others.
 *
 * How a case is made
 * 1. pairs/recipes.ts names an origin (objects from an archive or from a compiler) and cases of it: which
 *    output sections move (layout), from where to where, and where everything else stays.
 * 2. pairs/link.ts writes a linker script that names every input section and runs ld twice with
 *    `--emit-relocs`; undefined symbols are 16-byte stubs that stay.
 * 3. pairs/truth.ts compares the two blobs: a relocation record whose bytes differ is a true site, one whose
 *    bytes do not is a site that must be left alone, and a differing byte without a record fails the case.
 * 4. pairs/case.ts writes `OUT/NAME/{case.json,from.bin,to.bin,...}`: `set` is "own", `origin` groups cases of
 *    one library for leave-one-origin-out runs, `language` and `compiler` say what made the code.
 *
 * A link that overflows because ld turned a GOT load into an address (GOTPCRELX relaxation) is repeated with
 * `--no-relax`. Nothing is random: the same tools and packages give the same bytes.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { builtOrigins } from './pairs/built.ts'
import { type CaseFacts, type CaseSummary, type PackUnit, writeCase, writePack } from './pairs/case.ts'
import { furtherOrigins } from './pairs/further.ts'
import { type InputObject, type LinkPlan, linkPair } from './pairs/link.ts'
import { gatherObjects } from './pairs/objects.ts'
import { packUnits } from './pairs/pack.ts'
import { packagedOrigins } from './pairs/packaged.ts'
import { type CaseRecipe, type Origin, PLACES, STYLES, type Style } from './pairs/recipes.ts'
import { groundTruth, unitTruth } from './pairs/truth.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { work: { type: 'string' }, only: { type: 'string', default: '' }, list: { type: 'boolean' } },
})
const only = new RegExp(values.only)
const wanted = [...packagedOrigins, ...builtOrigins, ...furtherOrigins].map((origin) => ({
  ...origin,
  cases: origin.cases.filter((c) => only.test(caseName(origin, c))),
}))

if (values.list) {
  for (const origin of wanted)
    for (const recipe of origin.cases) console.log(caseName(origin, recipe), '|', origin.origin)
} else if (positionals[0]) build(resolve(positionals[0]))
else {
  console.error('usage: build-pairs OUT [--work DIR] [--only REGEXP] [--list]')
  process.exitCode = 2
}

function caseName(origin: Origin, recipe: CaseRecipe): string {
  return `${origin.id}-${recipe.style}${recipe.suffix ?? ''}`
}

function build(out: string): void {
  mkdirSync(out, { recursive: true })
  const work = values.work ? resolve(values.work) : mkdtempSync(join(tmpdir(), 'pairs-'))
  for (const origin of wanted.filter((o) => o.cases.length)) {
    const directory = join(work, origin.id)
    rmSync(directory, { recursive: true, force: true })
    mkdirSync(join(directory, 'o'), { recursive: true })
    attempt(origin.id, () => {
      const objects = gatherObjects(origin, directory)
      for (const recipe of origin.cases)
        attempt(caseName(origin, recipe), () => {
          const summary = buildCase({ out, directory, origin, recipe, objects })
          console.log(
            `${summary.name}: ${summary.bytes} bytes, ${summary.changed} of ${summary.sites} sites change`,
          )
        })
    })
  }
  if (!values.work) rmSync(work, { recursive: true })
}

/** A case that cannot be made is reported with the tool's own words and does not stop the others. */
function attempt(name: string, action: () => void): void {
  try {
    action()
  } catch (error) {
    console.error(`${name}: FAILED: ${words(error).slice(0, 1500)}`)
    process.exitCode = 1
  }
}

/** What a tool said, or else what we say. */
function words(error: unknown): string {
  const { message, stderr } = error as Error & { stderr?: Buffer | string }
  return stderr?.toString() || message
}

interface Job {
  readonly out: string
  readonly directory: string
  readonly origin: Origin
  readonly recipe: CaseRecipe
  readonly objects: readonly InputObject[]
}

function buildCase(job: Job): CaseSummary {
  const flags = job.recipe.ldFlags ?? []
  try {
    return linkCase(job, flags)
  } catch (error) {
    if (!/GOTPCRELX|no-relax|relaxed differently|relocation records/.test(words(error))) throw error
    return linkCase(job, [...flags, '--no-relax'])
  }
}

function linkCase({ out, directory, origin, recipe, objects }: Job, flags: readonly string[]): CaseSummary {
  const style: Style = STYLES[recipe.style]
  const [from, to, fixedBase] = PLACES[recipe.place]
  const moving = recipe.moving
  const moved = objects.filter((o) => !moving || moving.test(basename(o.file)))
  const plan: LinkPlan = {
    directory,
    objects,
    movedFiles: moving && new Set(moved.map((o) => o.file)),
    layout: style.layout,
    units: style.kind === 'one-function-out' ? packUnits(objects, from, to, recipe.count ?? 120) : [],
    fixedBase,
    dropUnwind: !style.layout.includes('eh'),
    flags,
  }
  const linked = linkPair(plan, from, to)
  const partial = moved.length < objects.length ? `${moved.length} of ${objects.length} objects move` : ''
  const facts: CaseFacts = {
    name: caseName(origin, recipe),
    kind: style.kind,
    ...origin,
    layout: style.layout,
    ldFlags: flags,
    stubbedSymbols: linked.stubs,
    fixedBase,
    notes: [partial, origin.notes, recipe.notes].filter(Boolean).join('; '),
  }
  if (style.kind !== 'one-function-out') {
    const mixed = style.layout.includes('textrodata')
    return writeCase(out, facts, from, to, groundTruth(linked.from, linked.to, from, to, mixed))
  }
  const units: PackUnit[] = plan.units.flatMap((unit, n) => {
    const truth = unitTruth(linked.from, linked.to, `.u${n}`)
    return truth ? [{ object: basename(unit.file), section: unit.section.name, truth }] : []
  })
  return writePack(out, facts, units)
}
