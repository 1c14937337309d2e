/** x64-reloc demo: one of the shipped fixtures, moved and shown, and, where the machine can, run at both places. */
import { fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { hex } from '../core/address.ts'
import { nativeUnavailable } from '../heap/native/memory.ts'
import { type MoveResult, move } from '../move.ts'
import type { Command } from './command.ts'
import type { Job } from './demo-child.ts'
import { DONE, REFUSED } from './exit.ts'
import { type Field, FieldPrinter, fieldHead, siteFields } from './fields.ts'
import { plural, siteLines, verdictLine } from './report.ts'
import type { Terminal } from './terminal.ts'

export const demoCommand: Command = {
  name: 'demo',
  summary:
    'Moves a shipped blob, shows what was found and how it changes, verifies it, and runs it at both places (on\nLinux x86-64).',
  positionals: [],
  options: [],
  examples: ['x64-reloc demo'],
  run: async (_, terminal) => demo(terminal),
}

const FIXTURE = 'gcc-O2-image'
/** What of it is shown: parts, by offset, with what is to be seen there. */
const SHOWN: readonly { readonly title: string; readonly parts: readonly [start: number, end: number][] }[] =
  [
    { title: 'A switch: the address of its jump table is in the instruction', parts: [[0x90, 0xa8]] },
    {
      title: 'The table itself: eleven addresses in the data, of which these are two',
      parts: [[0xd00, 0xd10]],
    },
    { title: 'A pointer that is stored, and calls that leave the blob', parts: [[0xca0, 0xcd3]] },
  ]

/** What of fixture.json the demo uses. */
interface Fixture {
  readonly tools: string
  readonly span: number
  readonly links: readonly { readonly file: string; readonly base: string }[]
  readonly ranges: readonly {
    readonly start: number
    readonly end: number
    readonly kind: 'code' | 'data'
    readonly writable?: boolean
  }[]
  readonly entries: readonly number[]
  readonly functions: readonly {
    readonly name: string
    readonly offset: number
    readonly calls: readonly (readonly string[])[]
  }[]
  readonly outside: readonly {
    readonly address: string
    readonly length: number
    readonly access: 'r' | 'rw' | 'rx'
    readonly fileOffset: number
  }[]
}

const fixtureFile = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../../fixtures/${FIXTURE}/${name}`, import.meta.url)))

async function demo(terminal: Terminal): Promise<number> {
  const fixture = JSON.parse(new TextDecoder().decode(fixtureFile('fixture.json'))) as Fixture
  const [from, to] = fixture.links.map(({ file, base }) => ({ code: fixtureFile(file), base: BigInt(base) }))
  const hints = {
    ranges: fixture.ranges.map(({ start, end, kind }) => ({ start, end, kind })),
    entries: fixture.entries,
  }
  const result = move(from.code, { from: from.base, to: to.base, span: fixture.span, hints })
  const print = (...lines: string[]): Promise<void> => terminal.print(`${lines.join('\n')}\n`)
  const bold = (text: string): string => terminal.paint('bold', text, 'output')
  await print(
    bold(`fixtures/${FIXTURE}/from.bin: ${plural(from.code.length, 'byte')} of code and data`),
    `compiled by ${fixture.tools.split(';')[0]}, linked at ${hex(from.base)}, to be moved to ${hex(to.base)}`,
    '',
    bold('Found'),
    ...siteLines(result.table),
    '',
    bold('Changed'),
    ...shownChanges(from, result, terminal),
    '',
    bold('Verified'),
    verdictLine(result.verdict!),
    `the linker's own output for ${hex(to.base)} differs in ${plural(differences(result.bytes, to.code), 'byte')}`,
    '',
    bold('Run'),
  )
  const run = await runBoth(fixture, from, { code: result.bytes, base: to.base })
  await print(...run.lines)
  return run.ok ? DONE : REFUSED
}

interface Placed {
  readonly code: Uint8Array
  readonly base: bigint
}

function shownChanges(from: Placed, result: MoveResult, terminal: Terminal): string[] {
  const fields = siteFields(from.code, result.table, result.table.code())
  const before = new FieldPrinter(from.code, from.base)
  const after = new FieldPrinter(result.bytes, result.table.base)
  const lines = (field: Field): string[] => [
    `  ${terminal.paint('dim', fieldHead(field), 'output')}`,
    ...before.lines(field).map((line) => terminal.paint('red', `    - ${line}`, 'output')),
    ...after.lines(field).map((line) => terminal.paint('green', `    + ${line}`, 'output')),
  ]
  try {
    return SHOWN.flatMap(({ title, parts }) => [
      `${title}:`,
      ...fields
        .filter(({ offset }) => parts.some(([start, end]) => offset >= start && offset < end))
        .flatMap(lines),
    ])
  } finally {
    before.dispose()
    after.dispose()
  }
}

const differences = (a: Uint8Array, b: Uint8Array): number => a.filter((byte, i) => byte !== b[i]).length

/** Calls every function of the fixture at both places, each in a process of its own where the other place is empty. */
async function runBoth(
  fixture: Fixture,
  before: Placed,
  after: Placed,
): Promise<{ ok: boolean; lines: string[] }> {
  const reason = nativeUnavailable()
  if (reason !== undefined) return { ok: true, lines: [`skipped: ${reason}`] }
  const calls = fixture.functions.flatMap(({ name, offset, calls }) =>
    calls.map((args) => ({ name, offset, args: args.map(BigInt) })),
  )
  const outside = outsidePieces(fixture)
  const runAt = (place: Placed): Promise<Outcome> =>
    runChild({
      pieces: [...blobPieces(fixture, place), ...outside],
      calls: calls.map(({ offset, args }) => ({ address: place.base + BigInt(offset), args })),
    })
  const [old, now] = [await runAt(before), await runAt(after)]
  const ended = [old, now].find((outcome) => typeof outcome === 'string')
  if (typeof old === 'string' || typeof now === 'string')
    return { ok: false, lines: [`the code ended its process: ${ended}`] }
  const equal = old.filter((value, i) => value === now[i]).length
  const lines = calls.map(({ name, args }, i) => {
    const but = old[i] === now[i] ? '' : `, but ${hex(now[i])} at ${hex(after.base)}`
    return `  ${`${name}(${args.map(hex).join(', ')})`.padEnd(44)} = ${hex(old[i])}${but}`
  })
  const places = `${hex(before.base)} and ${hex(after.base)}`
  return {
    ok: equal === calls.length,
    lines: [`${equal} of ${plural(calls.length, 'call')} return the same at ${places}:`, ...lines],
  }
}

const PAGE = 4096

/** The blob's pages: those with writable data apart from those with code, as no page may be both. */
function blobPieces(fixture: Fixture, { code, base }: Placed): Job['pieces'] {
  const writable = fixture.ranges.find((range) => range.writable === true)!
  const split = Math.floor(writable.start / PAGE) * PAGE
  return [
    { address: base, length: split, access: 'rx', bytes: code.subarray(0, split) },
    {
      address: base + BigInt(split),
      length: fixture.span - split,
      access: 'rw',
      bytes: code.subarray(split),
    },
  ]
}

/** What the blob refers to and does not move. */
function outsidePieces(fixture: Fixture): Job['pieces'] {
  const bytes = fixtureFile('outside.bin')
  return fixture.outside.map(({ address, length, access, fileOffset }) => ({
    address: BigInt(address),
    length,
    access,
    bytes: bytes.subarray(fileOffset, fileOffset + length),
  }))
}

/** Milliseconds; the work of the child takes a few. */
const TIMEOUT = 20_000

/** What the calls returned, or how the process ended before they had. */
type Outcome = readonly bigint[] | string

/** Runs a job in a child process: code that is wrong ends the child, not the demo. */
function runChild(job: Job): Promise<Outcome> {
  // From source (in tests) the child is TypeScript too.
  const source = import.meta.url.endsWith('.ts')
  const file = new URL(source ? './demo-child.ts' : './demo-child.js', import.meta.url)
  const execArgv = source ? ['--import', 'tsx'] : []
  return new Promise((resolve, reject) => {
    const child = fork(file, { serialization: 'advanced', timeout: TIMEOUT, execArgv })
    child.once('message', (results) => resolve(results as bigint[]))
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
    child.send(job)
  })
}
