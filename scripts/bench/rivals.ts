/**
 * What every machine has (iced), and what gcc makes of our own C where it is there, called in this process
 * through koffi.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as iced from 'iced-x86'
import type { Contestant } from './measure.ts'

/** Decodes a whole text with `decodeOut`; with `fields` it asks for each instruction's constant offsets. */
export function sweepWithIced(
  text: Uint8Array,
  fields: boolean,
): { count: number; sites: number; sum: number } {
  const decoder = new iced.Decoder(64, text, iced.DecoderOptions.None)
  const instruction = new iced.Instruction()
  let [count, sites, sum] = [0, 0, 0]
  while (decoder.canDecode) {
    const at = decoder.position
    decoder.decodeOut(instruction)
    if (instruction.code === iced.Code.INVALID) {
      decoder.position = at + 1
      continue
    }
    count++
    if (!fields) continue
    const offsets = decoder.getConstantOffsets(instruction)
    const kind = instruction.op0Kind
    const isBranch =
      kind === iced.OpKind.NearBranch64 ||
      kind === iced.OpKind.NearBranch16 ||
      kind === iced.OpKind.NearBranch32
    if (isBranch || instruction.isIpRelMemoryOperand) {
      const field = at + (isBranch ? offsets.immediateOffset : offsets.displacementOffset)
      sites++
      sum = Math.imul(sum ^ field, 0x0100_0193)
    }
    offsets.free()
  }
  instruction.free()
  decoder.free()
  return { count, sites, sum }
}

/** Moves one run of instructions with iced's BlockEncoder; the bytes as it encodes them. */
export function encodeWithIced(run: Uint8Array, from: bigint, to: bigint): Uint8Array {
  const decoder = new iced.Decoder(64, run, iced.DecoderOptions.None)
  decoder.ip = from
  const encoder = new iced.BlockEncoder(64, iced.BlockEncoderOptions.None)
  const instruction = new iced.Instruction()
  try {
    while (decoder.canDecode) {
      decoder.decodeOut(instruction)
      encoder.add(instruction)
    }
    return encoder.encode(to)
  } finally {
    instruction.free()
    encoder.free()
    decoder.free()
  }
}

type Native = (...values: (Uint8Array | Uint32Array | number | bigint)[]) => number | bigint

/**
 * Functions of a C file beside this one, or undefined where gcc, koffi or a library is missing. `prototypes`
 * are C declarations.
 */
export function loadNative(
  file: string,
  prototypes: readonly string[],
  libraries: readonly string[] = [],
): readonly Native[] | undefined {
  try {
    const koffi = createRequire(import.meta.url)('koffi') as {
      load(path: string): { func(prototype: string): Native }
    }
    const output = join(mkdtempSync(join(tmpdir(), 'x64-reloc-bench-')), 'rival.so')
    const source = join(import.meta.dirname, file)
    execFileSync('gcc', ['-O3', '-shared', '-fPIC', '-o', output, source, ...libraries], { stdio: 'ignore' })
    const library = koffi.load(output)
    return prototypes.map((prototype) => library.func(prototype))
  } catch {
    return undefined
  }
}

/** Decoders in C, where apt's libraries are installed with their headers. */
export function nativeDecoders(text: Uint8Array): Contestant[] {
  const decoders = [
    ['zydis', 'zydis.c', '-lZydis'],
    ['capstone', 'capstone.c', '-lcapstone'],
  ] as const
  return decoders.flatMap(([name, file, library]) => {
    const [sweep] = loadNative(file, ['uint64_t sweep(void*, size_t)'], [library]) ?? []
    return sweep === undefined ? [] : [{ name, run: () => String(sweep(text, text.length)) }]
  })
}
