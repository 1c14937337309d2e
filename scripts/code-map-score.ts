/**
 * Code and data as the analysis tells them apart, against what a file says itself: `npx tsx
 * scripts/code-map-score.ts FILE [--blind] [--decoder iced|tables]`. Needs objdump. Prints one JSON object.
 *
 * The loaded image is analysed bare, without the file's word on what is code. Truth: functions by .eh_frame,
 * data by the section table, instruction starts by objdump, compared where .eh_frame has functions. `--blind`
 * zeroes .eh_frame first, since the analysis reads it.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { withAnalysis } from '../src/analyze/analyze.ts'
import { wrapAddress } from '../src/core/address.ts'
import { viewOf } from '../src/core/bytes.ts'
import { frameEntries } from '../src/core/unwind.ts'
import { blobFromElf, type ElfBlob } from '../src/elf/blob.ts'
import { type ElfFile, readElf } from '../src/elf/file.ts'
import { hasBytes, isCode, isLoaded, type Section } from '../src/elf/sections.ts'
import type { DecoderKind } from '../src/x86/instruction.ts'

/** What a byte of the image is. */
const [UNKNOWN, CODE, DATA] = [0, 1, 2]

/** The bytes of sections and functions as the file says them. */
function truthOf(elf: ElfFile, image: ElfBlob): Uint8Array {
  const truth = new Uint8Array(image.bytes.length)
  const fill = (start: bigint, end: bigint, what: number): void => {
    truth.fill(what, Number(start - image.base), Number(end - image.base))
  }
  for (const section of elf.sections.filter((one) => isLoaded(one) && hasBytes(one)))
    if (!isCode(section)) fill(section.address, section.address + BigInt(section.size), DATA)
  for (const { start, end } of functionsOf(elf, image)) fill(start, end, CODE)
  return truth
}

/** What .eh_frame says of functions. */
function functionsOf(elf: ElfFile, image: ElfBlob): { readonly start: bigint; readonly end: bigint }[] {
  const frames = elf.sections.find(({ name }) => name === '.eh_frame')
  if (frames === undefined) throw new Error('There is no .eh_frame in this file.')
  const { start, end } = placeOf(frames, image)
  const entries = frameEntries(viewOf(image.bytes), start, end, wrapAddress(frames.address))
  return [...entries].flatMap(({ range }) => (range === undefined ? [] : [range]))
}

function placeOf(
  { address, size }: Section,
  { base }: ElfBlob,
): { readonly start: number; readonly end: number } {
  const start = Number(address - base)
  return { start, end: start + Number(size) }
}

/** Offsets in the image where objdump sees instructions, as flags. */
async function objdumpStarts(path: string, image: ElfBlob): Promise<Uint8Array> {
  const starts = new Uint8Array(image.bytes.length)
  const child = spawn('objdump', ['-d', '-w', '--no-show-raw-insn', path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const match = /^ *([0-9a-f]+):\t(?!\(bad\))/.exec(line)
    if (match !== null) starts[Number(BigInt(`0x${match[1]}`) - image.base)] = 1
  }
  return starts
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { blind: { type: 'boolean' }, decoder: { type: 'string' } },
  })
  const [path] = positionals
  if (path === undefined) throw new Error('usage: code-map-score.ts FILE [--blind] [--decoder iced|tables]')
  const elf = readElf(new Uint8Array(readFileSync(path)))
  const image = blobFromElf(elf, { image: true })
  const truth = truthOf(elf, image)
  const theirs = await objdumpStarts(path, image)
  const code = image.bytes.slice()
  if (values.blind === true)
    for (const section of elf.sections.filter(({ name }) => name.startsWith('.eh_frame'))) {
      const { start, end } = placeOf(section, image)
      code.fill(0, start, end)
    }
  const started = performance.now()
  const options = { base: image.base, span: image.span, decoder: values.decoder as DecoderKind | undefined }
  const ours = withAnalysis(code, options, ({ map, evidence }) => ({
    starts: map.bits.all(),
    runs: map.runs.slice(),
    flow: map.bits.all().reduce((sum, start) => sum + (evidence.reach.has(start) ? 1 : 0), 0),
  }))
  const seconds = (performance.now() - started) / 1000
  const isCodeByUs = new Uint8Array(code.length)
  for (let i = 0; i < ours.runs.length; i += 2) isCodeByUs.fill(1, ours.runs[i], ours.runs[i + 1])
  const isStart = new Uint8Array(code.length)
  for (const start of ours.starts) isStart[start] = 1
  const count = (test: (offset: number) => boolean): number => {
    let sum = 0
    for (let i = 0; i < code.length; i++) if (test(i)) sum++
    return sum
  }
  const firsts = (test: (offset: number) => boolean): string[] => {
    const found: string[] = []
    for (let i = 0; i < code.length && found.length < 8; i++)
      if (test(i) && (i === 0 || !test(i - 1))) found.push(`0x${(image.base + BigInt(i)).toString(16)}`)
    return found
  }
  const lost = (i: number): boolean => truth[i] === CODE && isCodeByUs[i] === 0
  const invented = (i: number): boolean => truth[i] === DATA && isCodeByUs[i] === 1
  const missed = (i: number): boolean => truth[i] === CODE && theirs[i] === 1 && isStart[i] === 0
  const extra = (i: number): boolean => truth[i] === CODE && theirs[i] === 0 && isStart[i] === 1
  console.log(
    JSON.stringify({
      file: path,
      blind: values.blind === true,
      seconds: Number(seconds.toFixed(2)),
      bytes: {
        image: code.length,
        code: count((i) => truth[i] === CODE),
        data: count((i) => truth[i] === DATA),
        codeCalledData: count(lost),
        dataCalledCode: count(invented),
        unknown: count((i) => truth[i] === UNKNOWN),
      },
      instructions: {
        objdump: count((i) => truth[i] === CODE && theirs[i] === 1),
        missed: count(missed),
        extra: count(extra),
        byFlow: ours.flow,
      },
      first: {
        codeCalledData: firsts(lost),
        dataCalledCode: firsts(invented),
        missed: firsts(missed),
        extra: firsts(extra),
      },
    }),
  )
}

await main()
