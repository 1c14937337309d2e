/**
 * How objects come into a heap: tables are found or checked, ends of fields get their owners, places are
 * taken, the bytes are relocated to them, and all is published in one write scope. What fails before that has
 * changed nothing.
 */
import { type AnalyzeOptions, analyze } from '../analyze/analyze.ts'
import { checkHints } from '../analyze/hints.ts'
import { type AddressLike, hex, toAddress, toOffset } from '../core/address.ts'
import { toBytes } from '../core/bytes.ts'
import { formatProblem, RelocError } from '../core/errors.ts'
import { checkedLater, checkFlag, checkText, listOf, optional, optionsRule } from '../core/options.ts'
import { type AddressRange, sortDisjoint, toRange } from '../core/range.ts'
import { relocate } from '../relocate/relocate.ts'
import { PC32 } from '../table/kinds.ts'
import { type RelocationTable, toTable } from '../table/table.ts'
import { checkCoverage, ownSites, placingTable, requiredCoverage, type Surroundings } from './build.ts'
import { type Fields, LINK, measureFields, NO_FIELDS, SELF } from './fields.ts'
import { POISON } from './memory.ts'
import { Block, CodeObject, LEAST_ALIGN } from './object.ts'
import type { HeapState } from './state.ts'

/** Code to add. */
export interface CodeInput {
  readonly bytes: Uint8Array
  /** Address that the bytes are made for. */
  readonly base: AddressLike
  /** Its address fields; it must cover `heap.moved(...)`. By default the code is analysed. */
  readonly table?: RelocationTable | undefined
  /** For the analysis. */
  readonly hints?: AnalyzeOptions['hints']
  /** Offsets where it is entered, by default 0 alone. */
  readonly entries?: readonly number[] | undefined
  /** Of its address, a power of two; by default 16. */
  readonly align?: number | undefined
  /** Every frame of it keeps rbp as a frame pointer; by default where frames are is computed from the code. */
  readonly framePointers?: boolean | undefined
  /** For people and profilers. */
  readonly name?: string | undefined
}

const checkInput = optionsRule<CodeInput>('heap.add', {
  bytes: toBytes,
  base: toAddress,
  table: optional(toTable),
  hints: checkedLater,
  entries: optional(listOf('offsets', toOffset)),
  align: optional(toOffset),
  framePointers: optional(checkFlag),
  name: optional(checkText),
})

const checkInputs = listOf('{ bytes, base }', checkInput)

/** A place that was taken from the free list. */
interface Taken {
  readonly position: number
  readonly size: number
}

/** Adds objects that may refer to one another: all or none. */
export function admit(state: HeapState, inputs: readonly CodeInput[]): CodeObject[] {
  checkInputs(inputs, 'inputs')
  const objects: CodeObject[] = []
  const taken: Taken[] = []
  try {
    for (const input of inputs) objects.push(newObject(state, input))
    place(state, inputs, objects, taken)
  } catch (error) {
    for (const { position, size } of taken) state.free.free(position, size)
    for (const object of objects) state.dropHandle(object.handle)
    throw error
  }
  return objects
}

function newObject(state: HeapState, input: CodeInput): CodeObject {
  const { length } = input.bytes
  const align = input.align ?? LEAST_ALIGN
  if (!Number.isSafeInteger(align) || align < 1 || align > 4096 || (align & (align - 1)) !== 0)
    throw new RelocError('bad-argument', `align is ${align}: a power of two up to 4096 is needed.`)
  const entries = (input.entries ?? [0]).map((entry, i) => toOffset(entry, `entries[${i}]`, length))
  return new CodeObject({
    handle: state.newHandle(input.name),
    length,
    align: Math.max(align, LEAST_ALIGN),
    entries,
    framePointers: input.framePointers,
  })
}

/** @param taken is filled with the places as they are taken */
function place(
  state: HeapState,
  inputs: readonly CodeInput[],
  objects: readonly CodeObject[],
  taken: Taken[],
): void {
  const owns = inputs.map(({ base, bytes }, i) => ({
    ...toRange(base, Math.max(bytes.length, 1), objects[i].handle.name),
    object: objects[i],
  }))
  const around: Surroundings = {
    members: sortDisjoint(owns, 'the objects, where they are made for'),
    reservation: state.reservation,
    managed: state.managed,
    find: (address) => {
      const block = state.blockAt(address)
      return block === undefined || block.retired ? undefined : block.object
    },
  }
  const tables = inputs.map((input, i) => tableOf(input, owns[i], around))
  const owned = tables.map((table, i) => ownSites(table, objects[i], around))
  for (const { size, align, handle } of objects)
    taken.push({ position: state.allocate(size, align, handle.name), size })
  const to = taken.map(({ position }) => state.memory.base + BigInt(position))
  const codes = tables.map((table, i) => {
    const placing = placingTable(table, around)
    const also = owns.flatMap(({ start, end }, j) =>
      j !== i && placing.coverage.some((range) => range.start === start && range.end === end)
        ? [{ from: start, to: to[j], length: end - start }]
        : [],
    )
    return placed(objects[i], () => relocate(inputs[i].bytes, placing, { to: to[i], also }).bytes)
  })
  objects.forEach((object, i) => {
    object.roots = owned[i].roots
    object.problems = tables[i].problems
    object.block = new Block(object, taken[i].position, owned[i].fields, owned[i].links)
  })
  enter(state, objects, codes)
}

/** Throws `refused` with what can be done about it in a heap. */
function placed(object: CodeObject, work: () => Uint8Array): Uint8Array {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof RelocError) || error.code !== 'refused') throw error
    const problems = error.problems.map((problem) => ({ ...problem, remedy: OUT_OF_REACH }))
    const first = problems.find(({ severity }) => severity === 'error')!
    throw new RelocError(
      'refused',
      `${object.handle.name} cannot lie in this heap: ${formatProblem(first)}`,
      problems,
    )
  }
}

const OUT_OF_REACH =
  'Place the heap near what its code refers to (`nativeMemory({ near: [address] })`, `simulatedMemory({ base })`), or let the code hold that address in 64 bits.'

/** The table that was given, checked, or what analysis finds. */
function tableOf(input: CodeInput, own: AddressRange, around: Surroundings): RelocationTable {
  const { table, bytes } = input
  if (table === undefined) {
    const known = checkHints(input.hints, bytes.length, own.start).entries
    const entries = [...new Set([...known, ...(input.entries ?? [0])])]
    return movable(
      analyze(bytes, {
        base: own.start,
        moved: requiredCoverage(own, around),
        hints: { ...input.hints, entries: entries.filter((entry) => entry < bytes.length) },
      }),
    )
  }
  table.check(bytes)
  if (table.base !== own.start)
    throw new RelocError(
      'bad-table',
      `The table describes the code at ${hex(table.base)}, not at ${hex(own.start)}.`,
    )
  checkCoverage(table, own, around)
  return table
}

/** What analysis sees to be an address and cannot write. */
const STUCK: ReadonlySet<string> = new Set(['split-entered', 'split-shared'])

/** Throws `refused` where an address is seen that no move could follow: nobody looks at what a heap moves. */
function movable(table: RelocationTable): RelocationTable {
  const stuck = table.problems.filter(({ code }) => STUCK.has(code))
  if (stuck.length > 0)
    throw new RelocError('refused', `The code cannot move: ${formatProblem(stuck[0])}`, stuck)
  return table
}

/** Publishes new objects whose blocks are made and whose places are taken. */
function enter(state: HeapState, objects: readonly CodeObject[], codes: readonly Uint8Array[]): void {
  const { memory, objects: slots } = state
  for (const object of objects) object.place = object.block.position
  objects.forEach(({ block: { fields, links }, place }, i) => {
    measureFields(fields, codes[i], { place, shift: 0, links })
  })
  const from = Math.min(...objects.map(({ block }) => block.position))
  const to = Math.max(...objects.map(({ block }) => block.position + block.size))
  memory.write(from, to, (writer) => {
    objects.forEach((object, i) => {
      const image = new Uint8Array(object.size).fill(POISON, codes[i].length)
      image.set(codes[i])
      memory.registry.add(object.block)
      writer.write(object.block.position, image)
      object.block.link()
      slots[object.handle.index] = object
    })
  })
  for (const object of objects) object.canonical = state.canonical(object.block)
}

/** Adds an object of the heap's own that never moves; `make` gives its code for a position. */
export function addFixed(
  state: HeapState,
  name: string,
  length: number,
  make: (position: number) => Uint8Array,
  fields: Fields = NO_FIELDS,
  links: readonly CodeObject[] = [],
): CodeObject {
  const handle = state.newHandle(name)
  const object = new CodeObject({ handle, length, align: LEAST_ALIGN, entries: [0], fixed: true })
  let position = -1
  try {
    position = state.allocate(object.size, object.align, name)
    const code = make(position)
    object.block = new Block(object, position, fields, links)
    enter(state, [object], [code])
    return object
  } catch (error) {
    if (position >= 0) state.free.free(position, object.size)
    state.dropHandle(handle)
    throw error
  }
}

/** Adds `jmp rel32` to offset `entry` of `target`: moves of its target change it as they change any caller. */
export function addStub(state: HeapState, target: CodeObject, entry: number): CodeObject {
  const group = { kind: PC32, target: LINK, anchor: SELF, from: 0, to: 1, min: 0, max: 0 }
  const fields = { offsets: Uint32Array.of(1), groups: [group], splits: [] }
  const make = (position: number): Uint8Array => {
    const distance = target.block.position + entry - (position + 5)
    return Uint8Array.of(0xe9, distance, distance >> 8, distance >> 16, distance >> 24)
  }
  return addFixed(state, `stub of ${target.handle.name}`, 5, make, fields, [target])
}
