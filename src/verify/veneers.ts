/**
 * The part of verification that follows veneers: what the code in a replaced instruction's place does, down
 * to its way out, is what the instruction did.
 */
import { hex, toAddress, wrapAddress } from '../core/address.ts'
import { copyBytes, readField, toBytes, viewOf, writeField } from '../core/bytes.ts'
import { checkFlag, oneOf, optional, optionsRule, type Rule } from '../core/options.ts'
import type { SiteGroup } from '../table/groups.ts'
import { EIP32, fieldValue, KIND_ROWS } from '../table/kinds.ts'
import type { CodeRun, RelocationTable } from '../table/table.ts'
import { IcedCursor } from '../x86/iced.ts'
import { type CodePiece, type Effect, followCode } from '../x86/symbolic.ts'
import { NotFollowed } from '../x86/symbolic-step.ts'
import { ClaimedFields, type CoverageShifts } from './claims.ts'
import type { Findings } from './findings.ts'
import { checkIslands } from './islands.ts'
import { isDeadAt } from './live.ts'

/** The veneers of a move, and what they may use. */
export interface VerifyVeneers extends CodePiece {
  /** See `VeneerOptions`: default true, and none. */
  readonly redZone?: boolean | undefined
  readonly scratch?: 'r11' | undefined
}

export const checkVeneerOptions: Rule<VerifyVeneers> = optionsRule<VerifyVeneers>('veneers', {
  at: toAddress,
  bytes: toBytes,
  redZone: optional(checkFlag),
  scratch: optional(oneOf('r11')),
})

/** A field that cannot hold its new value, and what it shall stand for. */
export interface FarField {
  readonly offset: number
  readonly target: bigint
}

/** Bytes below what is in use that a veneer may write: a stack that grows by pages has them. */
const DEEPEST = 256

const AGAIN = 'Relocate again from the original bytes.'

/** What field `i` of a group stands for after the move, when it holds the bits `was` now. */
export function farTarget(
  claim: RelocationTable,
  group: SiteGroup,
  i: number,
  was: bigint,
  shift: bigint,
): bigint {
  const row = KIND_ROWS[group.kind]
  const value = fieldValue(row, was)
  if (row.anchor !== 'next') return wrapAddress(value + shift)
  const pointed = claim.base + BigInt(group.offsets[i] + row.width + group.tails[i]) + value
  return wrapAddress((group.kind === EIP32 ? BigInt.asUintN(32, pointed) : pointed) + shift)
}

/**
 * Checks the instructions that hold `far` fields: their bytes in `after` are proved by what they do. Returns
 * how many they are, and the ranges that may differ: they, and spare bytes with jumps for the short ones of
 * them.
 */
export function checkVeneers(
  before: Uint8Array,
  after: Uint8Array,
  claim: RelocationTable,
  shifts: CoverageShifts,
  far: readonly FarField[],
  veneers: VerifyVeneers,
  findings: Findings,
): { readonly instructions: number; readonly replaced: readonly CodeRun[] } {
  const sorted = [...far].sort((a, b) => a.offset - b.offset)
  const holders = findHolders(before, claim, sorted, findings)
  const to = wrapAddress(claim.base + shifts.of(claim.parts.blob.own))
  const fields = new ClaimedFields(claim)
  const islands = new Map<number, CodePiece>()
  const ahead = new IcedCursor(before)
  for (const { run, far } of holders.values()) {
    const at = wrapAddress(to + BigInt(run.start))
    const next = wrapAddress(to + BigInt(run.end))
    const old = { at, bytes: movedInstruction(before, run, claim, fields, shifts) }
    const now = { at, bytes: after.subarray(run.start, run.end) }
    const pieces = [now, veneers]
    const island = landing(after, run)
    if (island !== undefined) {
      const { start, end } = island
      const piece = { at: wrapAddress(to + BigInt(start)), bytes: after.subarray(start, end) }
      islands.set(start, piece)
      pieces.push(piece)
    }
    const values = far.map(({ offset, target }) => ({ at: offset - run.start, value: target }))
    const why = difference(
      () => followCode([old], at, next, values),
      () => followCode(pieces, at, next),
      veneers,
      (register) => isDeadAt(ahead, before.length, run.end, register),
    )
    if (why !== undefined)
      findings.error(
        'wrong-veneer',
        run.start,
        run.end - run.start,
        `what stands in for this instruction does not do the same with ${hex(far[0].target)}: ${why}.`,
        AGAIN,
      )
  }
  ahead.dispose()
  const replaced = [...holders.values()].map(({ run }) => run)
  const spare = checkIslands(before, after, claim, islands, findings)
  return { instructions: replaced.length, replaced: [...replaced, ...spare] }
}

interface Holder {
  readonly run: CodeRun
  /** Its fields. */
  readonly far: readonly FarField[]
}

/** The jump within the blob to which a branch of 8 or 16 bits leads; undefined where this is none. */
function landing(after: Uint8Array, { start, end }: CodeRun): CodeRun | undefined {
  const cursor = new IcedCursor(after)
  try {
    cursor.decode(start)
    const { target } = cursor
    const isShort = cursor.isBranch && cursor.immediateSize < 4 && start + cursor.length === end
    if (!isShort || target === undefined || target >= BigInt(after.length)) return undefined
    const at = Number(target)
    return { start: at, end: at + cursor.decode(at) }
  } finally {
    cursor.dispose()
  }
}

/** The instructions that hold far fields, by start. Each must be entered at its start alone. */
function findHolders(
  before: Uint8Array,
  claim: RelocationTable,
  far: readonly FarField[],
  findings: Findings,
): Map<number, Holder> {
  const holders = new Map<number, Holder>()
  const held = new Set<number>()
  const entries: number[] = []
  const cursor = new IcedCursor(before)
  try {
    for (const run of claim.code()) {
      let n = 0
      for (let at = run.start; at < run.end && cursor.decode(at) > 0; at += cursor.length) {
        entries.push(at)
        const { target } = cursor
        if (target !== undefined && target < BigInt(before.length)) entries.push(Number(target))
        while (n < far.length && far[n].offset < at) n++
        const first = n
        for (; n < far.length && far[n].offset < at + cursor.length; n++) held.add(far[n].offset)
        if (n > first)
          holders.set(at, { run: { start: at, end: at + cursor.length }, far: far.slice(first, n) })
      }
    }
  } finally {
    cursor.dispose()
  }
  for (const { offset } of far)
    if (!held.has(offset))
      findings.error(
        'out-of-range',
        offset,
        1,
        'the field cannot hold its moved value, and no veneer can serve it.',
        AGAIN,
      )
  const inside = new Uint8Array(before.length)
  for (const { run } of holders.values()) inside.fill(1, run.start + 1, run.end)
  for (const entry of entries)
    if (inside[entry] === 1)
      findings.error(
        'entered-inside',
        entry,
        1,
        'code refers to the inside of an instruction that is replaced.',
        AGAIN,
      )
  return holders
}

/** The instruction with its fields within reach as they are after the move. */
function movedInstruction(
  before: Uint8Array,
  { start, end }: CodeRun,
  claim: RelocationTable,
  fields: ClaimedFields,
  shifts: CoverageShifts,
): Uint8Array {
  const bytes = copyBytes(before, start, end)
  const view = viewOf(bytes)
  const { own } = claim.parts.blob
  for (let n = fields.firstFrom(start); n < fields.offsets.length && fields.offsets[n] < end; n++) {
    const { offset, width, kind, place } = fields.get(n)
    const { anchor } = KIND_ROWS[kind]
    if (anchor === 'address' || width === 0) continue
    const was = readField(view, offset - start, width)
    const change = anchor === 'next' ? shifts.change(place, own) : shifts.of(place)
    writeField(view, offset - start, width, was + change)
  }
  return bytes
}

/** What differs between two effects; undefined: nothing that matters. */
function difference(
  original: () => Effect,
  moved: () => Effect,
  rules: VerifyVeneers,
  isDead: (register: number) => boolean,
): string | undefined {
  try {
    return compareEffects(original(), moved(), rules, isDead)
  } catch (error) {
    if (error instanceof NotFollowed) return error.message
    throw error
  }
}

function compareEffects(
  a: Effect,
  b: Effect,
  { redZone = true, scratch }: VerifyVeneers,
  isDead: (register: number) => boolean,
): string | undefined {
  if (a.exit !== b.exit) return `it leaves ${b.exit}, not ${a.exit}`
  if (a.transfers !== b.transfers) return 'it does not leave as it should'
  const differs = a.registers.findIndex((value, i) => {
    if (value === b.registers[i]) return false
    if (a.transfers) return scratch !== 'r11' || i !== 11
    return a.exit !== 'next' || !isDead(i)
  })
  if (differs >= 0) return `register ${differs} is ${b.registers[differs]}, not ${a.registers[differs]}`
  if (a.flags !== b.flags) return 'the flags differ'
  if (a.events.length !== b.events.length || a.events.some((event, i) => event !== b.events[i]))
    return `it does ${b.events.join('; ') || 'nothing'}, not ${a.events.join('; ') || 'nothing'}`
  // Below rsp and the red zone nothing is anybody's; a transfer of control gives up the red zone, too.
  const low = Math.min(0, a.raised ?? 0) - (redZone && !a.transfers ? 128 : 0)
  for (const [at, value] of b.stack) {
    const wrote = a.stack.get(at)
    if (at < low - DEEPEST) return `it writes ${-at} bytes below rsp`
    if (at >= low && wrote !== value) return `it writes ${value} at rsp${at < 0 ? '' : '+'}${at}`
  }
  for (const at of a.stack.keys())
    if (!b.stack.has(at)) return `it does not write at rsp${at < 0 ? '' : '+'}${at}`
  return undefined
}
