/**
 * Compares the table decoder with iced, field by field: `npm run fuzz:decoder -- --count N --seed S --cpu amd`.
 * Without --count: on every instruction of the running node's own text, then on 20 million generated encodings.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { hexBytes } from '../src/core/bytes.ts'
import { createIcedDecoder } from '../src/x86/iced.ts'
import { type Cpu, Instruction } from '../src/x86/instruction.ts'
import { createTableDecoder } from '../src/x86/scanner.ts'
import { compareEffects } from './fuzz/effects.ts'
import { CELL_COUNT, FORMS, PAGES, randomNumbers, writeEncoding } from './fuzz/encodings.ts'
import { textOf } from './support/elf-text.ts'

const FIELDS = Object.keys(new Instruction()) as readonly (keyof Instruction)[]

/** The first field that differs, as text; undefined where all are equal. */
function difference(expected: Instruction, actual: Instruction): string | undefined {
  if (expected.length !== actual.length) return `length ${actual.length}, iced ${expected.length}`
  if (expected.length === 0) return undefined
  for (const field of FIELDS)
    if (expected[field] !== actual[field]) return `${field} ${actual[field]}, iced ${expected[field]}`
  return undefined
}

export interface FuzzReport {
  readonly count: number
  readonly valid: number
  /** Cells of {@link PAGES} x 256 opcodes x {@link FORMS} met, and met as a valid instruction. */
  readonly cells: number
  readonly validCells: number
  /** `bytes: field value, iced value`, the first ones. */
  readonly differences: readonly string[]
}

/** `count` encodings; stops after `most` differences. */
export function fuzzDecoder(count: number, seed: number, cpu: Cpu, most = 20): FuzzReport {
  const BATCH = 1 << 14
  const next = randomNumbers(seed)
  const met = new Uint8Array(CELL_COUNT)
  const known: number[] = []
  const cells = new Int32Array(BATCH)
  const expected = new Instruction()
  const actual = new Instruction()
  const differences: string[] = []
  let valid = 0
  let done = 0
  let walk = next() % CELL_COUNT
  while (done < count && differences.length < most) {
    const n = Math.min(BATCH, count - done)
    const bytes = new Uint8Array(n * 16)
    for (let i = 0; i < n; i++) {
      // One in four walks through all cells; the others repeat cells that have been valid, every which way.
      const r = next()
      const walking = (r & 3) === 0 || known.length === 0
      // A step that has no factor in common with the number of cells meets them all.
      if (walking) walk = (walk + 100003) % CELL_COUNT
      const cell = walking ? walk : known[next() % known.length]
      writeEncoding(cell, (r >>> 8) % 10 === 0, next, bytes, i * 16)
      cells[i] = cell
    }
    const iced = createIcedDecoder(bytes, { cpu })
    const tables = createTableDecoder(bytes, { cpu })
    for (let i = 0; i < n; i++) {
      iced.decode(i * 16, expected)
      tables.decode(i * 16, actual)
      const cell = cells[i]
      if (expected.length > 0) {
        valid++
        if (met[cell] < 2) known.push(cell)
      }
      met[cell] |= expected.length > 0 ? 3 : 1
      const text = difference(expected, actual)
      if (text !== undefined) differences.push(`${hexBytes(bytes, i * 16, i * 16 + 16)}: ${text}`)
    }
    iced.dispose()
    done += n
  }
  let hit = 0
  let hitValid = 0
  for (const cell of met) {
    if (cell > 0) hit++
    if (cell > 1) hitValid++
  }
  return { count: done, valid, cells: hit, validCells: hitValid, differences }
}

/** Every instruction of `code`, in order; after bytes that are none, one byte on. */
export function compareCode(code: Uint8Array, cpu: Cpu, most = 20): { count: number; differences: string[] } {
  const iced = createIcedDecoder(code, { cpu })
  const tables = createTableDecoder(code, { cpu })
  const expected = new Instruction()
  const actual = new Instruction()
  const differences: string[] = []
  let count = 0
  for (let offset = 0; offset < code.length && differences.length < most; offset += expected.length || 1) {
    iced.decode(offset, expected)
    tables.decode(offset, actual)
    if (expected.length > 0) count++
    const text = difference(expected, actual)
    if (text !== undefined) differences.push(`+${offset} ${hexBytes(code, offset, offset + 15)}: ${text}`)
  }
  iced.dispose()
  return { count, differences }
}

/** Registers and flags of `count` encodings of random cells, valid or not. */
export function fuzzEffects(count: number, seed: number): { count: number; differences: string[] } {
  const next = randomNumbers(seed)
  const code = new Uint8Array(count * 16)
  for (let at = 0; at < code.length; at += 16) writeEncoding(next() % CELL_COUNT, false, next, code, at)
  return compareEffects(
    code,
    Array.from({ length: count }, (_, i) => i * 16),
  )
}

function main(): void {
  const { values } = parseArgs({
    options: {
      count: { type: 'string' },
      seed: { type: 'string', default: '1' },
      cpu: { type: 'string', default: 'intel' },
    },
  })
  const cpu: Cpu = values.cpu === 'amd' ? 'amd' : 'intel'
  const say = (line: string): void => void process.stdout.write(`${line}\n`)
  let failed = false
  if (values.count === undefined) {
    const text = textOf(readFileSync(process.execPath))
    const { count, differences } = compareCode(text, cpu)
    say(
      `${process.execPath}: ${text.length} bytes of text, ${count} instructions, ${differences.length} differences`,
    )
    for (const line of differences) say(`  ${line}`)
    failed = differences.length > 0
  }
  const report = fuzzDecoder(Number(values.count ?? 20_000_000), Number(values.seed), cpu)
  say(
    `${report.count} encodings (seed ${values.seed}, ${cpu}), ${report.valid} valid (${((report.valid / report.count) * 100).toFixed(1)} %)`,
  )
  say(
    `cells: ${PAGES.length} pages x 256 opcodes x ${FORMS.length} ModRM forms = ${CELL_COUNT}; met ${report.cells}, valid ${report.validCells}`,
  )
  say(`${report.differences.length} differences`)
  for (const line of report.differences) say(`  ${line}`)
  const effects = fuzzEffects(Math.max(1000, Math.ceil(report.count / 40)), Number(values.seed))
  say(`registers and flags of ${effects.count} valid encodings: ${effects.differences.length} differences`)
  for (const line of effects.differences) say(`  ${line}`)
  failed ||= effects.differences.length > 0
  process.exitCode = failed || report.differences.length > 0 ? 1 : 0
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
