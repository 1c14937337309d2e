/** analyze: unannotated bytes in, a relocation table out. */
import { hex, wrapAddress } from '../core/address.ts'
import { hexBytes, viewOf } from '../core/bytes.ts'
import type { Problem } from '../core/errors.ts'
import { checkedLater, optionsRule } from '../core/options.ts'
import { PROGRESS_RULES, PROGRESS_STEP, type ProgressOptions, reportProgress } from '../core/progress.ts'
import { type Blob, type BlobOptions, TableBuilder, toBlob } from '../table/builder.ts'
import { PC8, PC32 } from '../table/kinds.ts'
import { BLOB_RULES } from '../table/rules.ts'
import { ADDRESS_FLOW, ADDRESS_NONE } from '../table/site.ts'
import type { RelocationTable } from '../table/table.ts'
import { createIcedDecoder } from '../x86/iced.ts'
import {
  type Cpu,
  DECODING_RULES,
  type DecoderKind,
  endsFlow,
  Flow,
  Instruction,
  type InstructionDecoder,
  Prefix,
} from '../x86/instruction.ts'
import { Outside } from '../x86/notable-rows.ts'
import { createLayoutDecoder, createTableDecoder } from '../x86/scanner.ts'
import { relativeTarget } from '../x86/target.ts'
import { Background } from './background.ts'
import { Candidates } from './candidates.ts'
import { CodeEvidence } from './code-evidence.ts'
import { type CodeMap, mapCode } from './code-map.ts'
import { addExceptionTables, findFrames, findLanguageData, hintsOf } from './frames.ts'
import { type CheckedHints, checkHints, type Hints } from './hints.ts'
import { Judge } from './judge.ts'
import { addJumpTables } from './jump-tables.ts'
import { isTaken, take } from './marks.ts'
import { OperandCollector } from './operands.ts'
import { isPadding, Places } from './places.ts'
import { limitProblems } from './problems.ts'
import { addSelfRelative } from './self-relative.ts'
import { collectSpread } from './spread.ts'
import { Window } from './window.ts'

export interface AnalyzeOptions extends BlobOptions, ProgressOptions {
  readonly hints?: Hints | undefined
  /** Which decoder finds the instructions; both find the same. */
  readonly decoder?: DecoderKind | undefined
  /** Whose reading of 66-prefixed near branches: default `intel`. */
  readonly cpu?: Cpu | undefined
}

const checkOptions = optionsRule<AnalyzeOptions>('analyze', {
  ...BLOB_RULES,
  hints: checkedLater,
  ...DECODING_RULES,
  ...PROGRESS_RULES,
})

/**
 * Finds every field of `code` that holds an address which moves of the covered ranges could change.
 * `table.problems` has the warnings. `code` is not written. Throws `bad-argument`, `bad-hints`, `stopped`.
 */
export function analyze(code: Uint8Array, options: AnalyzeOptions): RelocationTable {
  return withAnalysis(code, options, ({ table }) => table)
}

/** What an analysis knows when it is done. */
export interface Findings {
  readonly code: Uint8Array
  readonly table: RelocationTable
  /** All that was warned of; the table has the first of each sort. */
  readonly problems: readonly Problem[]
  readonly map: CodeMap
  readonly places: Places
  readonly judge: Judge
  readonly window: Window
  readonly view: DataView
  readonly decoder: InstructionDecoder
  readonly evidence: CodeEvidence
}

/** Analyses `code` as `analyze` does, and hands what it found to `use`; none of it may be used later. */
export function withAnalysis<T>(code: Uint8Array, options: AnalyzeOptions, use: (found: Findings) => T): T {
  const analysis = new Analysis(code, checkOptions(options))
  try {
    return use(analysis.run())
  } finally {
    analysis.dispose()
  }
}

/** The bytes from the first operand field that can hold an address to the last; none: an empty range. */
function fieldsOf(instruction: Instruction): { readonly start: number; readonly end: number } {
  const { offset, displacementSize, immediateSize, branchSize } = instruction
  const starts: number[] = []
  const ends: number[] = []
  const add = (at: number, size: number, least: number): void => {
    if (size < least) return
    starts.push(offset + at)
    ends.push(offset + at + size)
  }
  add(instruction.branchOffset, branchSize, 1)
  add(instruction.displacementOffset, displacementSize, 4)
  add(instruction.immediateOffset, immediateSize, 4)
  return starts.length === 0 ? { start: 0, end: 0 } : { start: Math.min(...starts), end: Math.max(...ends) }
}

/** Which bytes of an encoding would be an operand that can hold an address. */
function operandText(instruction: Instruction): string {
  const { start, end } = fieldsOf(instruction)
  if (start === end) return ''
  return `, though their layout is known, with an operand at offset ${hex(start)} (${end - start} bytes)`
}

class Analysis {
  readonly #code: Uint8Array
  readonly #options: AnalyzeOptions
  readonly #blob: Blob
  readonly #decoder: InstructionDecoder & { dispose?(): void }
  readonly #window: Window
  readonly #builder: TableBuilder
  readonly #candidates = new Candidates()
  readonly #background = new Background()
  readonly #problems: Problem[] = []

  constructor(code: Uint8Array, options: AnalyzeOptions) {
    this.#code = code
    this.#options = options
    this.#blob = toBlob(code, options)
    const { cpu } = options
    const create = options.decoder === 'iced' ? createIcedDecoder : createTableDecoder
    this.#decoder = create(code, { cpu })
    this.#window = new Window(this.#blob)
    this.#builder = new TableBuilder(code, this.#blob)
  }

  dispose(): void {
    this.#decoder.dispose?.()
  }

  run(): Findings {
    const code = this.#code
    const { base } = this.#blob
    const frames = findFrames(code, base)
    const hints = hintsOf(frames, checkHints(this.#options.hints, code.length, base))
    this.#problems.push(...hints.problems)
    const { span } = this.#blob
    const decoder = this.#decoder
    const alignment = Number(this.#blob.base & 15n)
    const map = mapCode(
      {
        code,
        span,
        alignment,
        hints,
        decoder,
        window: this.#window,
        cpu: this.#options.cpu,
        kind: this.#options.decoder,
      },
      this.#options,
    )
    this.#collect(map)
    this.#checkEnd(map)
    this.#checkCode(map)
    this.#checkRejected(map)
    const places = new Places(code, span, map, decoder)
    const view = viewOf(code)
    addJumpTables(map.tables, view, this.#window, map.marks, this.#builder)
    const exceptions = [...frames, ...findLanguageData(code, map.data, base)]
    addExceptionTables(exceptions, this.#window, map.marks, this.#builder)
    this.#collectSpread(map, places)
    const judge = new Judge({
      candidates: this.#candidates,
      background: this.#background,
      places,
      window: this.#window,
      view,
      marks: map.marks,
      builder: this.#builder,
    })
    judge.run()
    const taken = (offset: number): boolean => isTaken(map.marks, offset, 4)
    addSelfRelative(view, map.data, alignment & 3, map.outside, taken, this.#builder)
    const evidence = this.#evidence(hints, map, places)
    const problems = this.#problems
    const table = this.#builder.finish(map.runs, limitProblems(problems), evidence)
    return { code, table, problems, map, places, judge, window: this.#window, view, decoder, evidence }
  }

  /** What is certain code: from the entries, or from the first byte where that is code and nobody told better. */
  #evidence(hints: CheckedHints, map: CodeMap, places: Places): CodeEvidence {
    return new CodeEvidence(hints.ranged, {
      code: this.#code,
      map,
      decoder: this.#decoder,
      places,
      window: this.#window,
      entries: hints.entries.length > 0 ? hints.entries : [0],
      pointers: this.#builder.pointers(ADDRESS_FLOW),
    })
  }

  /** Sites of the instructions, candidates of instructions and data. */
  #collect(map: CodeMap): void {
    const operands = new OperandCollector(
      this.#code,
      this.#builder,
      this.#window,
      this.#candidates,
      this.#background,
    )
    const instruction = new Instruction()
    let report = PROGRESS_STEP
    const { outside } = map.notable
    let row = 0
    for (const at of map.notable.operands.starts) {
      // In order, so that nothing has to be sorted.
      row = this.#collectOutside(outside, row, at)
      this.#decoder.decode(at, instruction)
      operands.collect(instruction)
      if (instruction.branchSize !== 0) this.#checkPrefix(instruction)
      if (at < report) continue
      reportProgress(this.#options, at, this.#code.length, 'operands')
      report = at + PROGRESS_STEP
    }
    this.#collectOutside(outside, row, this.#code.length)
    for (const at of map.shared) this.#collectShared(map, at, operands)
    for (let i = 0; i < map.data.length; i += 2) operands.collectPointers(map.data[i], map.data[i + 1])
  }

  /**
   * Sites of the relative operands that leave the moved range, from row `from` up to offset `end`, but for
   * those that are left to the decoder.
   */
  #collectOutside({ starts, distances, fields, shapes, count }: Outside, from: number, end: number): number {
    let row = from
    for (; row < count && starts[row] < end; row++) {
      if (fields[row] === 0) continue
      const shape = shapes[row]
      const isLea = (shape & Outside.lea) !== 0
      const kind = (shape & Outside.size) === 1 ? PC8 : PC32
      const tail = (shape >> Outside.tailShift) & Outside.tailMask
      this.#builder.addRelative(fields[row], kind, distances[row], ADDRESS_NONE, tail, isLea)
    }
    return row
  }

  /**
   * Sites of an instruction that shares bytes with others, unless its operand lies in theirs: then a move
   * would change them.
   */
  #collectShared({ bits }: CodeMap, at: number, operands: OperandCollector): void {
    const instruction = new Instruction()
    const length = this.#decoder.decode(at, instruction)
    const { start, end } = fieldsOf(instruction)
    const target = relativeTarget(viewOf(this.#code), instruction)
    if (start === end || (target !== undefined && target >= 0 && target < this.#blob.span)) return
    const other = new Instruction()
    for (let near = Math.max(0, at - 14); near < end; near++) {
      if (!bits.has(near) || near + this.#decoder.decode(near, other) <= start) continue
      const theirs = fieldsOf(other)
      // A prefix is left out: it is the same operand.
      if (theirs.start === start && theirs.end === end && near + other.length === at + length) return
      this.#warn(
        at,
        length,
        'shared-field',
        `a branch leads here, and the operand lies in the instruction at offset ${hex(near)}, which a new value would change.`,
        'It is not moved; leave such code where it is.',
      )
      return
    }
    operands.collect(instruction)
  }

  /**
   * Addresses that no instruction holds alone. In code that takes its own address 64-bit constants may be
   * differences: the large model.
   */
  #collectSpread(map: CodeMap, places: Places): void {
    collectSpread(this.#code, this.#builder, {
      ...map,
      decoder: this.#decoder,
      window: this.#window,
      places,
      warn: (...problem) => this.#warn(...problem),
    })
  }

  #checkPrefix(instruction: Instruction): void {
    if (this.#options.cpu !== undefined) return
    if ((instruction.prefixes & Prefix.p66) === 0 || instruction.flow === Flow.xbegin) return
    this.#warn(
      instruction.offset,
      instruction.length,
      'prefix-66-branch',
      'a near branch with a 66 prefix: Intel ignores the prefix, AMD truncates the target to 16 bits.',
      "Say which reading is meant with cpu: 'intel' or 'amd' (command: --cpu).",
    )
  }

  /** Warns of what given code runs into and is no instruction, and keeps everybody from writing there. */
  #checkRejected({ rejected, marks }: CodeMap): void {
    const layouts = createLayoutDecoder(this.#code, { cpu: this.#options.cpu })
    const instruction = new Instruction()
    for (const { start, end } of rejected) {
      const known = layouts.decode(start, instruction) > 0
      if (known) take(marks, start, end - start)
      this.#warn(
        start,
        end - start,
        'rejected-encoding',
        `the code runs into bytes that are no instruction of a known processor${known ? operandText(instruction) : ''}: they were left as they are.`,
        'If a processor runs them, say what their operand holds (`sites`); if they are data, say so (`ranges`).',
      )
    }
  }

  /** Warns where nothing reads as code, though nobody said that it is data. */
  #checkCode({ runs, rejected }: CodeMap): void {
    const { length } = this.#code
    if (runs.length > 0 || rejected.length > 0 || length === 0 || this.#options.hints?.ranges !== undefined)
      return
    this.#warn(
      0,
      Math.min(length, 8),
      'no-code',
      'nothing here reads as x86-64 code: all of it is taken for data.',
      'Check that these are the bytes that were meant, or say with hints which ranges are code.',
    )
  }

  /** Warns where execution can run past the last byte. */
  #checkEnd({ bits, runs }: CodeMap): void {
    const { length } = this.#code
    if (runs.length === 0 || runs[runs.length - 1] !== length) return
    const instruction = new Instruction()
    let at = bits.lastUpTo(length - 1)
    for (; at >= 0; at = bits.lastUpTo(at - 1)) {
      this.#decoder.decode(at, instruction)
      if (!isPadding(instruction)) break
    }
    if (
      at < 0 ||
      endsFlow(instruction.flow) ||
      instruction.flow === Flow.int3 ||
      instruction.flow === Flow.halt
    )
      return
    this.#warn(
      instruction.offset,
      instruction.length,
      'falls-through',
      `execution can run past the end of the blob (offset ${hex(length)}), where nothing moves along.`,
      'End the blob with the branch that continues, or move what follows too.',
    )
  }

  #warn(offset: number, length: number, code: string, message: string, remedy: string): void {
    const address = wrapAddress(this.#blob.base + BigInt(offset))
    const bytes = hexBytes(this.#code, offset, offset + length)
    this.#problems.push({ severity: 'warning', code, offset, address, bytes, message, remedy })
  }
}
