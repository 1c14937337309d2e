/**
 * Tables made wrong on purpose, one site at a time, and moved with all the same: what does verify say? And
 * results made wrong, one byte at a time. The table of a fixture is the linker's truth, so what is accepted
 * and differs from the linker's output got past verify.
 */
import { inspect, isDeepStrictEqual } from 'node:util'
import { RelocError } from '../../src/core/errors.ts'
import { relocate } from '../../src/relocate/relocate.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { KIND_ROWS, kindCode, SITE_KINDS, type SiteKind } from '../../src/table/kinds.ts'
import { type CodeRun, RelocationTable } from '../../src/table/table.ts'
import type { Ahead } from '../../src/verify/ahead.ts'
import { verify, verifyAhead } from '../../src/verify/verify.ts'
import { IcedCursor } from '../../src/x86/iced.ts'
import { decodedAhead } from './ahead.ts'
import type { Fixture } from './fixtures.ts'

/** What is done to a table or to a result. */
export type Deed =
  | 'drop'
  /** Another width, another extension, relative for absolute. */
  | 'kind'
  /** An address for a difference and the like: the same operand, and what it means rests on evidence. */
  | 'meaning'
  | 'shift'
  /** The next instruction's offset, and with it the target that the field shows. */
  | 'end'
  | 'add on opcode'
  | 'tamper'

/** What it is done to: a field of claimed code or of data; of results, also the bytes between. */
export type Victim = 'relative' | 'absolute in code' | 'absolute in data' | 'opcode' | 'other bytes'

export type Outcome =
  /** No table can say it: the fields overlap or pass the end. */
  | 'no table'
  /** relocate refuses the move. */
  | 'refused'
  | 'caught'
  /** Accepted, and the bytes are right. */
  | 'harmless'
  /** Accepted, and the bytes are wrong. */
  | 'accepted'

export interface Attempt {
  readonly deed: Deed
  readonly victim: Victim
  readonly outcome: Outcome
  readonly what: string
}

export interface SabotageOptions {
  /** Of all that could be done, do every nth; default 1. */
  readonly every?: number
}

/** A fixture's code, by the source: its code ranges without the objects that the source declares in them. */
export function runsOf(fixture: Fixture): CodeRun[] {
  const cuts = fixture.objectsInCode.map(({ offset, size }) => ({ start: offset, end: offset + size }))
  return fixture.ranges
    .filter(({ kind }) => kind === 'code')
    .flatMap(({ start, end }) =>
      cuts.reduce<CodeRun[]>(
        (runs, cut) =>
          runs.flatMap((run) =>
            [
              { start: run.start, end: Math.min(run.end, cut.start) },
              { start: Math.max(run.start, cut.end), end: run.end },
            ].filter((part) => part.end > part.start),
          ),
        [{ start, end }],
      ),
    )
}

/** The linker's sites that a move changes. */
export const truthOf = (fixture: Fixture): SiteInput[] =>
  fixture.sites
    .filter(({ changes }) => changes)
    .map(({ offset, kind, target, anchor, end, pieces }) => ({
      offset,
      kind,
      target,
      ...(anchor === undefined ? {} : { anchor }),
      ...(end === undefined ? {} : { end }),
      ...(pieces === undefined ? {} : { pieces }),
    }))

/** Everything that one fixture lets be done wrong. */
export class Saboteur {
  readonly fixture: Fixture
  readonly runs: readonly CodeRun[]
  readonly sites: readonly SiteInput[]
  readonly #before: Uint8Array
  readonly #base: bigint
  readonly #to: bigint
  readonly #truth: Uint8Array
  readonly #ahead: Ahead

  constructor(fixture: Fixture) {
    this.fixture = fixture
    this.runs = runsOf(fixture)
    this.sites = truthOf(fixture)
    this.#before = fixture.links[0].bytes
    this.#base = fixture.links[0].base
    this.#to = fixture.links[1].base
    this.#truth = fixture.links[1].bytes
    this.#ahead = decodedAhead(this.#before)
  }

  /** The honest table, moved and verified: `harmless`, or nothing here shows anything. */
  honest(): Outcome {
    return this.#try(this.sites)
  }

  *attempts({ every = 1 }: SabotageOptions = {}): Generator<Attempt> {
    let n = 0
    for (const attempt of this.#all()) if (n++ % every === 0) yield attempt()
  }

  *#all(): Generator<() => Attempt> {
    for (const [i, site] of this.sites.entries()) {
      const others = this.sites.filter((_, k) => k !== i)
      const attempt =
        (deed: Deed, what: string, ...put: SiteInput[]) =>
        () => ({
          deed,
          victim: this.#victim(site),
          outcome: this.#try([...others, ...put]),
          what: `${site.kind} at ${site.offset}: ${what}`,
        })
      yield attempt('drop', 'dropped')
      for (const kind of SITE_KINDS)
        if (kind !== site.kind && kind !== 'split')
          yield attempt(isAlike(kind, site) ? 'meaning' : 'kind', kind, this.#as(site, kind))
      for (const by of [-1, 1]) {
        const { offset = 0, end, pieces } = site
        const shifted = {
          ...site,
          offset: offset + by,
          ...(end === undefined ? {} : { end: end + by }),
          ...(pieces && { pieces: pieces.map((piece) => ({ ...piece, offset: piece.offset + by })) }),
        }
        yield attempt('shift', `by ${by}`, shifted)
        if (isRelative(site))
          yield attempt('end', `by ${by}`, {
            offset,
            kind: site.kind,
            end: (end ?? offset + width(site)) + by,
          })
      }
    }
    for (const start of this.#starts())
      for (const kind of ['pc32', 'abs32s', 'abs64'] as const) {
        const target = kind === 'pc32' ? this.#outside() : this.#base
        yield () => ({
          deed: 'add on opcode',
          victim: 'opcode',
          outcome: this.#try([...this.sites, { offset: start, kind, target }]),
          what: `${kind} at ${start}`,
        })
      }
    yield* this.#tampered()
  }

  /** The right result with one byte wrong. */
  *#tampered(): Generator<() => Attempt> {
    const claim = this.#table(this.sites)
    const victims = new Map(
      this.sites.flatMap((site) =>
        (site.pieces ?? [{ offset: site.offset ?? 0, width: width(site) }]).flatMap((field) =>
          Array.from({ length: field.width }, (_, i) => [field.offset + i, this.#victim(site)] as const),
        ),
      ),
    )
    const starts = new Set(this.#starts())
    for (let at = 0; at < this.#truth.length; at++) {
      const victim = victims.get(at) ?? (starts.has(at) ? 'opcode' : 'other bytes')
      for (const flip of [0x01, 0x80])
        yield () => {
          const result = this.#truth.slice()
          result[at] ^= flip
          const outcome = this.#verified(claim, result) ? 'accepted' : 'caught'
          return { deed: 'tamper', victim, outcome, what: `byte ${at} ^ ${flip}` }
        }
    }
  }

  #table(sites: readonly SiteInput[]): RelocationTable {
    const { span } = this.fixture
    return RelocationTable.fromSites(sites, { code: this.#before, base: this.#base, span, runs: this.runs })
  }

  #verified(claim: RelocationTable, after: Uint8Array): boolean {
    const moves = [{ from: this.#base, to: this.#to, length: this.fixture.span }]
    const verdict = verify(this.#before, after, { moves, claim })
    const ahead = verifyAhead(this.#before, after, { moves, claim }, this.#ahead)
    if (!isDeepStrictEqual(ahead, verdict))
      throw new Error(`${this.fixture.name}: decoded ahead, the verdict is another: ${inspect(ahead)}`)
    return verdict.ok
  }

  #try(sites: readonly SiteInput[]): Outcome {
    let claim: RelocationTable | undefined
    try {
      claim = this.#table(sites)
      const { bytes } = relocate(this.#before, claim, { to: this.#to })
      if (!this.#verified(claim, bytes)) return 'caught'
      return Buffer.compare(bytes, this.#truth) === 0 ? 'harmless' : 'accepted'
    } catch (error) {
      if (!(error instanceof RelocError)) throw error
      return claim === undefined ? 'no table' : 'refused'
    }
  }

  /** The same field, or what of it fits, as another kind, its ends such that it changes. */
  #as({ offset = 0 }: SiteInput, kind: (typeof SITE_KINDS)[number]): SiteInput {
    const { anchor } = KIND_ROWS[kindCode(kind)]
    if (anchor === 'next') return { offset, kind, target: this.#outside() }
    return { offset, kind, target: this.#base, ...(anchor === 'address' ? { anchor: this.#outside() } : {}) }
  }

  /** An address below 4 GB that stays. */
  #outside(): bigint {
    return this.#base < 0x10_0000n ? this.#base + BigInt(this.fixture.span) + 0x1000n : 0x1000n
  }

  #victim(site: SiteInput): Victim {
    if (isRelative(site)) return 'relative'
    const { offset = 0 } = site
    const inCode = this.runs.some(({ start, end }) => start <= offset && offset < end)
    return inCode ? 'absolute in code' : 'absolute in data'
  }

  #starts(): number[] {
    const starts: number[] = []
    const cursor = new IcedCursor(this.#before)
    for (const { start, end } of this.runs)
      for (let at = start; at < end && cursor.decode(at) > 0; at += cursor.length) starts.push(at)
    cursor.dispose()
    return starts
  }
}

const width = ({ kind }: SiteInput): number => KIND_ROWS[kindCode(kind)].width
const isRelative = ({ kind }: SiteInput): boolean => KIND_ROWS[kindCode(kind)].anchor === 'next'

/**
 * Whether a kind asks for the same operand as the site; the piece of a split address in one piece is a
 * constant like another.
 */
function isAlike(kind: SiteKind, { kind: own, pieces }: SiteInput): boolean {
  const [x, y] = [KIND_ROWS[kindCode(kind)], KIND_ROWS[kindCode(own)]]
  if (own === 'split') return pieces?.length === 1 && x.anchor !== 'next' && x.width === pieces[0].width
  const absolute = x.anchor === 'none' && y.anchor === 'none'
  return x.anchor !== 'next' && y.anchor !== 'next' && x.width === y.width && !absolute
}

/** Counts by deed and victim, then outcome. */
export function tally(attempts: Iterable<Attempt>): Map<string, Map<Outcome, number>> {
  const counts = new Map<string, Map<Outcome, number>>()
  for (const { deed, victim, outcome } of attempts) {
    const key = `${deed}: ${victim}`
    const row = counts.get(key) ?? new Map<Outcome, number>()
    row.set(outcome, (row.get(outcome) ?? 0) + 1)
    counts.set(key, row)
  }
  return counts
}

/**
 * Whether an attempt got through that verify promises to stop: wrong bytes where the claim is one about instructions.
 */
export function gotThrough({ deed, victim, outcome }: Attempt): boolean {
  if (outcome !== 'accepted' && outcome !== 'harmless') return false
  // A relative operand is claimed as what it is, or not at all; a changed byte is always found.
  if (victim === 'relative' || deed === 'tamper') return true
  // No site is an opcode byte, and an absolute operand has one place, one width and one extension.
  if (victim === 'opcode') return true
  // That an absolute value is an address at all, and everything in data, rests on the claim's evidence.
  return victim === 'absolute in code' && (deed === 'shift' || deed === 'kind')
}
