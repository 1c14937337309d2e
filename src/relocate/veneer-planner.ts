/** Goes through the code once and gives every instruction that holds a field out of reach its other form. */
import { hex, signedDelta, wrapAddress } from '../core/address.ts'
import { hexBytes, readField, readSigned, viewOf, writeField } from '../core/bytes.ts'
import type { Problem } from '../core/errors.ts'
import { lowerBound } from '../core/search.ts'
import type { SiteGroup, SplitSite } from '../table/groups.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import type { RelocationTable } from '../table/table.ts'
import type { Replaced } from '../table/veneered.ts'
import { VeneerArea } from '../x86/emit-area.ts'
import type { FarFields, FarRules } from '../x86/emit-detour.ts'
import { boundPrefix, branchStub, farForm } from '../x86/emit-far.ts'
import { widenedRegister } from '../x86/emit-immediate.ts'
import { Liveness } from '../x86/emit-live.ts'
import { Instruction, Memory } from '../x86/instruction.ts'
import { walkRuns } from '../x86/walk.ts'
import { Islands } from './islands.ts'

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

/** What is decided of the move already. */
export interface Fixed {
  readonly table: RelocationTable
  readonly to: bigint
  readonly deltas: readonly bigint[]
  readonly groups: readonly { readonly group: SiteGroup; readonly change: bigint }[]
  readonly splits: readonly { readonly split: SplitSite }[]
}

/** A branch of 8 or 16 bits, which is served when all gaps are known. */
interface ShortBranch {
  readonly instruction: Instruction
  readonly target: bigint
  /** Index of its field. */
  readonly field: number
}

const RELAYOUT =
  'Move its target along (`also`), or let the code be laid out anew with 32-bit branches, which a move does not do (the editor to come will).'

export class VeneerPlanner {
  readonly area: VeneerArea = new VeneerArea()
  readonly patches: Replaced[] = []
  readonly #code: Uint8Array
  readonly #view: DataView
  readonly #plan: Fixed
  readonly #at: bigint
  readonly #fields: readonly OutOfReach[]
  /** Offset of each of `#fields`, and 1 where an instruction holds it. */
  readonly #offsets: Uint32Array
  readonly #held: Uint8Array
  readonly #rules: FarRules
  readonly #live: Liveness
  readonly #problems: Problem[]
  /** Offset of the blob's new place from the area. */
  readonly #place: number
  /** Offset up to which the runs before this one have read. */
  #readTo = 0
  /** What something points at, and starts of second readings: pairs of offset and the offset of the instruction that says so. */
  readonly #entries: number[] = []
  readonly #short: ShortBranch[] = []
  /** Of the pieces of split sites that change. */
  readonly #pieces = new Set<number>()

  /** @param at the area's address */
  constructor(
    code: Uint8Array,
    plan: Fixed,
    fields: readonly OutOfReach[],
    rules: FarRules,
    at: bigint,
    problems: Problem[],
  ) {
    this.#code = code
    this.#view = viewOf(code)
    this.#plan = plan
    this.#at = at
    this.#fields = [...fields].sort((a, b) => offsetOf(a) - offsetOf(b))
    this.#offsets = Uint32Array.from(this.#fields, offsetOf)
    this.#held = new Uint8Array(fields.length)
    this.#rules = rules
    this.#live = new Liveness(code)
    this.#problems = problems
    this.#place = Number(signedDelta(at, plan.to))
    for (const { split } of plan.splits) for (const { offset } of split.pieces) this.#pieces.add(offset)
  }

  /** Fills `area` and `patches`; what cannot be served goes into the problems. */
  plan(): void {
    const { table } = this.#plan
    const fields = this.#fields
    const offsets = this.#offsets
    const islands = fields.some(({ group }) => isShort(group))
      ? new Islands(this.#code, table.base)
      : undefined
    let [n, readTo] = [0, 0]
    walkRuns(
      this.#code,
      table.parts.runs,
      (instruction) => {
        islands?.note(instruction)
        this.#note(instruction)
        const end = instruction.offset + instruction.length
        if (end > readTo) readTo = end
        if (n >= fields.length || offsets[n] >= end) return
        const first = n
        while (n < fields.length && offsets[n] < end) n++
        if (this.#held[first] === 0) this.#replace(instruction, first, n)
      },
      (start) => {
        islands?.begin()
        n = lowerBound(offsets, start)
        this.#readTo = readTo
      },
    )
    this.#notePointers()
    if (islands !== undefined) this.#serveShort(islands)
    fields.forEach((field, i) => {
      if (this.#held[i] === 0) this.#problems.push(field.problem())
    })
    this.#checkEntries()
  }

  /** Remembers what this instruction refers to within the blob; and where it starts, if that is a second reading of bytes. */
  #note(instruction: Instruction): void {
    const { offset, length, branchSize } = instruction
    if (offset < this.#readTo) this.#entries.push(offset, offset)
    const isBranch = branchSize > 0
    if (!isBranch && instruction.memory !== Memory.rip) return
    const at = offset + (isBranch ? instruction.branchOffset : instruction.displacementOffset)
    const target = offset + length + readSigned(this.#view, at, isBranch ? branchSize : 4)
    if (target >= 0 && target < this.#code.length) this.#entries.push(target, offset)
  }

  /** Absolute fields that point into the blob: a table of a switch, a stored label. */
  #notePointers(): void {
    const { table } = this.#plan
    const { own } = table.parts.blob
    for (const { kind, target, targets, offsets } of table.parts.groups) {
      if (target !== own || KIND_ROWS[kind].anchor === 'next') continue
      targets.forEach((address, i) => {
        const to = Number(signedDelta(table.base, table.now(address, own)))
        if (to >= 0 && to < this.#code.length) this.#entries.push(to, offsets[i])
      })
    }
  }

  /** Fields [first, end) lie in `instruction`. */
  #replace(instruction: Instruction, first: number, end: number): void {
    const { offset, length } = instruction
    let [branch, operand, immediate]: (bigint | undefined)[] = []
    for (let i = first; i < end; i++) {
      const at = this.#offsets[i] - offset
      const { target } = this.#fields[i]
      if (at === 0) return
      if (at === instruction.branchOffset) branch = target
      else if (at === instruction.displacementOffset) operand = target
      else if (at === instruction.immediateOffset) immediate = target
      else return
    }
    this.#held.fill(1, first, end)
    if (branch !== undefined && instruction.branchSize !== 4) {
      this.#short.push({
        instruction: Object.assign(new Instruction(), instruction),
        target: branch,
        field: first,
      })
      return
    }
    if (this.#holdsPiece(instruction)) {
      const reason = 'it holds a part of an address that is spread over several instructions'
      this.#refuse(first, offset, length, reason, 'Move one of the two targets along (`also`).')
      return
    }
    const bytes = this.#moved(instruction)
    if (immediate !== undefined) operand ??= this.#pointedAt(instruction, bytes)
    const place = this.#place + offset
    this.area.serve(offset)
    const dead = this.#live.deadAt(instruction)
    const far = { branch, operand, immediate, place, dead }
    const form = farForm(bytes, instruction, far, this.area, this.#rules)
    if (form instanceof Uint8Array) {
      this.patches.push({ offset, bytes: form })
      this.#checkNarrow(instruction, far)
    } else this.#refuse(first, offset, length, form.reason, form.remedy)
  }

  /** Warns where a register gets an address of which code uses 32 bits. */
  #checkNarrow(instruction: Instruction, { operand, immediate }: FarFields): void {
    const { offset, length, memory, opcode, map } = instruction
    if (memory === Memory.eip && map === 0 && opcode === 0x8d && operand !== undefined) {
      this.#warnNarrow(
        offset,
        length,
        `the lea at ${hex(offset)} gives 32 bits of ${hex(operand)}, as 67h says`,
      )
      return
    }
    const register = widenedRegister(instruction)
    if (register < 0 || immediate === undefined) return
    const use = this.#live.narrowUse(offset + length, register)
    if (use < 0) return
    const which = `the instruction at ${hex(use)} uses 32 bits of ${hex(immediate)}`
    this.#warnNarrow(use, 15, `${which}, which the one at ${hex(offset)} puts into its register`)
  }

  #warnNarrow(offset: number, length: number, message: string): void {
    this.#problems.push({
      severity: 'warning',
      code: 'narrow-use',
      offset,
      address: wrapAddress(this.#plan.table.base + BigInt(offset)),
      bytes: hexBytes(this.#code, offset, Math.min(this.#code.length, offset + length)),
      message: `${message}.`,
      remedy:
        'See whether the upper half matters there; if it does, choose a destination whose addresses fit 32 bits.',
    })
  }

  /** A later move could not tell what such a piece was. */
  #holdsPiece({ offset, length }: Instruction): boolean {
    for (let at = offset + 1; at < offset + length && this.#pieces.size > 0; at++)
      if (this.#pieces.has(at)) return true
    return false
  }

  /** Where a RIP- or EIP-relative operand will point; undefined where there is none. */
  #pointedAt(
    { offset, length, memory, displacementOffset }: Instruction,
    bytes: Uint8Array,
  ): bigint | undefined {
    if (memory !== Memory.rip && memory !== Memory.eip) return undefined
    const distance = offset + length + viewOf(bytes).getInt32(displacementOffset, true)
    const address = wrapAddress(this.#plan.to + BigInt(distance))
    return memory === Memory.eip ? BigInt.asUintN(32, address) : address
  }

  /** The instruction with its fields within reach as they must be after the move. */
  #moved({ offset, length }: Instruction): Uint8Array {
    const bytes = this.#code.slice(offset, offset + length)
    const view = viewOf(bytes)
    for (const { group, change } of this.#plan.groups) {
      if (change === 0n) continue
      const { width } = KIND_ROWS[group.kind]
      const { offsets } = group
      for (let i = lowerBound(offsets, offset); i < offsets.length && offsets[i] < offset + length; i++) {
        const at = offsets[i]
        if (this.#offsets[lowerBound(this.#offsets, at)] !== at)
          writeField(view, at - offset, width, readField(view, at - offset, width) + change)
      }
    }
    return bytes
  }

  /** Short branches jump to a jump among spare bytes, one for all that can reach it; that goes on to the target, or to a stub. */
  #serveShort(islands: Islands): void {
    islands.finish(this.#entries.filter((_, i) => i % 2 === 0).sort((a, b) => a - b))
    const known = new Map<string, number[]>()
    for (const { instruction, target, field } of this.#short) {
      const { offset, length, branchOffset, branchSize } = instruction
      const reach = 1 << (8 * branchSize - 1)
      const [low, high] = [offset + length - reach, offset + length + reach - 1]
      const opcode = [...boundPrefix(instruction), 0xe9]
      const name = `${opcode} ${target}`
      const places = known.get(name) ?? []
      known.set(name, places)
      let place = places.find((at) => at >= low && at <= high)
      if (place === undefined) {
        const island = islands.take(low, high, opcode)
        if (island === undefined) {
          const reason = `no spare bytes for a jump lie within reach of its ${8 * branchSize} bits`
          this.#refuse(field, offset, length, reason, RELAYOUT)
          continue
        }
        place = island.offset
        places.push(place)
        this.#goOn(island, instruction, target)
      }
      const bytes = this.#code.slice(offset, offset + length)
      writeField(viewOf(bytes), branchOffset, branchSize, BigInt(place - offset - length))
      this.patches.push({ offset, bytes })
    }
    this.patches.push(...islands.patches)
  }

  /** Lets the jump of an island reach the target of `instruction`. */
  #goOn({ offset, bytes }: Replaced, instruction: Instruction, target: bigint): void {
    const [start, end] = [this.#place + offset, this.#place + offset + bytes.length]
    const direct = Number(signedDelta(this.#at, target))
    const distance = direct - end
    this.area.serve(instruction.offset)
    this.area.parts.push({ start, end, offset: instruction.offset })
    const isNear = distance === (distance | 0)
    const aim = isNear ? direct : branchStub(instruction, target, this.area)
    this.area.referToVeneer(bytes, bytes.length - 4, end, aim)
  }

  /** Nothing may enter a replaced instruction but at its start. */
  #checkEntries(): void {
    const inside = new Int32Array(this.#code.length)
    for (const { offset, bytes } of this.patches) inside.fill(offset + 1, offset + 1, offset + bytes.length)
    const refused = new Set<number>()
    for (let i = 0; i < this.#entries.length; i += 2) {
      const [target, from] = [this.#entries[i], this.#entries[i + 1]]
      const start = inside[target] - 1
      if (start < 0 || refused.has(start) || start === from) continue
      refused.add(start)
      this.#problems.push(insideProblem(this.#plan.table, this.#code, start, target, from))
    }
  }

  #refuse(field: number, offset: number, length: number, reason: string, remedy: string): void {
    const { group, target } = this.#fields[field]
    this.#problems.push({
      severity: 'error',
      code: 'no-veneer',
      offset,
      address: wrapAddress(this.#plan.table.base + BigInt(offset)),
      bytes: hexBytes(this.#code, offset, offset + length),
      message: `the ${KIND_ROWS[group.kind].name} field at ${hex(this.#offsets[field])} cannot hold ${hex(target)}, and ${reason}.`,
      remedy,
    })
  }
}

const offsetOf = ({ group, index }: OutOfReach): number => group.offsets[index]

/** Relative fields of 8 and 16 bits. */
const isShort = ({ kind }: SiteGroup): boolean =>
  KIND_ROWS[kind].anchor === 'next' && KIND_ROWS[kind].width < 4

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
