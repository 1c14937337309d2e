/** The house has rooms, and arrows between them point one way: every import in src is read. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'

const SRC = join(import.meta.dirname, '../src')

/** What each room may import besides itself: rooms, or single files of one. `src` holds move.ts and index.ts. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  table: ['core'],
  x86: ['core', 'table'],
  analyze: ['core', 'table', 'x86'],
  relocate: ['core', 'table', 'x86/emit', 'x86/instruction.ts', 'x86/swept-runs.ts', 'x86/walk.ts'],
  verify: ['core', 'table', 'x86/iced.ts', 'x86/instruction.ts', 'x86/symbolic.ts', 'x86/symbolic-step.ts'],
  edit: ['core', 'table', 'x86', 'relocate', 'analyze', 'verify'],
  heap: ['core', 'table', 'x86', 'relocate', 'analyze', 'verify', 'edit'],
  elf: ['core', 'table'],
  src: ['core', 'table', 'x86', 'analyze', 'relocate', 'verify', 'edit', 'heap', 'elf', 'src'],
  cli: ['core', 'table', 'x86', 'analyze', 'relocate', 'verify', 'edit', 'heap', 'elf', 'src', 'start'],
  start: [],
}

/** Packages and Node's own modules, and the only places that may name them. */
const OUTSIDE: readonly (readonly [pattern: RegExp, places: readonly string[]])[] = [
  [/^iced-x86$/, ['x86']],
  [/^elfy$/, ['elf']],
  [/^koffi$/, ['heap/native']],
  [/^node:/, ['cli', 'heap/native', 'start']],
]

/** Globals that only Node has. */
const NODE_GLOBALS = /\b(process|Buffer|require|__dirname|__filename)\b/
const NODE_GLOBAL_PLACES = ['cli', 'start', 'heap/native', 'elf', 'core/package.ts']

interface File {
  /** Relative to src. */
  readonly path: string
  readonly text: string
  readonly imports: readonly string[]
}

const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\s*\(\s*|\bloadPackage\s*\(\s*)(['"])([\w@./:-]+)\1/g

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|(?<![:'"])\/\/.*$/gm, '')

const FILES: readonly File[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => {
    const text = withoutComments(readFileSync(join(SRC, path), 'utf8'))
    return { path, text, imports: [...text.matchAll(IMPORT)].map((match) => match[2]) }
  })

const roomOf = (path: string): string => (path.includes('/') ? path.split('/')[0] : 'src')
const isIn = (path: string, places: readonly string[]): boolean =>
  places.some((place) => path.startsWith(place) || (place === 'src' && !path.includes('/')))

/** The file of src that a relative import names. */
const resolved = (from: string, specifier: string): string =>
  relative(SRC, join(SRC, dirname(from), specifier))

/** Imports of src that the rules forbid, as sentences. */
function violations(files: readonly File[]): string[] {
  return files.flatMap(({ path, text, imports }) => {
    const wrong: string[] = []
    const room = roomOf(path)
    for (const specifier of imports) {
      if (specifier.startsWith('.')) {
        const target = resolved(path, specifier)
        if (roomOf(target) !== room && !isIn(target, MAY_IMPORT[room] ?? []))
          wrong.push(`${path} imports ${target}`)
        if (!specifier.endsWith('.ts') && !specifier.endsWith('.json'))
          wrong.push(`${path} imports ${specifier} without its ending`)
      } else {
        const rule = OUTSIDE.find(([pattern]) => pattern.test(specifier))
        if (rule === undefined || !isIn(path, rule[1])) wrong.push(`${path} imports ${specifier}`)
      }
    }
    if (NODE_GLOBALS.test(text.replace(/'[^'\n]*'|`[^`]*`/g, '')) && !isIn(path, NODE_GLOBAL_PLACES))
      wrong.push(`${path} uses a global of Node`)
    return wrong
  })
}

describe('imports', () => {
  it('point the way that the house allows', () => {
    expect(violations(FILES)).toEqual([])
  })

  it('are all seen: every room is there and has imports, dynamic and late ones too', () => {
    const imports = new Set(FILES.flatMap((file) => file.imports))
    for (const specifier of ['iced-x86', 'koffi', 'node:fs', './relocate.ts', '../core/errors.ts'])
      expect(imports).toContain(specifier)
    for (const room of ['core', 'table', 'x86', 'analyze', 'relocate', 'verify', 'cli'])
      expect(FILES.some((file) => roomOf(file.path) === room)).toBe(true)
    expect(FILES.filter((file) => MAY_IMPORT[roomOf(file.path)] === undefined)).toEqual([])
  })

  it.each([
    ['core/a.ts', '../table/table.ts'],
    ['table/a.ts', '../x86/iced.ts'],
    ['x86/a.ts', '../analyze/analyze.ts'],
    ['relocate/a.ts', '../x86/iced.ts'],
    ['verify/a.ts', '../relocate/plan.ts'],
    ['verify/a.ts', '../analyze/analyze.ts'],
    ['verify/a.ts', '../x86/scanner.ts'],
    ['elf/a.ts', '../x86/iced.ts'],
    ['analyze/a.ts', '../cli/run.ts'],
    ['analyze/a.ts', '../move.ts'],
    ['analyze/a.ts', 'iced-x86'],
    ['cli/a.ts', 'koffi'],
    ['heap/a.ts', 'node:fs'],
    ['core/a.ts', 'commander'],
    ['core/a.ts', './errors'],
  ])('%s may not import %s', (path, specifier) => {
    expect(violations([{ path, text: '', imports: [specifier] }])).toHaveLength(1)
  })
})

it('every package that src imports is a declared dependency, and no other is declared', () => {
  const { dependencies, optionalDependencies } = JSON.parse(
    readFileSync(join(SRC, '../package.json'), 'utf8'),
  ) as Record<string, Record<string, string>>
  const declared = Object.keys({ ...dependencies, ...optionalDependencies })
  const used = new Set(
    FILES.flatMap((file) => file.imports).filter(
      (name) => !name.startsWith('.') && !name.startsWith('node:'),
    ),
  )
  expect([...used].sort()).toEqual(declared.sort())
})
