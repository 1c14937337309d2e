/** analyze: unannotated bytes in, a relocation table out. */
import { hex } from '../core/address.ts'
import { hexBytes, viewOf } from '../core/bytes.ts'
import type { Problem } from '../core/errors.ts'
import { PROGRESS_STEP, type ProgressOptions, reportProgress } from '../core/progress.ts'
import { type BlobOptions, TableBuilder, toBlob } from '../table/builder.ts'
import { CODE_GIVEN } from '../table/site.ts'
import type { RelocationTable } from '../table/table.ts'
import { type Cpu, type DecoderKind, endsFlow, Flow, Instruction } from '../x86/instruction.ts'
import { createTableDecoder } from '../x86/scanner.ts'
import { Background } from './background.ts'
import { Candidates } from './candidates.ts'
import { mapCode } from './code-map.ts'
import { GotWatcher } from './got.ts'
import { checkHints, type Hints } from './hints.ts'
import { Judge } from './judge.ts'
import { LabelWatcher } from './label-operands.ts'
import { isTaken, Mark } from './marks.ts'
import { OperandCollector } from './operands.ts'
import { Places } from './places.ts'
import { addSelfRelative } from './self-relative.ts'
import { SliceWatcher } from './slices.ts'
import { Window } from './window.ts'

export interface AnalyzeOptions extends BlobOptions, ProgressOptions {
  readonly hints?: Hints | undefined
  /** Which decoder finds the instructions; both find the same. */
  readonly decoder?: DecoderKind | undefined
  /** Whose reading of 66-prefixed near branches: default `intel`. */
  readonly cpu?: Cpu | undefined
}

/** Warnings of one sort that are listed one by one; the rest is counted. */
const LISTED = 20

/**
 * Finds every field of `code` that holds an address which moves of the covered ranges could change. `table.problems` has
 * the warnings. `code` is not written. Throws `bad-argument`, `bad-hints`, `stopped`.
 */
export function analyze(code: Uint8Array, options: AnalyzeOptions): RelocationTable {
  const blob = toBlob(code, options)
  const hints = checkHints(options.hints, code.length, blob.base)
  const decoder = createTableDecoder(code, { cpu: options.cpu })
  {
    const window = new Window(blob)
    const map = mapCode(
      { code, span: blob.span, alignment: Number(blob.base & 15n), hints, decoder, window },
      options,
    )
    const builder = new TableBuilder(code, blob)
    const candidates = new Candidates()
    const background = new Background()
    const got = new GotWatcher(code)
    const labels = new LabelWatcher(code, builder)
    const slices = new SliceWatcher(code, builder)
    const operands = new OperandCollector(code, builder, window, candidates, background)
    const problems: Problem[] = [...hints.problems]
    const warn = (offset: number, length: number, kind: string, message: string, remedy: string): void => {
      problems.push({
        severity: 'warning',
        code: kind,
        offset,
        address: BigInt.asUintN(64, blob.base + BigInt(offset)),
        bytes: hexBytes(code, offset, offset + length),
        message,
        remedy,
      })
    }
    const instruction = new Instruction()
    let report = PROGRESS_STEP
    let lastReal = -1
    for (let run = 0; run < map.levels.length; run++) {
      const end = map.runs[2 * run + 1]
      for (let at = map.runs[2 * run]; at < end; at += instruction.length) {
        decoder.decode(at, instruction)
        operands.collect(instruction, map.levels[run])
        got.watch(instruction, map.levels[run])
        labels.watch(instruction, map.levels[run])
        slices.watch(instruction, map.levels[run])
        if (!isNop(instruction)) lastReal = at
        if (
          instruction.branchSize !== 0 &&
          (instruction.prefixes & 1) !== 0 &&
          instruction.flow !== Flow.xbegin
        )
          warn(
            at,
            instruction.length,
            'prefix-66-branch',
            'a near branch with a 66 prefix: Intel ignores the prefix, AMD truncates the target to 16 bits.',
            "Say which reading is meant with cpu: 'intel' or 'amd' (command: --cpu).",
          )
        if (at >= report) {
          reportProgress(options, at, code.length, 'operands')
          report = at + PROGRESS_STEP
        }
      }
    }
    if (lastReal >= 0 && map.runs[map.runs.length - 1] === code.length) {
      decoder.decode(lastReal, instruction)
      if (!endsFlow(instruction.flow) && instruction.flow !== Flow.int3 && instruction.flow !== Flow.halt)
        warn(
          lastReal,
          instruction.length,
          'falls-through',
          `execution can run past the end of the blob (offset ${hex(code.length)}), where nothing moves along.`,
          'End the blob with the branch that continues, or move what follows too.',
        )
    }
    for (let i = 0; i < map.data.length; i += 2)
      operands.collectPointers(map.data[i], map.data[i + 1], CODE_GIVEN)
    const places = new Places(code, blob.span, map.runs, decoder, map.marks, Mark.target)
    labels.finish({ decoder, marks: map.marks, outside: map.outside, places })
    slices.finish({ decoder, marks: map.marks, places, warn })
    new Judge({ candidates, background, places, window, view: viewOf(code), marks: map.marks, builder }).run()
    got.finish(builder)
    addSelfRelative(
      viewOf(code),
      map.data,
      Number(blob.base & 3n),
      map.outside,
      (offset) => isTaken(map.marks, offset, 4),
      CODE_GIVEN,
      builder,
    )
    return builder.finish(map.runs, limitProblems(problems))
  }
}

/** nop, int3 and multi-byte nops: padding behind code. */
const isNop = (instruction: Instruction): boolean =>
  (instruction.map === 0 && (instruction.opcode === 0x90 || instruction.opcode === 0xcc)) ||
  (instruction.map === 1 && instruction.opcode === 0x1f)

/** The first of each sort, and one line that counts the rest. */
function limitProblems(problems: readonly Problem[]): Problem[] {
  const counts = new Map<string, number>()
  const kept: Problem[] = []
  for (const problem of problems) {
    const count = (counts.get(problem.code) ?? 0) + 1
    counts.set(problem.code, count)
    if (count <= LISTED) kept.push(problem)
  }
  return kept.map((problem, i) => {
    const count = counts.get(problem.code)!
    const last = kept.findLastIndex((other) => other.code === problem.code) === i
    return last && count > LISTED
      ? { ...problem, message: `${problem.message} (and ${count - LISTED} more like it)` }
      : problem
  })
}
