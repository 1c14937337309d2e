/** What came of the fields at an offset: which are sites and by what, which are none and why not. */
import { hex, wrapAddress } from '../core/address.ts'
import { readField, readSigned } from '../core/bytes.ts'
import { findRange } from '../core/range.ts'
import { KIND_ROWS, kindCode, type SiteKind } from '../table/kinds.ts'
import type { Site } from '../table/site.ts'
import { Instruction, Memory } from '../x86/instruction.ts'
import type { Findings } from './analyze.ts'
import { Carrier } from './candidates.ts'
import type { Reading } from './explain-reading.ts'
import type { Reason, Verdict } from './judge.ts'
import { entryTarget, type JumpTable } from './jump-tables.ts'
import { displacementCarrier, immediateCarrier, isSegmented } from './operands.ts'

/** One field, and what was decided about it. */
export interface FieldReading {
  /** Bytes from the blob's start. */
  readonly offset: number
  readonly width: number
  /**
   * `site`: a move of a covered range changes it. `kept`: it says where something is, and no such move
   * changes that. `refused`: its value lies in a covered range, and was not taken for an address. `number`:
   * it never was a candidate.
   */
  readonly verdict: 'site' | 'kept' | 'refused' | 'number'
  /** In words: what found the address, or what the field is instead. */
  readonly why: string
  readonly kind?: SiteKind
  /** The address that it holds, or would hold. */
  readonly target?: bigint
  readonly site?: Site
  /** What was weighed, as logarithms of odds: above 0 it speaks for an address. */
  readonly reasons: readonly Reason[]
  /** What the reasons come to, and what they must come to; absent where nothing is weighed. */
  readonly odds?: number
  readonly least?: number
}

/** The fields of the instruction that holds `offset`, or the words of data that do. */
export function explainFields(
  found: Findings,
  sites: readonly Site[],
  offset: number,
  reading: Reading,
): FieldReading[] {
  if (reading.as === 'code') {
    return [reading.instruction!, ...(reading.shared ?? [])].flatMap(({ start }) => {
      const instruction = new Instruction()
      found.decoder.decode(start, instruction)
      return operandsOf(instruction).map((operand) => explainOperand(found, sites, instruction, operand))
    })
  }
  return explainData(found, sites, offset, reading)
}

interface Operand {
  readonly offset: number
  readonly width: number
  readonly role: 'relative' | 'displacement' | 'immediate'
}

function operandsOf(instruction: Instruction): Operand[] {
  const { offset, memory } = instruction
  const isIp = memory === Memory.rip || memory === Memory.eip
  const list: readonly (readonly [number, number, Operand['role']])[] = [
    [instruction.branchOffset, instruction.branchSize, 'relative'],
    [instruction.displacementOffset, instruction.displacementSize, isIp ? 'relative' : 'displacement'],
    [instruction.immediateOffset, instruction.immediateSize, 'immediate'],
  ]
  return list
    .filter(([, width]) => width > 0)
    .map(([at, width, role]) => ({ offset: offset + at, width, role }))
}

const fieldsOf = (site: Site): readonly { readonly offset: number; readonly width: number }[] =>
  site.pieces ?? [site]

/** The site that holds one of the bytes. */
const siteAt = (sites: readonly Site[], offset: number, width: number): Site | undefined =>
  sites.find((site) =>
    fieldsOf(site).some((field) => field.offset < offset + width && field.offset + field.width > offset),
  )

function explainOperand(
  found: Findings,
  sites: readonly Site[],
  instruction: Instruction,
  operand: Operand,
): FieldReading {
  const { offset, width, role } = operand
  const place = { offset, width }
  const site = siteAt(sites, offset, width)
  if (role === 'relative') {
    const target = relativeTarget(found, instruction, operand)
    if (site !== undefined)
      return {
        ...place,
        verdict: 'site',
        why: 'a relative operand',
        kind: site.kind,
        target,
        site,
        reasons: [],
      }
    const why = isSegmented(instruction)
      ? 'an offset into a segment, which is no place in the blob'
      : 'a relative operand: it moves together with what it points at'
    return { ...place, verdict: 'kept', why, target, reasons: [] }
  }
  const candidate = found.judge
    .at(offset)
    .map((i) => found.judge.explain(i))
    .find((one) => one.offset === offset)
  if (site !== undefined) return explainSite(place, site, candidate)
  if (candidate !== undefined) return refusal(place, candidate, sites)
  return { ...place, verdict: 'number', why: whyNumber(found, instruction, operand), reasons: [] }
}

function relativeTarget(
  { view, table }: Findings,
  instruction: Instruction,
  { offset, width }: Operand,
): bigint {
  const end = instruction.offset + instruction.length
  const target = wrapAddress(table.base + BigInt(end + readSigned(view, offset, width)))
  return instruction.memory === Memory.eip ? BigInt.asUintN(32, target) : target
}

/** What found a site. */
const FOUND_BY: Readonly<Partial<Record<SiteKind, string>>> = {
  split: 'several instructions put the address together from its fields',
  diff64:
    'a difference of two addresses: code of the large model reaches everything from the global offset table',
  diff32: 'a difference of two addresses: it is added to a register that holds the other one',
}

function explainSite(
  place: { readonly offset: number; readonly width: number },
  site: Site,
  candidate: Verdict | undefined,
): FieldReading {
  const head = { ...place, verdict: 'site', kind: site.kind, target: site.target, site } as const
  const found = FOUND_BY[site.kind]
  if (found !== undefined) return { ...head, why: found, reasons: [] }
  if (candidate === undefined)
    return { ...head, why: 'with a constant that another instruction adds it makes an address', reasons: [] }
  if (candidate.carrier === Carrier.absolute)
    return { ...head, why: 'an address without registers: the form says so', reasons: [] }
  const { reasons, odds, least } = candidate
  return { ...head, why: 'its value lies in a covered range, and was weighed', reasons, odds, least }
}

/** Why a value that lies in a covered range is no address. */
function refusal(
  place: { readonly offset: number; readonly width: number },
  verdict: Verdict,
  sites: readonly Site[],
): FieldReading {
  const { kind, target, reasons, odds, least, isUsed } = verdict
  const owner = siteAt(sites, place.offset, place.width)
  const why = !isUsed
    ? `this blob holds no addresses in words of this sort (${kind === 'abs64' ? 'not aligned' : 'of 4 bytes'})`
    : owner !== undefined
      ? `bytes of it belong to the site at offset ${hex(owner.offset)}, which is likelier`
      : 'what speaks against an address outweighs the rest'
  return { ...place, verdict: 'refused', why, kind, target, reasons, odds, least }
}

/** Why a constant of an instruction was no candidate. */
function whyNumber(found: Findings, instruction: Instruction, { offset, width, role }: Operand): string {
  if (width < 4) return `a constant of ${width === 1 ? '1 byte' : `${width} bytes`}, too small for an address`
  if (role === 'displacement' && isSegmented(instruction)) return 'an offset into a segment'
  if (role === 'displacement' && displacementCarrier(instruction) < 0)
    return 'a displacement from rsp: a size in a frame'
  if (role === 'immediate' && immediateCarrier(instruction) < 0)
    return 'no address is an operand of this operation'
  return `${hex(readField(found.view, offset, width))} lies in no range that may move`
}

function explainData(
  found: Findings,
  sites: readonly Site[],
  offset: number,
  { table }: Reading,
): FieldReading[] {
  const verdicts = found.judge.at(offset).map((i) => found.judge.explain(i))
  const site = siteAt(sites, offset, 1)
  const fields: FieldReading[] = []
  if (table !== undefined) fields.push(explainEntry(found, table, offset, site))
  else if (site !== undefined) {
    const candidate = verdicts.find((one) => one.offset === site.offset && one.kind === site.kind)
    const field = explainSite({ offset: site.offset, width: site.width }, site, candidate)
    const isWord = site.kind === 'diff32'
    fields.push(isWord ? { ...field, why: 'the distance from itself to what code refers to as well' } : field)
  }
  for (const verdict of verdicts) {
    const width = KIND_ROWS[kindCode(verdict.kind)].width
    if (fields.some((field) => field.offset === verdict.offset)) continue
    fields.push(refusal({ offset: verdict.offset, width }, verdict, sites))
  }
  return fields
}

/** An entry of a jump table. */
function explainEntry(
  { view, window, table: { base, parts } }: Findings,
  table: JumpTable,
  offset: number,
  site: Site | undefined,
): FieldReading {
  const { start, width, anchor, isIndex } = table
  const at = offset - ((offset - start) % width)
  if (isIndex)
    return { offset: at, width, verdict: 'number', why: "the number of another table's entry", reasons: [] }
  const target = wrapAddress(base + BigInt(entryTarget(view, at, table, window)))
  const place = { offset: at, width, target, reasons: [] }
  if (site !== undefined)
    return { ...place, verdict: 'site', why: 'an entry of a jump table', kind: site.kind, site }
  const moves = findRange(parts.blob.covered, target) >= 0
  const why =
    anchor === undefined && !moves
      ? 'an entry of a jump table, which leads to what stays'
      : 'an entry of a jump table: its two ends move together'
  return { ...place, verdict: 'kept', why }
}
