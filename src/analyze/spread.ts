/**
 * Addresses that are spread over several instructions. Of the instructions that may take part nearly all give
 * a register a constant or a label, and mean nothing yet: those are known by their first bytes, and not
 * decoded.
 */
import type { TableBuilder } from '../table/builder.ts'
import { DIFF32U, DIFF64 } from '../table/kinds.ts'
import { Instruction, type InstructionDecoder } from '../x86/instruction.ts'
import type { CodeMap } from './code-map.ts'
import { GotWatcher } from './got.ts'
import { type LabelContext, LabelWatcher } from './label-operands.ts'
import { type SliceContext, SliceWatcher } from './slices.ts'
import { watchedOf } from './watched.ts'

type SpreadContext = LabelContext &
  Omit<SliceContext, 'ends' | 'watched'> &
  Pick<CodeMap, 'bits' | 'notable' | 'selfLabels'>

/** Adds the sites of spread addresses, and of differences in code that is position-independent by them. */
export function collectSpread(code: Uint8Array, builder: TableBuilder, context: SpreadContext): void {
  const { decoder, marks, bits, notable, selfLabels } = context
  const watched = watchedOf(code, notable.joins, builder.blob.covered)
  const got = selfLabels > 0 ? new GotWatcher(code) : undefined
  const labels = new LabelWatcher(code, builder)
  const slices = new SliceWatcher(code, builder)
  if (got === undefined) watchAll(code, decoder, watched, labels, slices)
  else watchWithGot(decoder, bits.all(), labels, slices, got)
  labels.finish(context)
  slices.finish({ ...context, ends: notable.ends, watched })
  got?.finish(builder, marks)
}

/** A loop of its own: the compiler replaces it on the stack, and is to know all that is in it by then. */
function watchAll(
  code: Uint8Array,
  decoder: InstructionDecoder,
  starts: Uint32Array,
  labels: LabelWatcher,
  slices: SliceWatcher,
): void {
  const instruction = new Instruction()
  for (let i = 0; i < starts.length; i++) {
    if (isPlain(code, starts[i], labels, slices)) continue
    decoder.decode(starts[i], instruction)
    labels.watch(instruction)
    slices.watch(instruction)
  }
}

function watchWithGot(
  decoder: InstructionDecoder,
  starts: readonly number[],
  labels: LabelWatcher,
  slices: SliceWatcher,
  got: GotWatcher,
): void {
  const instruction = new Instruction()
  for (const start of starts) {
    decoder.decode(start, instruction)
    got.watch(instruction)
    labels.watch(instruction)
    slices.watch(instruction)
  }
}

/** Whether the instruction at `start` gives a register a constant or a label; then that is all of it. */
function isPlain(code: Uint8Array, start: number, labels: LabelWatcher, slices: SliceWatcher): boolean {
  const first = code[start]
  const rex = (first & 0xf0) === 0x40 ? first : 0
  const at = rex === 0 ? start : start + 1
  const opcode = code[at]
  if ((opcode & 0xf8) === 0xb8) {
    const register = (opcode & 7) | ((rex & 1) << 3)
    labels.load(register, at + 1, (rex & 8) === 0 ? DIFF32U : DIFF64)
    slices.load(register, start)
    return true
  }
  const modrm = code[at + 1]
  if (opcode !== 0x8d || (modrm & 0xc7) !== 5) return false
  labels.loadLabel(((modrm >> 3) & 7) | ((rex & 4) << 1), start, at + 6)
  return true
}
