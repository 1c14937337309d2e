/**
 * The part of verification that decodes: claimed fields are operands, and no operand that must be claimed is missing.
 */
import { hex, wrapAddress } from '../core/address.ts'
import { readSigned, viewOf } from '../core/bytes.ts'
import { PROGRESS_STEP, type ProgressOptions, reportProgress } from '../core/progress.ts'
import { FIXED } from '../table/groups.ts'
import { ABS32, ABS32S, EIP32, KIND_ROWS, PC8, PC16, PC32 } from '../table/kinds.ts'
import { ADDRESS_EXACT, addressLevel } from '../table/site.ts'
import type { RelocationTable } from '../table/table.ts'
import { IcedCursor } from '../x86/iced.ts'
import { type Cpu, MAX_LENGTH } from '../x86/instruction.ts'
import { type Ahead, aheadField, aheadIsLea, aheadLength, aheadSize } from './ahead.ts'
import type { ClaimedField, ClaimedFields, CoverageShifts } from './claims.ts'
import type { Findings } from './findings.ts'

interface CodeProof {
  relative: number
  instructions: number
}

interface CheckOptions extends ProgressOptions {
  readonly cpu?: Cpu | undefined
  /** What is known of `code` already. */
  readonly ahead?: Ahead | undefined
}

const ANALYSE = 'Analyse the code again; if you made the table, look at this site.'

/** Decodes every claimed run and holds the claimed fields against it. */
export function checkCode(
  code: Uint8Array,
  claim: RelocationTable,
  fields: ClaimedFields,
  shifts: CoverageShifts,
  findings: Findings,
  options: CheckOptions,
): CodeProof {
  const runs = claim.code()
  if (runs.length === 0) {
    if (fields.offsets.length > 0)
      findings.warning(
        'no-code-map',
        0,
        0,
        'the claim calls no byte code, so its sites are taken on trust.',
        'That is right of data alone; where there is code, give `runs` to fromSites, or use a table that analyze made.',
      )
    return { relative: 0, instructions: 0 }
  }
  const checker = new CodeChecker(code, claim, fields, shifts, findings, options)
  try {
    for (const run of runs) checker.run(run.start, run.end)
    checker.checkData()
    return checker.proof
  } finally {
    checker.dispose()
  }
}

class CodeChecker {
  readonly proof: CodeProof = { relative: 0, instructions: 0 }
  /** The blob's own range. */
  readonly #start: bigint
  readonly #end: bigint
  readonly #code: Uint8Array
  readonly #view: DataView
  #made: IcedCursor | undefined
  readonly #claim: RelocationTable
  readonly #fields: ClaimedFields
  readonly #shifts: CoverageShifts
  readonly #findings: Findings
  readonly #options: CheckOptions
  /** Offset at which progress is reported next. */
  #report = PROGRESS_STEP
  /** 1 for fields that some run holds. */
  readonly #seen: Uint8Array

  constructor(
    code: Uint8Array,
    claim: RelocationTable,
    fields: ClaimedFields,
    shifts: CoverageShifts,
    findings: Findings,
    options: CheckOptions,
  ) {
    this.#start = claim.base
    this.#end = claim.base + BigInt(claim.span)
    this.#code = code
    this.#view = viewOf(code)
    this.#options = options
    this.#claim = claim
    this.#fields = fields
    this.#shifts = shifts
    this.#findings = findings
    this.#seen = new Uint8Array(fields.offsets.length)
  }

  /** Made when it is first needed: what is decoded ahead may do. */
  get #cursor(): IcedCursor {
    return (this.#made ??= new IcedCursor(this.#code, { base: this.#claim.base, cpu: this.#options.cpu }))
  }

  dispose(): void {
    this.#made?.dispose()
  }

  /** Walks one run; claimed fields are met in the order of their offsets. */
  run(start: number, end: number): void {
    const { offsets } = this.#fields
    let n = this.#fields.firstFrom(start)
    if (n > 0 && offsets[n - 1] + this.#fields.get(n - 1).width > start)
      this.#wrong(this.#fields.get(n - 1), 'a claimed field reaches into claimed code.')
    let at = start
    while (at < end) {
      at = this.#skip(at, Math.min(n < offsets.length ? offsets[n] : end, end, this.#report))
      if (at === end) return
      const word = this.#wordAt(at)
      const length = word === 0 ? this.#cursor.decode(at) : aheadLength(word)
      if (length === 0 || at + length > end) {
        this.#findings.error(
          'not-code',
          at,
          Math.min(MAX_LENGTH, end - at),
          `claimed code does not decode to the end of its run at ${hex(end)}.`,
          ANALYSE,
        )
        return
      }
      this.proof.instructions++
      const first = n
      while (n < offsets.length && offsets[n] < at + length) n++
      if (word === 0) this.#instruction(first, n)
      else if (!this.#isRight(word, at, first, n)) {
        this.#cursor.decode(at)
        this.#instruction(first, n)
      }
      at += length
      if (at >= this.#report) {
        reportProgress(this.#options, at, this.#claim.length, 'verify')
        this.#report = at + PROGRESS_STEP
      }
    }
  }

  /** What is known of the instruction at `at`; 0: nothing. */
  #wordAt(at: number): number {
    const { ahead } = this.#options
    if (ahead === undefined) return 0
    if (ahead.words[at] === 0) ahead.wait?.(at)
    return ahead.words[at]
  }

  /**
   * Goes over instructions that hold no field, pointing out of the code or claimed: the first claimed one is
   * behind `stop`, and so is the end.
   */
  #skip(start: number, stop: number): number {
    const words = this.#options.ahead?.words
    if (words === undefined) return start
    let at = start
    let count = 0
    for (; at < stop; count++) {
      const word = words[at]
      if (word === 0 || aheadField(word) !== 0 || at + word > stop) break
      at += word
    }
    this.proof.instructions += count
    return at
  }

  /** Conditions 2 and 3 for the instruction under the cursor, which holds the claimed fields [first, end). */
  #instruction(first: number, end: number): void {
    for (let n = first; n < end; n++) this.#field(this.#fields.get(n), n)
    if (this.#cursor.isBranch || this.#cursor.isIpRelative) this.#missing(first, end)
  }

  /**
   * Whether the word of the instruction at `at` shows that they hold. If it does not, only the cursor can
   * tell what is wrong.
   */
  #isRight(word: number, at: number, first: number, end: number): boolean {
    const offset = at + aheadField(word)
    if (offset === at) return first === end
    if (end !== first + 1 || this.#fields.offsets[first] !== offset) return false
    const [group, i] = [this.#fields.groupOf(first), this.#fields.indexOf(first)]
    const next = at + aheadLength(word)
    const size = aheadSize(word)
    if (group?.kind !== (size === 1 ? PC8 : PC32) || offset + size + group.tails[i] !== next) return false
    if (addressLevel(group.evidence[i]) !== ADDRESS_EXACT) {
      if (this.#fields.distance(first) !== next + readSigned(this.#view, offset, size)) return false
      if (!this.#shifts.canBelong(group.targets[i], group.target, aheadIsLea(word))) return false
    }
    if (this.#seen[first] === 0) this.proof.relative++
    this.#seen[first] = 1
    return true
  }

  /** Condition 2: the field is an operand of the instruction under the cursor, of its kind's sort. */
  #field(field: ClaimedField, n: number): void {
    const cursor = this.#cursor
    const first = this.#seen[n] === 0
    this.#seen[n] = 1
    const at = field.offset - cursor.offset
    const isDisplacement = at === cursor.displacementOffset && field.width === cursor.displacementSize
    const isImmediate = at === cursor.immediateOffset && field.width === cursor.immediateSize
    const row = KIND_ROWS[field.kind]
    if (!isDisplacement && !isImmediate) {
      this.#wrong(
        field,
        `a claimed ${row.name} field is no operand of the instruction at ${hex(cursor.offset)}.`,
      )
      return
    }
    const relative = isImmediate ? cursor.isBranch : cursor.isIpRelative
    if (row.anchor === 'next') this.#relative(field, relative, isImmediate, first)
    else if (relative) this.#wrong(field, `a relative operand is claimed as ${row.name}.`)
    else this.#absolute(field, isDisplacement)
  }

  /**
   * What the CPU makes of an absolute operand is what its kind says. That it is an address at all is the claim's word.
   */
  #absolute(field: ClaimedField, isDisplacement: boolean): void {
    const cursor = this.#cursor
    const signed = isDisplacement ? cursor.displacementIsSignExtended : cursor.immediateIsSignExtended
    if (field.kind === ABS32 && signed)
      this.#wrong(field, 'a sign-extended operand is claimed as zero-extended (abs32).')
    else if (field.kind === ABS32S && !signed)
      this.#wrong(field, 'a zero-extended operand is claimed as sign-extended (abs32s).')
    else if (isDisplacement && cursor.inSegment && addressLevel(field.evidence) !== ADDRESS_EXACT)
      this.#wrong(field, 'an offset into a segment (fs:, gs:) is claimed as an address.')
  }

  /** `first`: no other run holds it; a field that several hold counts once. */
  #relative(field: ClaimedField, relative: boolean, isBranch: boolean, first: boolean): void {
    const mismatch = this.#mismatch(field, relative, isBranch)
    if (mismatch !== undefined) this.#wrong(field, mismatch)
    else if (first) this.proof.relative++
  }

  /** What is wrong with a claim that this operand is of a pc kind; undefined: nothing. */
  #mismatch(field: ClaimedField, relative: boolean, isBranch: boolean): string | undefined {
    const cursor = this.#cursor
    const row = KIND_ROWS[field.kind]
    if (!relative) return `an operand that is not relative is claimed as ${row.name}.`
    const isEip = !isBranch && cursor.isEipRelative
    const kind = isEip ? EIP32 : field.width === 1 ? PC8 : field.width === 2 ? PC16 : PC32
    if (field.kind !== kind) return `a ${KIND_ROWS[kind].name} operand is claimed as ${row.name}.`
    // That the target moves with something else than what it points at is the maker's word; then the field's
    // change is all that counts.
    if (addressLevel(field.evidence) === ADDRESS_EXACT) return undefined
    const [next, claimed] = [cursor.offset + cursor.length, field.offset + field.width + field.tail]
    if (claimed !== next) return `the instruction ends at ${hex(next)}, the claim says ${hex(claimed)}.`
    const target = cursor.target ?? 0n
    if (field.target !== target)
      return `the operand points at ${hex(target)}, the claim says ${hex(field.target)}.`
    const moves = this.#isOffset()
      ? field.place === FIXED
      : this.#shifts.canMoveWith(target, field.place, cursor.isLea)
    if (moves) return undefined
    return `the operand points at ${hex(target)}, which does not move with what the claim says.`
  }

  /** The relative operand is an offset into a segment, which moves with nothing. */
  #isOffset(): boolean {
    return !this.#cursor.isBranch && this.#cursor.inSegment
  }

  #wrong(field: ClaimedField, message: string): void {
    this.#findings.error('wrong-claim', field.offset, field.width, message, ANALYSE)
  }

  /**
   * Condition 3: the relative operand under the cursor is claimed, or its ends move alike. Fields [first,
   * end) lie in the instruction.
   */
  #missing(first: number, end: number): void {
    const cursor = this.#cursor
    const target = cursor.target ?? 0n
    // Most branches stay inside, and move as what they point at does.
    if (cursor.isBranch && !cursor.isBranch16 && target >= this.#start && target < this.#end) return
    const offset = cursor.offset + (cursor.isBranch ? cursor.immediateOffset : cursor.displacementOffset)
    for (let n = first; n < end; n++) if (this.#fields.offsets[n] === offset) return
    const isEip = !cursor.isBranch && cursor.isEipRelative
    const place = this.#isOffset() ? FIXED : this.#shifts.placeOf(target, cursor.isLea)
    // The field stays, so what it points at goes as far as the blob does, within the bits that the CPU keeps.
    const bits = isEip ? 32 : cursor.isBranch16 ? 16 : 64
    const points = BigInt.asUintN(bits, target + this.#shifts.of(this.#claim.parts.blob.own))
    if (points === wrapAddress(target + this.#shifts.of(place))) return
    this.#findings.error(
      'missing-site',
      cursor.offset,
      cursor.length,
      `the relative operand at ${hex(offset)} points at ${hex(target)} and would point at ${hex(points)}, and is not claimed.`,
      ANALYSE,
    )
  }

  /** Fields that no run holds are data: of a kind that data can hold, and clear of the runs. */
  checkData(): void {
    const runs = this.#claim.code()
    for (let n = 0; n < this.#seen.length; n++) {
      if (this.#seen[n] === 1) continue
      const field = this.#fields.get(n)
      if (KIND_ROWS[field.kind].anchor === 'next')
        this.#wrong(
          field,
          `a ${KIND_ROWS[field.kind].name} site lies outside the claimed code, where no instruction holds it.`,
        )
      else if (overlapsRun(runs, field))
        this.#wrong(field, 'a claimed field reaches from data into claimed code.')
    }
  }
}

/** Whether a run starts inside the field. Runs ascend by start. */
function overlapsRun(runs: readonly { readonly start: number }[], field: ClaimedField): boolean {
  let low = 0
  let high = runs.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (runs[middle].start <= field.offset) low = middle + 1
    else high = middle
  }
  return low < runs.length && runs[low].start < field.offset + field.width
}
