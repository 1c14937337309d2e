/** What must be true of every move of every program. */
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { analyze } from '../src/analyze/analyze.ts'
import { RelocError } from '../src/core/errors.ts'
import { filterTable, move } from '../src/move.ts'
import { relocate } from '../src/relocate/relocate.ts'
import type { SiteInput } from '../src/table/from-sites.ts'
import type { SiteKind } from '../src/table/kinds.ts'
import { RelocationTable } from '../src/table/table.ts'
import { verify } from '../src/verify/verify.ts'
import { IcedCursor } from '../src/x86/iced.ts'
import {
  canMove,
  check,
  deltas,
  type Field,
  fieldBits,
  isRelative,
  moveRanges,
  type Program,
  program,
  trueFields,
  trueRuns,
  trueSites,
  wrap,
} from './support/generate.ts'

// The machine may be busy; a property takes a second or two.
vi.setConfig({ testTimeout: 60_000 })

const tableOf = (made: Program): RelocationTable =>
  RelocationTable.fromSites(trueSites(made), {
    code: made.code,
    base: made.base,
    span: made.span,
    moved: made.ranges.slice(1),
    runs: trueRuns(made),
  })

/** A program, its exact table, and moves of all its ranges that do not run into each other. */
const moving = fc
  .tuple(program({ differences: true }), deltas)
  .map(([made, by]) => ({ made, by, moves: moveRanges(made.ranges, by) }))
  .filter((one) => one.moves !== undefined)
  .map(({ made, by, moves }) => ({ made, by, moves: moves!, to: moves![0].to, also: moves!.slice(1) }))

/** Moves that every field can serve. */
const movable = moving.filter(({ made, by }) => canMove(made, by))
const moved = movable.map((one) => {
  const table = tableOf(one.made)
  return { ...one, table, result: relocate(one.made.code, table, { to: one.to, also: one.also }) }
})

/**
 * The address that a field stands for, as iced reads the moved instruction; of data words and differences, the value.
 */
function standsFor(cursor: IcedCursor, made: Program, code: Uint8Array, field: Field): bigint {
  if (field.isData) return fieldBits(code, field)
  cursor.decode(field.start)
  const at = field.offset - field.start
  if (isRelative(field)) return cursor.target ?? -1n
  const { instruction } = cursor
  if (at === cursor.displacementOffset) return wrap(instruction.memoryDisplacement)
  for (let i = 0; i < instruction.opCount; i++) {
    try {
      return wrap(instruction.immediate(i))
    } catch {
      // Not the immediate operand.
    }
  }
  throw new Error(`no operand at ${field.offset} of ${made.code.length}`)
}

describe('any program', () => {
  it('is analysed to its true sites, where its numbers are no addresses', () => {
    check(
      program().filter((made) => !made.ambiguous),
      (made) => {
        const table = analyze(made.code, {
          base: made.base,
          span: made.span,
          moved: made.ranges.slice(1),
          hints: { ranges: made.hints, entries: made.starts },
        })
        const shown = (site: { offset: number; kind: SiteKind; target: bigint }) =>
          `${site.offset} ${site.kind} ${site.target}`
        const isNear = ({ kind }: { kind: SiteKind }) => kind.startsWith('pc') || kind === 'eip32'
        const truth = trueFields(made).sort((a, b) => a.offset - b.offset)
        // Every relative field; of the absolute ones at most those, as they need more evidence than their
        // values. A number that is added to a register with an address in it may be a distance: nobody could
        // tell.
        const isDistance = ({ kind }: { kind: SiteKind }) => kind.startsWith('diff')
        expect(table.sites().filter(isNear).map(shown)).toEqual(truth.filter(isNear).map(shown))
        expect(truth.map(shown)).toEqual(
          expect.arrayContaining(
            table
              .sites()
              .filter((site) => !isDistance(site))
              .map(shown),
          ),
        )
      },
    )
  })

  it('moves with every target kept, or not at all, and its bytes are never touched', () => {
    let refused = 0
    check(moving, ({ made, by, moves, to, also }) => {
      const before = made.code.slice()
      const table = tableOf(made)
      const go = () => move(made.code, { from: made.base, to, also, table })
      if (canMove(made, by)) {
        const { bytes } = go()
        const cursor = new IcedCursor(bytes, { base: to })
        const target = (field: Field): bigint => wrap(field.target + (field.place < 0 ? 0n : by[field.place]))
        for (const field of made.fields) {
          if (field.anchor !== undefined) continue
          expect(standsFor(cursor, made, bytes, field)).toBe(target(field))
        }
        cursor.dispose()
        expect(verify(made.code, bytes, { moves, claim: table }).ok).toBe(true)
      } else {
        refused++
        expect(go).toThrow(expect.objectContaining({ code: 'refused' }))
      }
      expect(made.code).toEqual(before)
    })
    expect(refused).toBeGreaterThan(10)
  })

  it('comes back as it was', () => {
    check(moved, ({ made, moves, result }) => {
      const back = moves.map(({ from, to, length }) => ({ from: to, to: from, length }))
      const again = relocate(result.bytes, result.table, { to: made.base, also: back.slice(1) })
      expect(again.bytes).toEqual(made.code)
      expect(again.table.toJSON()).toEqual(tableOf(made).toJSON())
    })
  })

  it('goes by a and then by b as by a + b', () => {
    check(fc.tuple(moved, deltas), ([{ made, by, table, result }, further]) => {
      const sum = by.map((delta, i) => delta + further[i])
      const direct = moveRanges(made.ranges, sum)
      const there = made.ranges.map(({ start, length }, i) => ({ start: wrap(start + by[i]), length }))
      const next = moveRanges(there, further)
      if (direct === undefined || next === undefined || !canMove(made, sum)) return
      const twice = relocate(result.bytes, result.table, { to: next[0].to, also: next.slice(1) })
      const once = relocate(made.code, table, { to: direct[0].to, also: direct.slice(1) })
      expect(twice.bytes).toEqual(once.bytes)
      expect(twice.table.toJSON()).toEqual(once.table.toJSON())
      // A table that has moved says the same as ever to verify.
      expect(verify(result.bytes, twice.bytes, { moves: next, claim: result.table }).problems).toEqual([])
    })
  })

  it('does not care for the order of moves', () => {
    check(moved, ({ made, to, also, table, result }) => {
      const other = relocate(made.code, table, { to, also: also.toReversed() })
      expect(other.bytes).toEqual(result.bytes)
      expect(other.table.toJSON()).toEqual(result.table.toJSON())
    })
  })

  it('is moved into any memory alike: its own, one that overlaps, one that is longer', () => {
    check(fc.tuple(moved, fc.nat(16)), ([{ made, to, also, table, result }, by]) => {
      const memory = new Uint8Array(made.code.length + 32).fill(0xaa)
      const code = memory.subarray(8, 8 + made.code.length)
      code.set(made.code)
      const into = memory.subarray(by)
      const there = relocate(code, table, { to, also, into })
      expect(there.bytes).toEqual(result.bytes)
      expect(there.bytes.byteOffset).toBe(by)
      expect(memory.subarray(0, Math.min(by, 8)).every((byte) => byte === 0xaa)).toBe(true)
      expect(memory.subarray(Math.max(by, 8) + made.code.length).every((byte) => byte === 0xaa)).toBe(true)
    })
  })

  it('leaves the memory alone that a refused move was to go to', () => {
    check(
      moving.filter(({ made, by }) => !canMove(made, by)),
      ({ made, to, also }) => {
        const into = new Uint8Array(made.code.length).fill(0x55)
        const options = { to, also, into }
        expect(() => relocate(made.code, tableOf(made), options)).toThrow(RelocError)
        expect(() => move(made.code, { ...options, from: made.base, table: tableOf(made) })).toThrow(
          RelocError,
        )
        expect(into.every((byte) => byte === 0x55)).toBe(true)
      },
      100,
    )
  })

  it('has a table that reads back as it was written, before and after a move', () => {
    check(moved, ({ made, table, result }) => {
      for (const one of [table, result.table]) {
        const again = RelocationTable.fromJSON(JSON.parse(JSON.stringify(one)))
        expect(again.toJSON()).toEqual(one.toJSON())
        expect(again.sites()).toEqual(one.sites())
      }
      const again = RelocationTable.fromJSON(JSON.parse(JSON.stringify(result.table)))
      expect(again.matches(result.bytes)).toBe(true)
      const sites = table.sites()
      const options = { code: made.code, base: made.base, span: made.span, runs: table.code() }
      const rebuilt = RelocationTable.fromSites(sites, { ...options, moved: made.ranges.slice(1) })
      expect(rebuilt.sites()).toEqual(sites)
    })
  })

  it('has a table that knows its bytes from others', () => {
    check(
      fc.tuple(moved, fc.nat(), fc.integer({ min: 1, max: 255 })),
      ([{ made, table, result }, at, flip]) => {
        const inField = new Set(
          trueFields(made).flatMap(({ offset, width }) => [...Array(width).keys()].map((i) => offset + i)),
        )
        expect(result.table.matches(result.bytes)).toBe(true)
        const offset = at % made.code.length
        const other = made.code.slice()
        other[offset] ^= flip
        if (!inField.has(offset)) expect(table.matches(other)).toBe(false)
      },
    )
  })

  it('is verified only as the moves make it: a changed byte anywhere is found', () => {
    check(fc.tuple(moved, fc.nat(), fc.integer({ min: 1, max: 255 })), ([one, at, flip]) => {
      const { made, moves, table, result } = one
      const tampered = result.bytes.slice()
      tampered[at % tampered.length] ^= flip
      expect(verify(made.code, tampered, { moves, claim: table }).ok).toBe(false)
    })
  })

  it('keeps every relative target, where verify accepts the claim, whatever is wrong with that', () => {
    const deed = fc.constantFrom('drop', 'pc32', 'abs32', 'eip32', 'before', 'behind')
    let [wrong, accepted] = [0, 0]
    check(
      fc.tuple(movable, fc.dictionary(fc.nat(15).map(String), deed, { maxKeys: 2 })),
      ([{ made, by, moves, to, also }, deeds]) => {
        const sites = trueSites(made).flatMap((site, i): SiteInput[] => {
          const what = deeds[i]
          if (what === 'drop') return []
          if (what === undefined) return [site]
          if (what === 'before' || what === 'behind')
            return [{ ...site, offset: site.offset! + (what === 'before' ? -1 : 1) }]
          return [{ ...site, kind: what }]
        })
        const options = {
          base: made.base,
          span: made.span,
          moved: made.ranges.slice(1),
          runs: trueRuns(made),
        }
        let bytes: Uint8Array
        try {
          const claim = RelocationTable.fromSites(sites, { code: made.code, ...options })
          bytes = relocate(made.code, claim, { to, also }).bytes
          if (!verify(made.code, bytes, { moves, claim }).ok) {
            wrong++
            return
          }
        } catch (error) {
          if (!(error instanceof RelocError)) throw error
          return
        }
        accepted++
        const cursor = new IcedCursor(bytes, { base: to })
        for (const field of made.fields.filter(isRelative))
          expect(standsFor(cursor, made, bytes, field)).toBe(
            wrap(field.target + (field.place < 0 ? 0n : by[field.place])),
          )
        cursor.dispose()
      },
      600,
    )
    expect(wrong).toBeGreaterThan(50)
    expect(accepted).toBeGreaterThan(50)
  })

  it('gives the same later moves from two dumps as from its analysis', () => {
    // A pair tells what moves with the blob alone, and says pc32 where the CPU says eip32.
    const alone = fc
      .tuple(program({ differences: true }), deltas)
      .filter(([made]) => made.ranges.length === 1 && made.fields.every(({ kind }) => kind !== 'eip32'))
    let moves = 0
    check(
      alone,
      ([made, [first, delta]]) => {
        const second = wrap(made.base + first)
        const place = (by: bigint) => moveRanges(made.ranges, [by])
        // Of a difference only its change is seen: signed or not, it must not pass either end.
        const readings = trueFields(made).filter(({ kind }) => kind === 'diff32u' || kind === 'diff32')
        if (readings.length > 0 || first === 0n || first === 1n << 31n || first === -(1n << 31n)) return
        if (place(first) === undefined || place(delta) === undefined) return
        if (!canMove(made, [first]) || !canMove(made, [delta])) return
        const table = tableOf(made)
        const dump = relocate(made.code, table, { to: second }).bytes
        const options = { span: made.span }
        // A 64-bit difference of which only the lower half changed is taken for a 32-bit one.
        const upper = (code: Uint8Array, { offset }: Field) =>
          fieldBits(code, { offset: offset + 4, width: 4 })
        const small = (field: Field) =>
          field.kind === 'diff64' && upper(made.code, field) === upper(dump, field)
        if (trueFields(made).some(small)) return
        const pair = RelocationTable.fromPair(made.code, made.base, dump, second, options)
        moves++
        const expected = relocate(made.code, table, { to: wrap(made.base + delta) }).bytes
        const go = () => relocate(made.code, pair, { to: wrap(made.base + delta) }).bytes
        // Below 2^31 nobody can tell abs32 from abs32s; the one whose range is narrower is taken.
        const isHigh = ({ kind, target }: Field) => kind === 'abs32' && wrap(target + delta) >= 1n << 31n
        if (trueFields(made).some(isHigh) && pair.sites().some(({ kind }) => kind === 'abs32s'))
          expect(go).toThrow(expect.objectContaining({ code: 'refused' }))
        else expect(go()).toEqual(expected)
      },
      1500,
    )
    expect(moves).toBeGreaterThan(20)
  })

  it('is written only where the evidence is strong enough', () => {
    const levels = ['range', 'flow', 'encoding', 'exact'] as const
    check(fc.tuple(program(), deltas), ([made, by]) => {
      const moves = moveRanges(made.ranges, by)
      const options = { base: made.base, span: made.span, moved: made.ranges.slice(1) }
      const whole = analyze(made.code, { ...options, hints: { ranges: made.hints, entries: made.starts } })
      for (const [i, level] of levels.entries()) {
        const { table, withheld } = filterTable(whole, made.code, level)
        const strong = whole
          .sites()
          .filter(({ evidence }) => evidence.address === undefined || levels.indexOf(evidence.address) >= i)
        expect(table.sites()).toEqual(strong)
        expect(withheld.length).toBe(strong.length === whole.size ? 0 : 1)
        expect(table.matches(made.code)).toBe(true)
        if (moves === undefined) continue
        const destination = { to: moves[0].to, also: moves.slice(1) }
        try {
          const { bytes, table: later } = relocate(made.code, table, destination)
          expect(verify(made.code, bytes, { moves, claim: table }).problems).toEqual([])
          expect(later.matches(bytes)).toBe(true)
        } catch (error) {
          if (!(error instanceof RelocError)) throw error
          expect(error.code).toBe('refused')
        }
      }
    })
  })
})
