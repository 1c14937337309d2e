/** Fixtures as objects of a native heap: their calls must give there what they gave where the linker had put them. */
import { readFileSync } from 'node:fs'
import { analyze } from '../../../src/analyze/analyze.ts'
import type { Hints } from '../../../src/analyze/hints.ts'
import type { CodeHeap } from '../../../src/heap/heap.ts'
import { type NativeMemory, PAGE_SIZE } from '../../../src/heap/native/memory.ts'
import type { CodeHandle } from '../../../src/heap/object.ts'
import type { SiteInput } from '../../../src/table/from-sites.ts'
import { RelocationTable } from '../../../src/table/table.ts'
import { type Fixture, loadFixtures } from '../../support/fixtures.ts'
import { outsidePieces, sameMemory } from '../../support/run-fixture.ts'
import { runsOf, truthOf } from '../../support/sabotage.ts'

/** The outsides of many fixtures: each is loaded anew before a call, since they share addresses. */
export class Outsides {
  readonly #memory: NativeMemory
  /** By page. */
  readonly #pages = new Map<bigint, Uint8Array>()

  constructor(memory: NativeMemory) {
    this.#memory = memory
  }

  /** Maps what the outside of a fixture needs. Code of it is the same for all that have it at that place. */
  prepare(fixture: Fixture): void {
    for (const { address, length, access, bytes } of outsidePieces(fixture.links[0].base, fixture, [])) {
      for (const page of pagesOf(address, length)) {
        if (this.#pages.has(page)) continue
        this.#memory.map(page, PAGE_SIZE)
        this.#pages.set(page, this.#memory.view(page, PAGE_SIZE, 'rw'))
      }
      if (access !== 'rx') continue
      for (const page of pagesOf(address, length)) this.#memory.protect(page, PAGE_SIZE, 'rw')
      this.#copy(address, length, (part, at) => part.set(bytes.subarray(at, at + part.length)))
      for (const page of pagesOf(address, length)) this.#memory.protect(page, PAGE_SIZE, 'rx')
    }
  }

  /** The outside as it is before a call with the blob at `base`. */
  load(fixture: Fixture, base: bigint): void {
    for (const { address, length, access, bytes } of outsidePieces(base, fixture, []))
      if (access !== 'rx')
        this.#copy(address, length, (part, at) => part.set(bytes.subarray(at, at + part.length)))
  }

  /** What a call has left in what it may write. */
  written(fixture: Fixture): Uint8Array[] {
    return fixture.outside
      .filter(({ access }) => access === 'rw')
      .map(({ address, length }) => {
        const bytes = new Uint8Array(length)
        this.#copy(address, length, (part, at) => bytes.set(part, at))
        return bytes
      })
  }

  #copy(address: bigint, length: number, work: (part: Uint8Array, at: number) => void): void {
    for (let at = 0; at < length; ) {
      const offset = Number((address + BigInt(at)) % BigInt(PAGE_SIZE))
      const count = Math.min(PAGE_SIZE - offset, length - at)
      const page = this.#pages.get(address + BigInt(at - offset))!
      work(page.subarray(offset, offset + count), at)
      at += count
    }
  }
}

function* pagesOf(address: bigint, length: number): IterableIterator<bigint> {
  const size = BigInt(PAGE_SIZE)
  for (let page = address - (address % size); page < address + BigInt(length); page += size) yield page
}

/** A call and what it did where the linker had put the code. */
interface KnownCall {
  readonly name: string
  /** Index into the guest's entries. */
  readonly entry: number
  readonly args: readonly bigint[]
  readonly rax: bigint
  readonly memory: readonly Uint8Array[]
}

export class FixtureGuest {
  readonly fixture: Fixture
  handle: CodeHandle | undefined
  readonly #outsides: Outsides
  readonly #calls: KnownCall[] = []
  /** Whether analysis finds exactly the linker's fields. Hand-written code has some that only the linker knows. */
  readonly #isFound: boolean

  /** Runs the fixture where it was linked for, to know what its calls do. */
  constructor(fixture: Fixture, memory: NativeMemory, outsides: Outsides, features: ReadonlySet<string>) {
    this.fixture = fixture
    this.#outsides = outsides
    outsides.prepare(fixture)
    this.#isFound = isFound(fixture)
    const [{ base, bytes }] = fixture.links
    memory.map(base, bytes.length)
    memory.write(base, bytes)
    memory.protect(base, bytes.length, 'rx')
    fixture.functions.forEach(({ name, offset, calls, needs, gs }, entry) => {
      if (gs !== undefined || needs.some((feature) => !features.has(feature))) return
      for (const args of calls) {
        outsides.load(fixture, base)
        const rax = memory.call(base + BigInt(offset), args)
        this.#calls.push({ name, entry, args, rax, memory: outsides.written(fixture) })
      }
    })
    memory.unmap(base, bytes.length)
  }

  get calls(): number {
    return this.#calls.length
  }

  /** Adds it: with the linker's fields, or with what analysis finds. */
  add(heap: CodeHeap, exact: boolean): void {
    const { links, functions, name } = this.fixture
    const [{ base, bytes }] = links
    const entries = functions.map(({ offset }) => offset)
    const table =
      exact || !this.#isFound
        ? RelocationTable.fromSites(truthOf(this.fixture), {
            code: bytes,
            base,
            moved: heap.moved(base, bytes.length),
            runs: runsOf(this.fixture),
          })
        : undefined
    this.handle = heap.add({
      bytes,
      base,
      name,
      align: 64,
      entries,
      ...(table ? { table } : { hints: hintsOf(this.fixture) }),
    })
  }

  /** Makes its call number `i`. Throws where it gives or writes anything else than at home. */
  call(heap: CodeHeap, i: number): void {
    const { name, entry, args, rax, memory } = this.#calls[i]
    const base = heap.entry(this.handle!, entry) - BigInt(this.fixture.functions[entry].offset)
    this.#outsides.load(this.fixture, base)
    const result = heap.call(this.handle!, args, entry)
    const call = `${this.fixture.name}: ${name}(${args.join(', ')})`
    if (result !== rax) throw new Error(`${call} is ${result}, not ${rax}`)
    const { span, links } = this.fixture
    const written = this.#outsides.written(this.fixture)
    for (const [k, bytes] of written.entries())
      if (!sameMemory(memory[k], bytes, { base: links[0].base, span }, { base, span }))
        throw new Error(`${call} left other bytes in its data`)
  }
}

const hintsOf = ({ ranges, functions }: Fixture): Hints => ({
  ranges: ranges.map(({ start, end, kind }) => ({ start, end, kind })),
  entries: functions.map(({ offset }) => offset),
})

function isFound(fixture: Fixture): boolean {
  const [{ base, bytes }] = fixture.links
  const name = ({ offset, kind }: Pick<SiteInput, 'offset' | 'kind'>): string => `${offset} ${kind}`
  const truth = truthOf(fixture).map(name)
  const found = [...analyze(bytes, { base, hints: hintsOf(fixture) }).sites()].map(name)
  return truth.sort().join() === found.sort().join()
}

/** Fixtures whose blob is never written, linked for below 2 GiB (`low`) or for anywhere else. */
export const guestFixtures = (low: boolean): Fixture[] =>
  loadFixtures().filter(
    ({ runnable, ranges, span, length, links, outside, imports }) =>
      runnable &&
      imports.length === 0 &&
      span === length &&
      links[0].base < 1n << 31n === low &&
      !ranges.some(({ writable }) => writable) &&
      // It lies in the page of the blob: it cannot stay behind.
      !outside.some(({ address }) => address / 4096n === links[0].base / 4096n),
  )

/** Of this processor, as the kernel names them. */
export const cpuFeatures = (): ReadonlySet<string> =>
  new Set(/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].trim().split(' '))
