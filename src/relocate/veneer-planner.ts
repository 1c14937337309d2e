/**
 * Gives every instruction that holds a field out of reach its other form.
 *
 * The code is swept for where its instructions start and what they refer to; only those that hold such a
 * field are decoded. What is referred to is marked in a map of the blob's bytes: nothing may enter a replaced
 * instruction but at its start.
 */
import { hex, signedDelta, wrapAddress } from '../core/address.ts'
import { copyBytes, hexBytes, readField, viewOf, writeField } from '../core/bytes.ts'
import type { Problem } from '../core/errors.ts'
import { lowerBound } from '../core/search.ts'
import type { SiteGroup, SplitSite } from '../table/groups.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import { type Piece, PieceBuilder } from '../table/pieces.ts'
import type { RelocationTable } from '../table/table.ts'
import { VeneerArea } from '../x86/emit-area.ts'
import type { FarFields, FarRules } from '../x86/emit-detour.ts'
import { farForm, isBound } from '../x86/emit-far.ts'
import { widenedRegister } from '../x86/emit-immediate.ts'
import { Liveness } from '../x86/emit-live.ts'
import { Encoding, Instruction, Memory } from '../x86/instruction.ts'
import { type SweptRun, SweptRuns } from '../x86/swept-runs.ts'
import { walkRuns } from '../x86/walk.ts'
import { Entries } from './entries.ts'
import { Islands } from './islands.ts'
import type { OutOfReach } from './out-of-reach.ts'

/** What is decided of the move already. */
export interface Fixed {
  readonly table: RelocationTable
  readonly to: bigint
  readonly deltas: readonly bigint[]
  readonly groups: readonly { readonly group: SiteGroup; readonly change: bigint }[]
  readonly splits: readonly { readonly split: SplitSite }[]
  /** What to say of a field that no veneer serves. */
  readonly problemOf: (group: SiteGroup, index: number) => Problem
}

/** A branch of 8 or 16 bits, which is served when all gaps are known. */
interface ShortBranch {
  readonly instruction: Instruction
  readonly target: bigint
  /** Index of its field. */
  readonly field: number
}

/** Entered instructions that are named. */
const NAMED = 20

const RELAYOUT =
  'Move its target along (`also`), or let the code be laid out anew with 32-bit branches, which a move does not do (the editor to come will).'

export class VeneerPlanner {
  readonly area: VeneerArea = new VeneerArea()
  readonly patches: PieceBuilder = new PieceBuilder()
  readonly #code: Uint8Array
  readonly #plan: Fixed
  readonly #at: bigint
  readonly #fields: OutOfReach
  /** Of `#fields`: 1 where an instruction holds it. */
  readonly #held: Uint8Array
  readonly #rules: FarRules
  readonly #live: Liveness
  readonly #swept: SweptRuns
  readonly #instruction = new Instruction()
  readonly #problems: Problem[]
  /** Offset of the blob's new place from the area. */
  readonly #place: number
  readonly #entries: Entries
  /** Groups with sites within reach that change. */
  readonly #changing: readonly { readonly group: SiteGroup; readonly change: bigint }[]
  readonly #short: ShortBranch[] = []
  /** Of the pieces of split sites that change. */
  readonly #pieces = new Set<number>()

  /** @param at the area's address */
  constructor(
    code: Uint8Array,
    plan: Fixed,
    fields: OutOfReach,
    rules: FarRules,
    at: bigint,
    problems: Problem[],
  ) {
    this.#code = code
    this.#swept = new SweptRuns(code, plan.table.parts.runs)
    this.#plan = plan
    this.#at = at
    this.#fields = fields
    this.#held = new Uint8Array(fields.length)
    this.#rules = rules
    this.#live = new Liveness(code)
    this.#problems = problems
    this.#place = Number(signedDelta(at, plan.to))
    this.#entries = new Entries(code, plan.table, this.#swept)
    this.#changing = plan.groups.filter(
      ({ group, change }) => change !== 0n && fields.countOf(group) < group.offsets.length,
    )
    for (const { split } of plan.splits) for (const { offset } of split.pieces) this.#pieces.add(offset)
  }

  /** Fills `area` and `patches`; what cannot be served goes into the problems. */
  plan(): void {
    const { runs } = this.#plan.table.parts
    for (let i = 0; i < runs.length; i += 2) {
      const found = this.#swept.run(runs[i], runs[i + 1])
      this.#entries.note(found)
      this.#serveFields(found)
    }
    if (this.#short.length > 0) this.#serveShort()
    const fields = this.#fields
    for (let i = 0; i < fields.length; i++)
      if (this.#held[i] === 0) this.#problems.push(this.#plan.problemOf(fields.groupOf(i), fields.indexOf(i)))
    this.#checkEntries()
  }

  /** Decodes the instructions that hold fields. */
  #serveFields({ starts, end: runEnd }: SweptRun): void {
    const { offsets } = this.#fields
    if (starts.length === 0) return
    let n = lowerBound(offsets, starts[0])
    for (let i = 0; n < offsets.length && offsets[n] < runEnd; ) {
      while (i + 1 < starts.length && starts[i + 1] <= offsets[n]) i++
      const end = i + 1 < starts.length ? starts[i + 1] : runEnd
      const first = n
      while (n < offsets.length && offsets[n] < end) n++
      if (this.#held[first] === 1) continue
      if (isPlainBranch(this.#code, starts[i], offsets[first], end)) {
        this.#goToStub(starts[i], first, end)
        continue
      }
      this.#swept.decode(starts[i], this.#instruction)
      this.#replace(this.#instruction, first, n)
    }
  }

  /**
   * A plain branch keeps its opcode and goes to a stub, as `farForm` has it: most of what is out of reach, so
   * without decoding.
   */
  #goToStub(offset: number, field: number, end: number): void {
    this.#held[field] = 1
    this.area.serve(offset)
    const stub = this.area.stub(this.#fields.targets[field], false)
    const { patches } = this
    patches.copy(this.#code, offset, end)
    this.area.referToVeneer(patches.bytes, patches.size - 4, this.#place + end, stub)
  }

  /** Fields [first, end) lie in `instruction`. */
  #replace(instruction: Instruction, first: number, end: number): void {
    const { offset, length } = instruction
    let branch: bigint | undefined
    let operand: bigint | undefined
    let immediate: bigint | undefined
    for (let i = first; i < end; i++) {
      const at = this.#fields.offsets[i] - offset
      const target = this.#fields.targets[i]
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
    // Direct branches and lea with rip need no register.
    const isAccess = branch === undefined && !isLoadOfAddress(instruction)
    const dead = isAccess ? this.#live.deadAt(instruction) : 0
    const far = { branch, operand, immediate, place, dead }
    const form = farForm(bytes, instruction, far, this.area, this.#rules)
    if (form instanceof Uint8Array) {
      this.#patch(offset, form)
      this.#checkNarrow(instruction, far)
    } else this.#refuse(first, offset, length, form.reason, form.remedy)
  }

  #patch(offset: number, bytes: Uint8Array): void {
    this.area.settle(bytes, this.patches.size)
    this.patches.add(offset, bytes)
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
    const bytes = copyBytes(this.#code, offset, offset + length)
    if (this.#changing.length === 0) return bytes
    const view = viewOf(bytes)
    for (const { group, change } of this.#changing) {
      const { width } = KIND_ROWS[group.kind]
      const { offsets } = group
      for (let i = lowerBound(offsets, offset); i < offsets.length && offsets[i] < offset + length; i++) {
        const at = offsets[i]
        if (this.#fields.offsets[lowerBound(this.#fields.offsets, at)] !== at)
          writeField(view, at - offset, width, readField(view, at - offset, width) + change)
      }
    }
    return bytes
  }

  /**
   * Short branches jump to a jump among spare bytes, one for all that can reach it; that goes on to the
   * target, or to a stub.
   */
  #serveShort(): void {
    const islands = this.#findIslands()
    const known = new Map<string, number[]>()
    for (const { instruction, target, field } of this.#short) {
      const { offset, length, branchOffset, branchSize } = instruction
      const reach = 1 << (8 * branchSize - 1)
      const [low, high] = [offset + length - reach, offset + length + reach - 1]
      const opcode = isBound(instruction) ? [0xf2, 0xe9] : [0xe9]
      const name = `${opcode} ${target}`
      const places = known.get(name) ?? []
      known.set(name, places)
      // Branches come in the order of their offsets, and so do the places that they get.
      let place = places.findLast((at) => at <= high)
      if (place === undefined || place < low) {
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
      const bytes = copyBytes(this.#code, offset, offset + length)
      writeField(viewOf(bytes), branchOffset, branchSize, BigInt(place - offset - length))
      this.#patch(offset, bytes)
    }
    for (const { offset, bytes } of islands.patches) this.#patch(offset, bytes)
  }

  #findIslands(): Islands {
    const { table } = this.#plan
    const islands = new Islands(this.#code, table.base)
    walkRuns(
      this.#code,
      table.parts.runs,
      (instruction) => islands.note(instruction),
      () => islands.begin(),
    )
    islands.finish(this.#entries.list())
    return islands
  }

  /** Lets the jump of an island reach the target of `instruction`. */
  #goOn({ offset, bytes }: Piece, instruction: Instruction, target: bigint): void {
    const [start, end] = [this.#place + offset, this.#place + offset + bytes.length]
    const direct = Number(signedDelta(this.#at, target))
    const distance = direct - end
    this.area.serve(instruction.offset)
    this.area.parts.add(start, end, instruction.offset)
    const isNear = distance === (distance | 0)
    const aim = isNear ? direct : this.area.stub(target, isBound(instruction))
    this.area.referToVeneer(bytes, bytes.length - 4, end, aim)
  }

  /** Nothing may enter a replaced instruction but at its start. */
  #checkEntries(): void {
    const { patches } = this
    let found = 0
    for (let i = 0; i < patches.length && found < NAMED; i++) {
      const start = patches.start(i)
      const at = this.#entries.firstIn(start + 1, patches.end(i))
      if (at < 0) continue
      found++
      const from = this.#entries.referenceTo(at)
      this.#problems.push(insideProblem(this.#plan.table, this.#code, start, at, from))
    }
  }

  #refuse(field: number, offset: number, length: number, reason: string, remedy: string): void {
    const [group, target] = [this.#fields.groupOf(field), this.#fields.targets[field]]
    this.#problems.push({
      severity: 'error',
      code: 'no-veneer',
      offset,
      address: wrapAddress(this.#plan.table.base + BigInt(offset)),
      bytes: hexBytes(this.#code, offset, offset + length),
      message: `the ${KIND_ROWS[group.kind].name} field at ${hex(this.#fields.offsets[field])} cannot hold ${hex(target)}, and ${reason}.`,
      remedy,
    })
  }
}

/** `call`, `jmp` and `jcc` of 32 bits without prefixes. */
const isPlainBranch = (code: Uint8Array, start: number, field: number, end: number): boolean =>
  end === field + 4 &&
  (field === start + 1
    ? (code[start] & 0xfe) === 0xe8
    : field === start + 2 && code[start] === 0x0f && (code[start + 1] & 0xf0) === 0x80)

const isLoadOfAddress = ({ encoding, map, opcode, memory }: Instruction): boolean =>
  encoding === Encoding.legacy && map === 0 && opcode === 0x8d && memory === Memory.rip

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
