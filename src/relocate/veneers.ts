/**
 * What stands in for instructions whose address fields leave their reach: planned like everything else, written by apply.
 *
 * Each such instruction gets another one in its place, of the same length, so no instruction's address changes; veneers and literals lie in an
 * area of their own. An instruction that is replaced must be entered at its start alone: a branch into its middle, or a second reading of its
 * bytes, is refused.
 */
import { type AddressLike, hex, signedDelta, toAddress, toOffset, wrapAddress } from '../core/address.ts'
import { hexBytes, readField, viewOf, writeField } from '../core/bytes.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import { lowerBound } from '../core/search.ts'
import type { SiteGroup } from '../table/groups.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import type { RelocationTable } from '../table/table.ts'
import type { Replaced } from '../table/veneered.ts'
import { type AreaPart, VeneerArea } from '../x86/emit.ts'
import type { FarRules } from '../x86/emit-detour.ts'
import { farForm } from '../x86/emit-far.ts'
import { type Instruction, Memory } from '../x86/instruction.ts'
import { walkRuns } from '../x86/walk.ts'

export interface VeneerOptions {
  /** Address of the veneers; by default the first multiple of 16 behind the blob's new place. */
  readonly at?: AddressLike | undefined
  /** Bytes that there are at `at`; by default as many as are needed. */
  readonly capacity?: number | undefined
  /** Whether the 128 bytes below rsp are in use, as the System V ABI has it. Default true; Windows and kernels have none. */
  readonly redZone?: boolean | undefined
  /** A register that is free at every indirect call and jump; needed for those without a red zone. */
  readonly scratch?: 'r11' | undefined
}

/** Veneers and literals, to be written at `at`, executable. */
export interface VeneerBytes {
  readonly at: bigint
  readonly bytes: Uint8Array
}

/** A field that cannot hold its new value. */
export interface OutOfReach {
  readonly group: SiteGroup
  /** Index in the group. */
  readonly index: number
  /** What it shall stand for: an address. */
  readonly target: bigint
  /** What to say where no veneer serves it. */
  readonly problem: () => Problem
}

/** What the plan holds of veneers. */
export interface VeneerPlan extends VeneerBytes {
  /** Instructions before and after, ascending by offset. */
  readonly replaced: readonly Replaced[]
  readonly patches: readonly Replaced[]
  readonly parts: readonly AreaPart[]
}

/** What is decided of the move already. */
export interface Fixed {
  readonly table: RelocationTable
  readonly to: bigint
  readonly deltas: readonly bigint[]
  readonly groups: readonly { readonly group: SiteGroup; readonly change: bigint }[]
}

/** Plans veneers for `fields`; what cannot be served goes into `problems`. Throws `bad-argument`. */
export function planVeneers(
  code: Uint8Array,
  plan: Fixed,
  fields: readonly OutOfReach[],
  options: VeneerOptions,
  problems: Problem[],
): VeneerPlan {
  const { table } = plan
  const at = veneerPlace(table, options, plan)
  const planner = new VeneerPlanner(code, plan, fields, rulesOf(options), at)
  planner.plan(problems)
  const { area, patches } = planner
  const bytes = finishArea(area, plan, at, options, problems)
  patches.sort((a, b) => a.offset - b.offset)
  const replaced = patches.map(({ offset, bytes: { length } }) => ({
    offset,
    bytes: code.slice(offset, offset + length),
  }))
  return { at, bytes, replaced, patches, parts: area.parts }
}

/** The area's bytes, if they reach the blob and have room. */
function finishArea(
  area: VeneerArea,
  { table, deltas }: Fixed,
  at: bigint,
  { capacity = Number.MAX_SAFE_INTEGER }: VeneerOptions,
  problems: Problem[],
): Uint8Array {
  const wrong = (message: string): number => problems.push(areaProblem(table, message))
  const bytes = area.finish()
  if (bytes === undefined) {
    wrong(`the veneers at ${hex(at)} are out of the blob's reach themselves.`)
    return new Uint8Array(0)
  }
  if (bytes.length > toOffset(capacity, 'veneers.capacity'))
    wrong(`the veneers need ${bytes.length} bytes, there are ${capacity}.`)
  const end = at + BigInt(bytes.length)
  for (const [i, range] of table.coverage.entries()) {
    const start = wrapAddress(range.start + deltas[i])
    if (at < start + (range.end - range.start) && start < end)
      wrong(
        `the veneers at ${hex(at)} (${bytes.length} bytes) would lie on ${hex(start)}, which the table covers.`,
      )
  }
  return bytes
}

const rulesOf = ({ redZone = true, scratch }: VeneerOptions): FarRules => ({
  redZone: redZone ? 128 : 0,
  scratch,
})

function veneerPlace(table: RelocationTable, { at }: VeneerOptions, { to }: Fixed): bigint {
  if (at !== undefined) return toAddress(at, 'veneers.at')
  const end = to + BigInt(Math.max(table.length, table.span))
  if (end + 15n >= 1n << 64n)
    throw new RelocError(
      'bad-argument',
      'There is no room for veneers behind the blob: say where they shall be (`veneers.at`).',
    )
  return (end + 15n) & ~15n
}

const areaProblem = (table: RelocationTable, message: string): Problem => ({
  severity: 'error',
  code: 'no-room',
  offset: 0,
  address: table.base,
  bytes: '',
  message,
  remedy: 'Give the veneers another place (`veneers: { at, capacity }`), within 2 GB of the blob.',
})

class VeneerPlanner {
  readonly area: VeneerArea = new VeneerArea()
  readonly patches: Replaced[] = []
  readonly #code: Uint8Array
  readonly #table: RelocationTable
  readonly #fields: readonly OutOfReach[]
  readonly #rules: FarRules
  /** Sites within reach that change all the same: offset of the field to its width and change. */
  readonly #changes = new Map<number, { readonly width: number; readonly change: bigint }>()
  /** Offset of the blob's new place from the area. */
  readonly #place: number
  /** Of `#fields`: 1 where an instruction holds it. */
  readonly #held: Uint8Array
  readonly #view: DataView
  /** Offset up to which the runs before this one have read. */
  #readTo = 0
  /** Targets of relative operands, and starts of instructions: pairs of offset and the offset of the instruction that says so. */
  readonly #entries: number[] = []

  constructor(
    code: Uint8Array,
    { table, to, groups }: Fixed,
    fields: readonly OutOfReach[],
    rules: FarRules,
    at: bigint,
  ) {
    this.#code = code
    this.#view = viewOf(code)
    this.#table = table
    this.#fields = [...fields].sort((a, b) => offsetOf(a) - offsetOf(b))
    this.#rules = rules
    this.#place = Number(signedDelta(at, to))
    this.#held = new Uint8Array(fields.length)
    for (const { group, change } of groups) {
      if (change === 0n || KIND_ROWS[group.kind].anchor !== 'none') continue
      for (const offset of group.offsets)
        this.#changes.set(offset, { width: KIND_ROWS[group.kind].width, change })
    }
  }

  plan(problems: Problem[]): void {
    const fields = this.#fields
    const offsets = Uint32Array.from(fields, offsetOf)
    let [n, readTo] = [0, 0]
    walkRuns(
      this.#code,
      this.#table.parts.runs,
      (instruction) => {
        this.#note(instruction)
        const end = instruction.offset + instruction.length
        if (end > readTo) readTo = end
        if (n >= fields.length || offsetOf(fields[n]) >= end) return
        const first = n
        while (n < fields.length && offsetOf(fields[n]) < end) n++
        this.#replace(instruction, first, n, problems)
      },
      (start) => {
        n = lowerBound(offsets, start)
        this.#readTo = readTo
      },
    )
    fields.forEach((field, i) => {
      if (this.#held[i] === 0) problems.push(field.problem())
    })
    this.#checkEntries(problems)
  }

  /** Remembers what this instruction refers to within the blob; and where it starts, if that is a second reading of bytes. */
  #note(instruction: Instruction): void {
    const { offset, length, branchSize } = instruction
    if (offset < this.#readTo) this.#entries.push(offset, offset)
    const isBranch = branchSize > 0
    if (!isBranch && instruction.memory !== Memory.rip) return
    const at = offset + (isBranch ? instruction.branchOffset : instruction.displacementOffset)
    const target = offset + length + readDistance(this.#view, at, isBranch ? branchSize : 4)
    if (target >= 0 && target < this.#code.length) this.#entries.push(target, offset)
  }

  /** Fields [first, end) lie in `instruction`. */
  #replace(instruction: Instruction, first: number, end: number, problems: Problem[]): void {
    const { offset, length } = instruction
    if (this.#held[first] === 1) return
    const refuse = (reason: string, remedy: string): void => {
      problems.push(refusedField(this.#fields[first], this.#table, this.#code, instruction, reason, remedy))
    }
    this.#held.fill(1, first, end)
    if (end - first > 1) {
      refuse('two of its fields are out of reach', 'Move one of the targets along (`also`).')
      return
    }
    const { target } = this.#fields[first]
    const field = { at: offsetOf(this.#fields[first]) - offset, target, place: this.#place + offset }
    if (!isField(instruction, field.at)) {
      this.#held[first] = 0
      return
    }
    this.area.serve(offset)
    const form = farForm(this.#moved(offset, length), instruction, field, this.area, this.#rules)
    if (form instanceof Uint8Array) this.patches.push({ offset, bytes: form })
    else refuse(form.reason, form.remedy)
  }

  /** The instruction at `offset` with its other fields, those within reach, as they must be after the move. */
  #moved(offset: number, length: number): Uint8Array {
    const bytes = this.#code.slice(offset, offset + length)
    for (let i = 1; i < length && this.#changes.size > 0; i++) {
      const site = this.#changes.get(offset + i)
      if (site === undefined) continue
      const view = viewOf(bytes)
      writeField(view, i, site.width, readField(view, i, site.width) + site.change)
    }
    return bytes
  }

  /** Nothing may enter a replaced instruction but at its start. */
  #checkEntries(problems: Problem[]): void {
    const inside = new Int32Array(this.#code.length)
    for (const { offset, bytes } of this.patches) inside.fill(offset + 1, offset + 1, offset + bytes.length)
    const refused = new Set<number>()
    this.#notePointers()
    for (let i = 0; i < this.#entries.length; i += 2) {
      const [target, from] = [this.#entries[i], this.#entries[i + 1]]
      const start = inside[target] - 1
      if (start < 0 || refused.has(start) || start === from) continue
      refused.add(start)
      problems.push(insideProblem(this.#table, this.#code, start, target, from))
    }
  }

  /** Absolute fields that point into the blob: a table of a switch, a stored label. */
  #notePointers(): void {
    const { own } = this.#table.parts.blob
    for (const { kind, target, targets, offsets } of this.#table.parts.groups) {
      if (target !== own || KIND_ROWS[kind].anchor === 'next') continue
      targets.forEach((address, i) => {
        const to = Number(signedDelta(this.#table.base, this.#table.now(address, own)))
        if (to >= 0 && to < this.#code.length) this.#entries.push(to, offsets[i])
      })
    }
  }
}

const offsetOf = ({ group, index }: OutOfReach): number => group.offsets[index]

const readDistance = (view: DataView, at: number, size: number): number =>
  size === 4 ? view.getInt32(at, true) : size === 2 ? view.getInt16(at, true) : view.getInt8(at)

/** Whether a field of `instruction` begins `at` bytes behind its start. */
const isField = (instruction: Instruction, at: number): boolean =>
  at > 0 &&
  (at === instruction.displacementOffset ||
    at === instruction.immediateOffset ||
    at === instruction.branchOffset)

function refusedField(
  field: OutOfReach,
  table: RelocationTable,
  code: Uint8Array,
  { offset, length }: Instruction,
  reason: string,
  remedy: string,
): Problem {
  return {
    severity: 'error',
    code: 'no-veneer',
    offset,
    address: wrapAddress(table.base + BigInt(offset)),
    bytes: hexBytes(code, offset, offset + length),
    message: `the ${KIND_ROWS[field.group.kind].name} field at ${hex(offsetOf(field))} cannot hold ${hex(field.target)}, and ${reason}.`,
    remedy,
  }
}

const insideProblem = (
  table: RelocationTable,
  code: Uint8Array,
  start: number,
  target: number,
  from: number,
): Problem => ({
  severity: 'error',
  code: 'entered-inside',
  offset: from,
  address: wrapAddress(table.base + BigInt(from)),
  bytes: hexBytes(code, from, Math.min(code.length, from + 15)),
  message: `the code at ${hex(from)} refers to ${hex(target)}, inside the instruction at ${hex(start)}, which a veneer would replace.`,
  remedy: 'Choose a destination within reach of what that instruction refers to.',
})
