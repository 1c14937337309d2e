/** What the caller says about a blob: which ranges are code, which are data, where execution starts. */
import { hex } from '../core/address.ts'
import { type Problem, RelocError } from '../core/errors.ts'

export interface RangeHint {
  /** Bytes from the blob's start; `end` exclusive. */
  readonly start: number
  readonly end: number
  /** `data` is never code. `code` may be executed, and can still hold tables. */
  readonly kind: 'code' | 'data'
}

export interface Hints {
  readonly ranges?: readonly RangeHint[] | undefined
  /** Offsets where execution is known to start. */
  readonly entries?: readonly number[] | undefined
}

export interface CheckedHints {
  /** Ascending, disjoint, none empty. */
  readonly ranges: readonly RangeHint[]
  /** Ascending, each once, none in data. */
  readonly entries: readonly number[]
  /** Whether ranges were given at all. */
  readonly ranged: boolean
  readonly problems: readonly Problem[]
}

const fail = (message: string): never => {
  throw new RelocError(
    'bad-hints',
    `${message} Hints are { ranges: [{ start, end, kind: 'code' | 'data' }], entries: [offset] }, offsets in bytes from the blob's start.`,
  )
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Checks hints for a blob of `length` bytes at `base`. Unknown keys are warnings; throws `bad-hints` for the rest. */
export function checkHints(hints: unknown, length: number, base: bigint): CheckedHints {
  if (hints === undefined) return { ranges: [], entries: [], ranged: false, problems: [] }
  if (!isObject(hints)) return fail('The hints are not an object.')
  const problems: Problem[] = []
  warnUnknown(hints, ['ranges', 'entries'], 'hints', base, problems)
  const list = (key: string): unknown[] => {
    const value = hints[key] ?? []
    return Array.isArray(value) ? value : fail(`hints.${key} is not a list.`)
  }
  const ranges = list('ranges')
    .map((range, i) => checkRange(range, i, length, base, problems))
    .sort((a, b) => a.start - b.start)
  for (let i = 1; i < ranges.length; i++) {
    const [before, after] = [ranges[i - 1], ranges[i]]
    if (after.start < before.end)
      fail(
        `The ranges ${hex(before.start)}..${hex(before.end)} (${before.kind}) and ${hex(after.start)}..${hex(after.end)} (${after.kind}) overlap.`,
      )
  }
  const entries = [...new Set(list('entries').map((entry, i) => checkEntry(entry, i, length, ranges)))].sort(
    (a, b) => a - b,
  )
  return {
    ranges: ranges.filter((range) => range.end > range.start),
    entries,
    ranged: hints.ranges !== undefined,
    problems,
  }
}

function warnUnknown(
  value: Record<string, unknown>,
  known: readonly string[],
  where: string,
  base: bigint,
  problems: Problem[],
): void {
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue
    problems.push({
      severity: 'warning',
      code: 'unknown-hint',
      offset: 0,
      address: base,
      bytes: '',
      message: `${where} has an unknown key ${JSON.stringify(key)}, which is ignored.`,
      remedy: `Known keys: ${known.join(', ')}.`,
    })
  }
}

function checkRange(value: unknown, i: number, length: number, base: bigint, problems: Problem[]): RangeHint {
  if (!isObject(value)) return fail(`ranges[${i}] is not an object.`)
  const { start, end, kind } = value
  if (
    typeof start !== 'number' ||
    typeof end !== 'number' ||
    !Number.isSafeInteger(start) ||
    !Number.isSafeInteger(end) ||
    start < 0 ||
    end < start
  )
    return fail(
      `ranges[${i}] is ${String(start)}..${String(end)}: start and end are whole numbers, start not above end.`,
    )
  if (end > length) return fail(`ranges[${i}] ends at ${hex(end)}, outside the blob of ${hex(length)} bytes.`)
  if (kind !== 'code' && kind !== 'data') return fail(`ranges[${i}].kind is ${JSON.stringify(kind)}.`)
  // `section` is what linkers' maps carry along; it says nothing that we need.
  warnUnknown(value, ['start', 'end', 'kind', 'section'], `ranges[${i}]`, base, problems)
  return { start, end, kind }
}

function checkEntry(value: unknown, i: number, length: number, ranges: readonly RangeHint[]): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value))
    return fail(`entries[${i}] is ${JSON.stringify(value) ?? String(value)}: an entry is a whole number.`)
  if (value < 0 || value >= Math.max(length, 1))
    return fail(`entries[${i}] is ${value}, outside the blob of ${hex(length)} bytes.`)
  const data = ranges.find((range) => range.kind === 'data' && value >= range.start && value < range.end)
  if (data !== undefined)
    return fail(`entries[${i}] (${hex(value)}) lies in the data range ${hex(data.start)}..${hex(data.end)}.`)
  return value
}
