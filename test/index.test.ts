/**
 * From plain JavaScript: whatever a public function is given, it works or says in a `RelocError` what was
 * given and what is wanted.
 */
import { readFileSync } from 'node:fs'
import { afterAll, describe, expect, it } from 'vitest'
import * as library from '../src/index.ts'
import { BASE, CODE, codeOf, OPTIONS, TABLE } from './support/bad-input.ts'

const { analyze, copyRuns, explain, move, nearestPlace, placeObject, relocate, relocateNear, sweep, verify } =
  library
const { CodeHeap, nativeMemory, RelocationTable, simulatedMemory } = library

/** What nobody should give, and anybody can. */
type Anything = never
const ANYTHING: readonly unknown[] = [
  undefined,
  null,
  true,
  -1,
  5,
  5n,
  'x',
  [],
  [5],
  [null],
  {},
  { typo: 1 },
  () => 5,
]

const memory = (): ReturnType<typeof simulatedMemory<never>> =>
  simulatedMemory({ base: 0x1000_0000, size: 0x10000, call: () => 1n })
const heap = new CodeHeap(memory())
const bytes = Uint8Array.of(0xc3)
const handle = heap.add({ bytes, base: 0x1000 })
const OBJECT = readFileSync(new URL('../fixtures/elf/place.o', import.meta.url))
const { positions } = relocate(CODE, TABLE, {})
const RUNS = {
  base: BASE,
  runs: Uint32Array.of(0, 5),
  into: new Uint8Array(64),
  to: BASE + 0x1000n,
  places: Uint32Array.of(0),
}
const free = [{ start: 0x50_0000, length: 0x1000 }]

/** Every public function with each of its arguments in turn replaced by `v`. */
const ARGUMENTS: Readonly<Record<string, readonly ((v: Anything) => unknown)[]>> = {
  analyze: [(v) => analyze(v, { base: BASE }), (v) => analyze(CODE, v)],
  copyRuns: [(v) => copyRuns(v, RUNS), (v) => copyRuns(CODE, v)],
  explain: [
    (v) => explain(v, [0], { base: BASE }),
    (v) => explain(CODE, v, { base: BASE }),
    (v) => explain(CODE, [0], v),
  ],
  formatProblem: [(v) => library.formatProblem(v)],
  move: [(v) => move(v, { from: BASE, to: BASE }), (v) => move(CODE, v)],
  nativeMemory: [(v) => nativeMemory(v).close()],
  nearestPlace: [
    (v) => nearestPlace(v, TABLE, { free }),
    (v) => nearestPlace(CODE, v, { free }),
    (v) => nearestPlace(CODE, TABLE, v),
  ],
  placeObject: [(v) => placeObject(v, { base: 0 }), (v) => placeObject(bytes, v)],
  relocate: [(v) => relocate(v, TABLE, {}), (v) => relocate(CODE, v, {}), (v) => relocate(CODE, TABLE, v)],
  relocateNear: [
    (v) => relocateNear(v, TABLE, { free }),
    (v) => relocateNear(CODE, v, { free }),
    (v) => relocateNear(CODE, TABLE, v),
  ],
  simulatedMemory: [(v) => simulatedMemory(v)],
  sweep: [(v) => sweep(v), (v) => sweep(CODE, v)],
  verify: [
    (v) => verify(v, CODE, { moves: [], claim: TABLE }),
    (v) => verify(CODE, v, { moves: [], claim: TABLE }),
    (v) => verify(CODE, CODE, v),
  ],
  'CodeHeap.constructor': [(v) => new CodeHeap(v), (v) => new CodeHeap(memory(), v)],
  'CodeHeap.moved': [(v) => heap.moved(v, 1), (v) => heap.moved(0, v)],
  'CodeHeap.add': [(v) => heap.add(v)],
  'CodeHeap.addAll': [(v) => heap.addAll(v)],
  'CodeHeap.free': [(v) => heap.free(v)],
  'CodeHeap.entry': [(v) => heap.entry(v), (v) => heap.entry(handle, v)],
  'CodeHeap.stableEntry': [(v) => heap.stableEntry(v), (v) => heap.stableEntry(handle, v)],
  'CodeHeap.releaseStableEntry': [
    (v) => heap.releaseStableEntry(v),
    (v) => heap.releaseStableEntry(handle, v),
  ],
  'CodeHeap.call': [(v) => heap.call(v), (v) => heap.call(handle, v), (v) => heap.call(handle, [], v)],
  'CodeHeap.callback': [(v) => heap.callback(v, 1), (v) => heap.callback(() => 1n, v)],
  'CodeHeap.move': [(v) => heap.move(v), (v) => heap.move(handle, v)],
  'CodeHeap.compact': [(v) => heap.compact(v)],
  'CodeHeap.translate': [(v) => heap.translate(v)],
  'CodeHeap.pin': [(v) => heap.pin(v)],
  'CodeHeap.unpin': [(v) => heap.unpin(v)],
  'CodeHeap.freeze': [(v) => heap.freeze(v)],
  'CodeHeap.pinAmbiguous': [(v) => heap.pinAmbiguous(v)],
  'CodeHeap.drain': [(v) => heap.drain(v)],
  'CodeHeap.problems': [(v) => heap.problems(v)],
  'CodeHeap.roots': [(v) => heap.roots(v)],
  'CodeHeap.patchRoot': [
    (v) => heap.patchRoot(v, 0, 0),
    (v) => heap.patchRoot(handle, v, 0),
    (v) => heap.patchRoot(handle, 0, 0, v),
  ],
  'CodeHeap.forwardRoots': [(v) => heap.forwardRoots(v), (v) => heap.forwardRoots((root) => root, v)],
  'CodeHeap.heldRoots': [(v) => heap.heldRoots(v)],
  'RelocationTable.fromSites': [
    (v) => RelocationTable.fromSites(v, OPTIONS),
    (v) => RelocationTable.fromSites([], v),
  ],
  'RelocationTable.fromPair': [
    (v) => RelocationTable.fromPair(v, 0, CODE, 1),
    (v) => RelocationTable.fromPair(CODE, v, CODE, 1),
    (v) => RelocationTable.fromPair(CODE, 0, v, 1),
    (v) => RelocationTable.fromPair(CODE, 0, CODE, v),
    (v) => RelocationTable.fromPair(CODE, 0, CODE, 1, v),
  ],
  'RelocationTable.fromJSON': [(v) => RelocationTable.fromJSON(v)],
  'RelocationTable.fromBinary': [
    (v) => RelocationTable.fromBinary(v, CODE),
    (v) => RelocationTable.fromBinary(TABLE.toBinary(CODE), v),
  ],
  'RelocationTable.toBinary': [(v) => TABLE.toBinary(v)],
  'RelocationTable.matches': [(v) => TABLE.matches(v)],
  'RelocationTable.check': [(v) => TABLE.check(v)],
  'PositionMap.toNew': [(v) => positions.toNew(v)],
  'PositionMap.toOld': [(v) => positions.toOld(v)],
}

/** What is handed nothing, or is internal; the directories of perf's files are for the system to judge. */
const OTHERS: readonly string[] = [
  'nativeUnavailable',
  ...['hold', 'stackWords', 'verify', 'describe', 'close'].map((name) => `CodeHeap.${name}`),
  ...['create', 'toJSON', 'code', 'sites', 'shiftOf', 'now', 'toString'].map(
    (name) => `RelocationTable.${name}`,
  ),
  ...['identity', 'withVeneers'].map((name) => `PositionMap.${name}`),
]
/** Errors, files of perf, and what the library alone makes. */
const OTHER_CLASSES = ['RelocError', 'JitDump', 'PerfMap', 'CodePlace']

/** Options that are right, each function with them. */
const WITH_OPTIONS: Record<string, readonly [right: object, call: (options: never) => unknown]> = {
  analyze: [{ base: BASE }, (options) => analyze(CODE, options)],
  copyRuns: [RUNS, (options) => copyRuns(CODE, options)],
  explain: [{ base: BASE }, (options) => explain(CODE, [0], options)],
  fromSites: [{ code: CODE, base: BASE }, (options) => RelocationTable.fromSites([], options)],
  fromPair: [{}, (options) => RelocationTable.fromPair(bytes, 0, bytes, 1, options)],
  move: [{ from: BASE, to: BASE + 0x1000n }, (options) => move(CODE, options)],
  relocate: [{ to: BASE + 0x1000n }, (options) => relocate(CODE, TABLE, options)],
  relocateNear: [{ free }, (options) => relocateNear(CODE, TABLE, options)],
  simulatedMemory: [{ base: 0, size: 0x1000 }, (options) => simulatedMemory(options)],
  sweep: [{}, (options) => sweep(CODE, options)],
  verify: [{ moves: [], claim: TABLE }, (options) => verify(CODE, CODE, options)],
  veneers: [{}, (veneers) => relocate(CODE, TABLE, { to: 0x7000_0000_0000, veneers })],
  'the veneers of verify': [
    { at: 0, bytes },
    (veneers) => verify(CODE, CODE, { moves: [], claim: TABLE, veneers }),
  ],
  placeObject: [
    {
      base: 0x1000_0000,
      symbols: new Map([
        ['outside_add', 0x1020_0000],
        ['outside_values', 0x1020_0100],
      ]),
    },
    (options) => placeObject(OBJECT, options),
  ],
  CodeHeap: [{}, (options) => new CodeHeap(memory(), options).add({ bytes, base: 0 })],
  'heap.add': [{ bytes, base: 0 }, (input) => heap.add(input)],
  'heap.compact': [{}, (options) => heap.compact(options)],
  budget: [{}, (budget) => heap.compact({ budget })],
  'heap.move': [{}, (options) => heap.move(handle, options)],
  'heap.heldRoots': [{}, (options) => heap.heldRoots(options)],
}

if (library.nativeUnavailable() === undefined)
  WITH_OPTIONS.nativeMemory = [{}, (options) => nativeMemory(options).close()]

/** Calls; what goes wrong is a `RelocError`, or the test fails. */
function attempt(work: () => unknown): string {
  try {
    work()
    return ''
  } catch (error) {
    if (!(error instanceof library.RelocError)) throw error
    return error.message
  }
}

afterAll(() => heap.close())

it.each(Object.entries(ARGUMENTS))('%s takes anything, or says what it wants', (_, calls) => {
  for (const call of calls) {
    const said = ANYTHING.map((value) => attempt(() => call(value as Anything)))
    // No argument is whatever anybody gives.
    expect(said.join('')).not.toBe('')
  }
})

it('no public function is left out', () => {
  const known = new Set([...Object.keys(ARGUMENTS), ...OTHERS])
  const functionsOf = (owner: object, name: string): string[] =>
    Object.entries(Object.getOwnPropertyDescriptors(owner))
      .filter(([key, { value }]) => typeof value === 'function' && key !== 'constructor')
      .map(([key]) => `${name}.${key}`)
  const classes = { CodeHeap, RelocationTable, PositionMap: positions.constructor as typeof Object }
  const all = [
    ...Object.keys(library).filter((name) => !(name in classes) && !OTHER_CLASSES.includes(name)),
    ...Object.entries(classes).flatMap(([name, one]) => [
      ...functionsOf(one.prototype, name),
      ...functionsOf(one, name).filter((key) => !key.endsWith('.prototype')),
    ]),
  ]
  expect(all.filter((name) => !known.has(name))).toEqual([])
})

describe.each(Object.entries(WITH_OPTIONS))('the options of %s', (_, [right, call]) => {
  const attemptWith = (options: object): string => attempt(() => call(options as never))

  it('are known: another key is refused, with the ones that there are', () => {
    expect(attemptWith(right)).toBe('')
    expect(attemptWith({ ...right, typo: 1 })).toMatch(/^"typo" is no option of .* The options are .*\.$/)
  })

  it('each take anything, or say what they want', () => {
    const keys = /The options are (.*)\.$/.exec(attemptWith({ ...right, typo: 1 }))![1].split(', ')
    expect(Object.keys(right).filter((key) => !keys.includes(key))).toEqual([])
    for (const key of keys) {
      const said = ANYTHING.map((value) => attemptWith({ ...right, [key]: value }))
      expect([key, said.join('')]).not.toEqual([key, ''])
    }
  })
})

it.each([
  ['hint', 'hints'],
  ['Base', 'base'],
  ['on_progress', 'onProgress'],
  ['decode', 'decoder'],
])('%s is taken for %s, with what is wanted', (key, meant) => {
  const options = { base: BASE, [key]: 5 }
  expect(codeOf(() => analyze(CODE, options))).toBe('bad-argument')
  expect(attempt(() => analyze(CODE, options))).toContain(
    `"${key}" is no option of analyze, perhaps ${meant} is`,
  )
})

it.each<[string, () => unknown]>([
  [
    'the options argument of analyze is undefined: an object { base, span, moved, hints,',
    () => analyze(CODE, undefined as never),
  ],
  ['table is null: a RelocationTable', () => relocate(CODE, null as never, { to: 0 })],
  ['also is 5: a list of { from, to, length } is needed.', () => relocate(CODE, TABLE, { also: 5 as never })],
  [
    'also[0].length is undefined: an address',
    () => relocate(CODE, TABLE, { also: [{ from: 0, to: 1 } as never] }),
  ],
  ['veneers.at is "x": an address', () => relocate(CODE, TABLE, { veneers: { at: 'x' as never } })],
  ['veneers is 5: true, false or an object { at,', () => relocate(CODE, TABLE, { veneers: 5 as never })],
  ['offsets is 10: a list of offsets is needed.', () => explain(CODE, 10 as never, { base: 0 })],
  ['inputs[0].bytes is undefined: a Uint8Array', () => heap.add({} as never)],
])('%s', (said, work) => {
  expect(attempt(work)).toContain(said)
})
