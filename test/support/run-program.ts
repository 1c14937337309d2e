/**
 * Small programs in hex with names for addresses, run where they were and where they were moved to, near and
 * out of reach. A line is an optional label, bytes, and fields in braces: `{name}` is a 32-bit distance from
 * the line's end, `{name:8}` an 8-bit one, `{name:abs64}`, `{name:abs32s}` an address. Outside names: `out1`
 * to `out3` leave by that exit, `data` is memory that stays, `end` is the first byte behind the blob.
 */
import { hexBytes } from '../../src/core/bytes.ts'
import { move } from '../../src/move.ts'
import type { Relocation } from '../../src/relocate/relocate.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { type CodeRun, RelocationTable } from '../../src/table/table.ts'
import type { NativeCase, NativeResult } from './native/batch.ts'
import { exitAddress, type NativeHarness } from './native/harness.ts'
import { type CpuState, diffStates, type GeneralRegister } from './native/state.ts'

const PAGE = 0x1000
export const HOME = 0x4000_0000_0000n
export const DATA: bigint = HOME + 0x10_0000n
const OUT: bigint = HOME + 0x20_0000n
const STACK = 0x3000_0000_0000n
const DATA_LENGTH = 256
/** What is compared: from the red zone up. */
const STACK_START: bigint = STACK + 0x2000n
const STACK_LENGTH = 384

/** Where programs go: within reach of everything, with the far end of 2 GB before and behind them, and 100 GB away. */
export const PLACES = {
  near: HOME + 0x40_0000n,
  'just out of reach': DATA - (1n << 31n) - 0x10_0000n,
  '100 GB away': HOME + (100n << 30n),
} as const

const FIELDS = { '8': 1, '32': 4, abs32s: 4, abs64: 8 } as const
type FieldName = keyof typeof FIELDS

/** Called by programs from outside; each a stub at OUT. */
const STUBS: Readonly<Record<string, string>> = {
  // add qword [rsp], 4; ret: goes on behind what follows the call.
  skip4: '48 83 04 24 04 c3',
  // mov rax, [rsp]; ret
  pc: '48 8b 04 24 c3',
  // mov rax, [rsp]; mov rbx, rax; ret 0
  twice: '48 8b 04 24 48 89 c3 c2 00 00',
  // setjmp's and longjmp's way: the return address from rdi's buffer.
  save: '48 8b 04 24 48 89 07 48 8d 44 24 08 48 89 47 08 31 c0 c3',
  restore: '48 8b 67 08 b8 01 00 00 00 ff 27',
}
const STUB_SIZE = 32

function addressOf(name: string, labels: ReadonlyMap<string, number>, end: bigint): bigint {
  const [base, plus = '0'] = name.split('+')
  const label = labels.get(base)
  const stub = Object.keys(STUBS).indexOf(base)
  const address =
    label !== undefined
      ? HOME + BigInt(label)
      : stub >= 0
        ? OUT + BigInt(STUB_SIZE * (4 + stub))
        : base === 'data'
          ? DATA
          : base === 'end'
            ? end
            : OUT + BigInt(STUB_SIZE * Number(base.slice(3)))
  return address + BigInt(plus)
}

interface Line {
  readonly label: string | undefined
  readonly parts: readonly (Uint8Array | { readonly name: string; readonly field: FieldName })[]
}

function parseLine(line: string): Line {
  const [, label, rest] = /^(?:(\w+): *)?(.*)$/.exec(line.split('  ')[0])!
  const parts = (rest.match(/\{[^}]+\}|[0-9a-f]{2}/g) ?? []).map((part) => {
    if (!part.startsWith('{')) return Uint8Array.of(Number.parseInt(part, 16))
    const [name, field = '32'] = part.slice(1, -1).split(':')
    return { name, field: field as FieldName }
  })
  return { label, parts }
}

const sizeOf = (part: Line['parts'][number]): number =>
  part instanceof Uint8Array ? part.length : FIELDS[part.field]

export interface Program {
  readonly code: Uint8Array
  readonly table: RelocationTable
}

/**
 * The bytes of a program at HOME, and the table of what a move changes in it. `claimed`: what is code, if
 * that is not all.
 */
export function assemble(lines: readonly string[], claimed?: readonly CodeRun[]): Program {
  const parsed = lines.map(parseLine)
  const labels = new Map<string, number>()
  let length = 0
  for (const { label, parts } of parsed) {
    if (label !== undefined) labels.set(label, length)
    length += parts.reduce((sum, part) => sum + sizeOf(part), 0)
  }
  const code = new Uint8Array(length)
  const view = new DataView(code.buffer)
  const sites: SiteInput[] = []
  let at = 0
  for (const { parts } of parsed) {
    const next = at + parts.reduce((sum, part) => sum + sizeOf(part), 0)
    for (const part of parts) {
      if (part instanceof Uint8Array) code.set(part, at)
      else {
        const target = addressOf(part.name, labels, HOME + BigInt(length))
        const isInside = target >= HOME && target < HOME + BigInt(length)
        const isAbsolute = part.field.startsWith('abs')
        const value = isAbsolute ? target : target - HOME - BigInt(next)
        if (part.field === 'abs64') view.setBigUint64(at, value, true)
        else if (part.field === '8') view.setInt8(at, Number(value))
        else view.setInt32(at, Number(value), true)
        if (isAbsolute) sites.push({ offset: at, kind: part.field as 'abs64', target })
        else if (!isInside) sites.push({ offset: at, kind: part.field === '8' ? 'pc8' : 'pc32', end: next })
      }
      at += sizeOf(part)
    }
  }
  const runs = claimed ?? [{ start: 0, end: length }]
  return { code, table: RelocationTable.fromSites(sites, { code, base: HOME, runs }) }
}

export async function mapPrograms(harness: NativeHarness): Promise<void> {
  for (const base of [HOME, ...Object.values(PLACES)]) {
    await harness.map(base, PAGE, 'rx')
    await harness.map(base + 0x4000n, 4 * PAGE, 'rx')
  }
  await harness.map(DATA, PAGE, 'rw')
  await harness.map(STACK, 4 * PAGE, 'rw')
  const stubs = new Uint8Array(PAGE).fill(0xcc)
  const view = new DataView(stubs.buffer)
  for (let exit = 1; exit < 4; exit++) {
    stubs.set([0xff, 0x25, 0, 0, 0, 0], STUB_SIZE * exit)
    view.setBigUint64(STUB_SIZE * exit + 6, exitAddress(exit), true)
  }
  for (const [i, text] of Object.values(STUBS).entries())
    stubs.set(Buffer.from(text.replaceAll(' ', ''), 'hex'), STUB_SIZE * (4 + i))
  await harness.map(OUT, PAGE, 'rx', stubs)
}

/** Leaves by exit 0 from where `hlt` would be: behind every program. */
const leave = (): Uint8Array => {
  const code = new Uint8Array(14)
  code.set([0xff, 0x25])
  new DataView(code.buffer).setBigUint64(6, exitAddress(0), true)
  return code
}

export interface RunOptions {
  /** Registers and flags before; what is not named is random but the same. */
  readonly states?: readonly Partial<Record<GeneralRegister | 'rflags', bigint>>[]
  /** Registers that hold an address of the blob afterwards. */
  readonly places?: readonly GeneralRegister[]
  /** What is below rsp afterwards is free, as it is behind an indirect branch: it is not compared. */
  readonly isFreeBelow?: boolean
  /** What is code, if not all. */
  readonly code?: readonly CodeRun[]
}

export interface ProgramRun {
  readonly home: NativeResult
  readonly away: NativeResult
  readonly moved: Relocation
}

/** Runs a program at home and at `to` in every state, and returns what differs and how each run ended. */
export async function runProgram(
  harness: NativeHarness,
  { code, table }: Program,
  to: bigint,
  next: () => number,
  { states = [{}], places = [], isFreeBelow = false }: RunOptions = {},
): Promise<{ readonly differences: readonly string[]; readonly runs: readonly ProgramRun[] }> {
  const moved = move(code, { from: HOME, to, table, veneers: { at: to + 0x4000n } })
  const cases = states.flatMap((registers): NativeCase[] => {
    const state = harness.newState()
    state.randomize(next)
    state.set('rsp', STACK_START + 128n)
    for (const [name, value] of Object.entries(registers) as [GeneralRegister | 'rflags', bigint][])
      if (name === 'rflags') state.rflags = 0x202n | value
      else state.set(name, value)
    const data = Uint8Array.from({ length: DATA_LENGTH }, () => next())
    new DataView(data.buffer).setBigUint64(DATA_LENGTH - 8, OUT + BigInt(STUB_SIZE), true)
    const stack = Uint8Array.from({ length: STACK_LENGTH }, () => next())
    return [
      caseAt(HOME, code, undefined, state, data, stack),
      caseAt(to, moved.bytes, moved, state, data, stack),
    ]
  })
  const results = await harness.run(cases, { timeout: 3000 })
  const runs = states.map((_, i) => ({ home: results[2 * i], away: results[2 * i + 1], moved }))
  return { differences: runs.flatMap(({ home, away }) => compare(home, away, to, places, isFreeBelow)), runs }
}

function caseAt(
  base: bigint,
  code: Uint8Array,
  moved: Relocation | undefined,
  before: CpuState,
  data: Uint8Array,
  stack: Uint8Array,
): NativeCase {
  const state = before.clone()
  state.rip = base
  // The way out at the program's end stays at home: a branch to the end goes there.
  const writes = [
    { address: base, bytes: code },
    { address: HOME + BigInt(code.length), bytes: leave() },
    { address: base + BigInt(code.length), bytes: leave() },
    { address: DATA, bytes: data },
    { address: STACK_START, bytes: stack },
  ]
  if (moved?.veneers !== undefined) writes.push({ address: moved.veneers.at, bytes: moved.veneers.bytes })
  return {
    state,
    writes,
    reads: [
      { address: DATA, length: DATA_LENGTH },
      { address: STACK_START, length: STACK_LENGTH },
    ],
  }
}

function compare(
  a: NativeResult,
  b: NativeResult,
  to: bigint,
  places: readonly GeneralRegister[],
  isFreeBelow: boolean,
): string[] {
  if (a.end !== b.end || a.exit !== b.exit || a.signal !== b.signal)
    return [`${a.end} ${a.exit} ${a.signalName}, moved ${b.end} ${b.exit} ${b.signalName}`]
  const differences = diffStates(a.state, b.state).filter(
    ({ register }) =>
      !places.includes(register as GeneralRegister) ||
      a.state.get(register as GeneralRegister) - HOME !== b.state.get(register as GeneralRegister) - to,
  )
  const words = differences.map(({ register, a: x, b: y }) => `${register} ${x}, moved ${y}`)
  const below = isFreeBelow ? Number(a.state.get('rsp') - STACK_START) : 0
  for (const [i, from] of [0, below].entries()) {
    const [x, y] = [withoutBase(a.memory[i].slice(from), HOME), withoutBase(b.memory[i].slice(from), to)]
    if (x !== y) words.push(`${i === 0 ? 'data' : 'stack'} ${x}, moved ${y}`)
  }
  return words
}

/** Memory as text, with words that point into the blob as distances from its base. */
function withoutBase(bytes: Uint8Array, base: bigint): string {
  const copy = bytes.slice()
  const view = new DataView(copy.buffer)
  for (let i = 0; i + 8 <= copy.length; i += 8) {
    const offset = view.getBigUint64(i, true) - base
    if (offset >= 0n && offset < 0x8000n) view.setBigUint64(i, offset, true)
  }
  return hexBytes(copy)
}
