import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { RelocError } from '../../src/core/errors.ts'
import { readElf } from '../../src/elf/file.ts'
import { type PlacedObject, type PlacedPart, type PlaceOptions, placeObject } from '../../src/elf/place.ts'
import { CodeHeap } from '../../src/heap/heap.ts'
import type { Block } from '../../src/heap/object.ts'
import { simulatedMemory } from '../../src/heap/simulated.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import { compareLinked, linkAt, noLinker } from '../support/linker.ts'
import { NativeHarness, nativeReason } from '../support/native/harness.ts'
import {
  CHOICES,
  linkedBytes,
  OUTSIDE,
  OUTSIDE_SYMBOLS,
  objectBytes,
  outsideBytes,
  PLACE,
  recordPosition,
} from '../support/placed.ts'

const place = (options: Partial<PlaceOptions> = {}): PlacedObject =>
  placeObject(objectBytes(), { ...PLACE, symbols: OUTSIDE_SYMBOLS, ...options })

const range = ({ base, span }: PlacedPart): { start: bigint; length: number } => ({
  start: base,
  length: span,
})
/** `part` moved to where `there` is, while `other` moves too. */
function moved(part: PlacedPart, there: PlacedPart, other?: PlacedPart, otherThere?: PlacedPart): Uint8Array {
  if (other === undefined || otherThere === undefined)
    return relocate(part.bytes, part.table(), { to: there.base }).bytes
  const also = [{ from: other.base, to: otherThere.base, length: other.span }]
  return relocate(part.bytes, part.table([range(other)]), { to: there.base, also }).bytes
}

describe('an object that is placed', () => {
  it('has the bytes that ld writes at the same addresses', () => {
    expect(compareLinked(place(), readElf(linkedBytes()))).toEqual([])
    const elsewhere = place({ base: PLACE.base + 0x1000n })
    expect(compareLinked(elsewhere, readElf(linkedBytes())).length).toBeGreaterThan(10)
  })

  it('moves by its tables, alone and with its data, to what it would be if it were placed there', () => {
    const here = place()
    const [code, data] = [here.code, here.data!]
    const there = place({ base: 0x2000_0000n, writable: 0x2f00_0000n })
    expect(moved(code, there.code, data, there.data!)).toEqual(there.code.bytes)
    expect(moved(data, there.data!, code, there.code)).toEqual(there.data!.bytes)
    const alone = place({ base: 0x2000_0000n })
    expect(relocate(code.bytes, code.table(), { to: 0x2000_0000n }).bytes).toEqual(alone.code.bytes)
    const followed = relocate(data.bytes, data.table([range(code)]), {
      to: data.base,
      also: [{ from: code.base, to: 0x2000_0000n, length: code.span }],
    })
    expect(followed.bytes).toEqual(alone.data!.bytes)
    // What is outside moves too: a call, and the words in data that lead there.
    const outside = { start: OUTSIDE, length: 0x200 }
    const other = new Map([...OUTSIDE_SYMBOLS].map(([name, address]) => [name, address + 0x5000n]))
    const away = relocate(code.bytes, code.table([outside]), {
      to: code.base,
      also: [{ from: OUTSIDE, to: OUTSIDE + 0x5000n, length: 0x200 }],
    })
    expect(away.bytes).toEqual(place({ symbols: other }).code.bytes)
  })

  it('is one part with its zeros behind it, unless what it writes has a place of its own', () => {
    const { code, data } = place({ writable: undefined })
    expect(data).toBeUndefined()
    expect(code.sections.map(({ name }) => name)).toEqual(
      ['.text', '.text.shared', '.plt', '.rodata', 'listed', '.eh_frame'].concat([
        '.data.rel.ro',
        '.got',
        '.data',
        '.data.rel',
        '.bss',
        'COMMON',
      ]),
    )
    expect(code.span - code.bytes.length).toBeGreaterThanOrEqual(64 + 24)
    for (const { name, offset } of code.sections)
      if (name !== '.text.shared') expect(offset % (name === '.rodata' || name === '.bss' ? 32 : 1)).toBe(0)
    expect(code.align).toBe(32)
  })

  it('knows where its symbols, functions, objects and unwind entries are', () => {
    const { code, data, symbol } = place()
    const named = new Map([...code.symbols()].map((one) => [one.name, one]))
    for (const name of ['choose', 'fields', 'twelve', 'shared', 'twice']) {
      const { offset, type } = named.get(name)!
      expect(type).toBe('function')
      expect(code.entries).toContain(offset)
    }
    expect(symbol('choose')).toBe(code.base + BigInt(named.get('choose')!.offset))
    expect([symbol('twice'), symbol('outside_add'), symbol('nobody')]).toEqual([
      undefined,
      undefined,
      undefined,
    ])
    const inData = [...data!.symbols()].map(({ name, letter }) => `${letter} ${name}`)
    expect(inData).toEqual(expect.arrayContaining(['D counter', 'D handlers', 'b zeros', 'B common_words']))
    expect(symbol('common_words')! - data!.base).toBe(128n)
  })

  it('calls by stubs what is far, or everything outside', () => {
    const far = new Map([...OUTSIDE_SYMBOLS, ['outside_add', 0x7e00_0000_0000n]] as const)
    const stubs = (object: PlacedObject): number =>
      object.code.sections.find(({ name }) => name === '.plt')!.size / 8
    expect([stubs(place()), stubs(place({ symbols: far })), stubs(place({ stubs: 'all' }))]).toEqual([
      0, 1, 2,
    ])
    const all = place({ stubs: 'all' }).code
    const toOutside = [...all.table([{ start: OUTSIDE, length: 0x200 }]).sites()].filter(
      ({ target }) => target >= OUTSIDE && target < OUTSIDE + 0x200n,
    )
    expect(toOutside.map(({ kind }) => kind)).toEqual(['abs64', 'abs64', 'abs64'])
  })
})

it('a placed object in a heap is, wherever it moves, what it would be if it were placed there', () => {
  const { code } = place({ stubs: 'all' })
  const memory = simulatedMemory<Block>({ base: 0x4000_0000, size: 0x10_0000 })
  const heap = new CodeHeap(memory)
  const filler = heap.add({ bytes: new Uint8Array(3000).fill(0xc3), base: 0x1000 })
  const handle = heap.add({
    bytes: code.bytes,
    base: code.base,
    table: code.table(heap.moved(code.base, code.span)),
    entries: code.entries,
    align: code.align,
  })
  const isPlaced = (): void => {
    const base = heap.entry(handle) - BigInt(code.entries[0])
    const at = Number(base - memory.base)
    expect(memory.bytes.slice(at, at + code.bytes.length)).toEqual(place({ base, stubs: 'all' }).code.bytes)
  }
  isPlaced()
  for (const to of [0x8000, 0x20, 0x5_0000]) {
    if (to === 0x20) heap.free(filler)
    heap.move(handle, { to: memory.base + BigInt(to) })
    isPlaced()
  }
  expect(heap.verify()).toEqual([])
})

describe.skipIf(nativeReason !== '')(`a placed object runs ${nativeReason}`, () => {
  /** `choose(0)`, `choose(1)` ...: an index that throws away what earlier ones left in memory. */
  const run = async (object: PlacedObject, outside: bigint): Promise<bigint[]> => {
    const harness = await NativeHarness.start()
    try {
      for (const [part, access] of [
        [object.code, 'rx'],
        [object.data!, 'rw'],
      ] as const)
        await harness.map(part.base, part.span, access, part.bytes)
      await harness.map(outside, 0x1000, 'rx', outsideBytes())
      const results: bigint[] = []
      for (let n = 0; n < CHOICES.length; n++)
        results.push(await harness.callFunction(object.symbol('choose')!, [BigInt(n)]))
      return results
    } finally {
      harness.close()
    }
  }

  it('where it was placed, near and far from what it calls', async () => {
    expect(await run(place(), OUTSIDE)).toEqual(CHOICES)
    const far = 0x7e00_0000_0000n
    const symbols = (name: string): bigint | undefined => {
      const address = OUTSIDE_SYMBOLS.get(name)
      return address === undefined ? undefined : address - OUTSIDE + far
    }
    expect(await run(place({ symbols }), far)).toEqual(CHOICES)
  })
})

const directory = mkdtempSync(join(tmpdir(), 'place-test-'))
afterAll(() => rmSync(directory, { recursive: true }))
const compilers = ['gcc', 'clang'].filter((name) => spawnSync(name, ['--version']).status === 0)
const OPTIONS = [
  '-O2 -fPIC',
  '-O0 -fno-pic -mcmodel=small',
  '-Os -fno-pic',
  '-O2 -mcmodel=large',
  '-O2 -fPIC -mcmodel=large',
  '-O2 -fPIC -ffunction-sections -fdata-sections',
]
const here = noLinker || (compilers.length === 0 ? 'there is no C compiler' : '')

describe.skipIf(here !== '')(`what compilers of this machine make ${here}`, () => {
  const sources = ['fixtures/elf/place.c', 'fixtures/src/interpreter.c', 'fixtures/src/strings.c']
  it.each(compilers.flatMap((compiler) => OPTIONS.map((options) => [compiler, options] as const)))(
    '%s %s: what ld makes of it, and a move by the table',
    (compiler, options) => {
      const path = join(directory, 'object.o')
      for (const source of sources) {
        execFileSync(compiler, [...options.split(' '), '-w', '-c', source, '-o', path])
        const bytes = new Uint8Array(readFileSync(path))
        const outside = new Map<string, bigint>()
        const symbols = (name: string): bigint | undefined => {
          if (name === '_GLOBAL_OFFSET_TABLE_') return undefined
          if (!outside.has(name)) outside.set(name, 0x3000_0000n + BigInt(0x110 * outside.size))
          return outside.get(name)
        }
        const one = placeObject(bytes, { ...PLACE, symbols })
        expect(compareLinked(one, linkAt(bytes, one, outside))).toEqual([])
        const other = placeObject(bytes, { base: 0x2000_0000n, writable: 0x2800_0000n, symbols })
        expect(moved(one.code, other.code, one.data, other.data)).toEqual(other.code.bytes)
        if (one.data !== undefined && other.data !== undefined)
          expect(moved(one.data, other.data, one.code, other.code)).toEqual(other.data.bytes)
      }
    },
  )
})

describe('what cannot be placed is refused', () => {
  const change = (at: number, ...values: number[]): Uint8Array => {
    const bytes = objectBytes()
    bytes.set(values, at)
    return bytes
  }
  const refusal = (bytes: Uint8Array, options: Partial<PlaceOptions> = {}): RelocError => {
    try {
      placeObject(bytes, { ...PLACE, symbols: OUTSIDE_SYMBOLS, ...options })
    } catch (error) {
      if (error instanceof RelocError) return error
      throw error
    }
    throw new Error('it was placed')
  }
  const field = recordPosition

  it.each([
    [
      'thread-local',
      23,
      /\.text\+0x[0-9a-f]+, R_X86_64_TPOFF32, symbol \w+: the variable is thread-local.*emulated-tls/,
    ],
    ['thread-local, general', 19, /R_X86_64_TLSGD.*thread-local/],
    ['of a loader', 8, /R_X86_64_RELATIVE.*for loaders/],
    ['unknown', 99, /relocation type 99.*not known/],
  ])('a record %s', (_, type, message) => {
    const error = refusal(change(field('PLT32') + 8, type))
    expect(error.code).toBe('refused')
    expect(error.message).toMatch(message)
  })

  it.each([
    [{ stubs: 'al' }, 'stubs is "al"'],
    [{ symbols: { outside_add: 0x1020_0000 } }, 'symbols is to be a Map'],
  ])('options that are none: %j', (options, message) => {
    expect(() => place(options as unknown as PlaceOptions)).toThrow(message)
  })

  it('symbols that nobody gives, each named once', () => {
    const error = refusal(objectBytes(), { symbols: undefined })
    expect(error.code).toBe('refused')
    expect(error.problems.map(({ code, message }) => [code, /symbol (\w+)/.exec(message)![1]])).toEqual([
      ['missing-symbol', 'outside_add'],
      ['missing-symbol', 'outside_values'],
    ])
  })

  it.each([
    ['32S', { base: 0x8000_0000n }, /R_X86_64_32S?, symbol here_word: the value would be 0x80.*field holds/],
    [
      '32',
      { base: 0x1_0000_0000n, writable: 0x1_0100_0000n },
      /R_X86_64_32, symbol here_word: the value would be 0x1000.*unsigned/,
    ],
    ['PC32', { writable: 0x2_0000_0000n }, /R_X86_64_PC32.*signed 32-bit field.*another base/],
    ['a base that is not aligned', { base: 0x1000_0010n }, /section \d+ \(\.rodata\) needs.*multiple of 32/],
    ['parts that overlap', { writable: 0x1000_0100n }, /they overlap/],
    ['the end of the address space', { base: 0xffff_ffff_ffff_ffe0n, writable: undefined }, /pass the end/],
  ])('%s out of reach', (_, options, message) => {
    expect(refusal(objectBytes(), options).message).toMatch(message)
  })

  it.each([
    ['a file that is linked', linkedBytes(), /linked already/],
    [
      "a record behind the section's end",
      change(field('PLT32'), 0xff, 0xff),
      /damaged: a record writes 4 bytes/,
    ],
    [
      'two records for one field',
      change(field('PLT32'), ...objectBytes().subarray(field('PC32'), field('PC32') + 8)),
      /same field/,
    ],
    ['a symbol that does not exist', change(field('PLT32') + 12, 0xff, 0xff), /names symbol \d+/],
    ['no object at all', new Uint8Array(70), /does not begin/],
  ])('%s', (_, bytes, message) => {
    const error = refusal(bytes)
    expect(error.code).toBe('bad-input')
    expect(error.message).toMatch(message)
  })
})
