/**
 * Cases for the reach fuzzer: one instruction with a RIP-relative operand (or a displacement without base, or a direct branch) in a random full state, and
 * what surrounds it in memory.
 */
import { fillEffects, RegisterEffects } from '../../src/x86/effects.ts'
import { Encoding, Flow, Instruction, Memory, Prefix } from '../../src/x86/instruction.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'
import { FORMS, PAGES, writeEncoding } from './encodings.ts'

export const CLASSES = [
  'integer',
  'implicit',
  'rsp',
  'stack',
  'lock',
  'lea',
  'x87',
  'sse',
  'avx',
  'bmi',
  'avx512',
  'indirect',
  'branch',
  'absolute',
  'hint',
] as const
export type CaseClass = (typeof CLASSES)[number]

/** An instruction whose field points nowhere yet. */
export interface Template {
  readonly bytes: Uint8Array
  readonly at: number
  /** Of the field's end to the instruction's end. */
  readonly tail: number
  readonly caseClass: CaseClass
  /** What tells whether this CPU runs it: opcode, prefixes, group. */
  readonly key: string
  readonly opcode: number
  readonly map: number
  readonly encoding: number
  /** ModRM.reg, without its extension. */
  readonly reg: number
  /** The same with its extension. */
  readonly register: number
  readonly isByte: boolean
  readonly segment: 'fs' | 'gs' | undefined
  readonly branch: 'call' | 'jump' | undefined
}

const RIP_FORM = FORMS.indexOf('[rip]')
const SIB_FORM = FORMS.indexOf('[sib no base]')
const effects = new RegisterEffects()

/** Loads of segment registers, far transfers, system instructions: no user program's, or no end. */
function isExcluded({ map, opcode, encoding, modrm, flow }: Instruction): boolean {
  if (encoding !== Encoding.legacy) return false
  const reg = (modrm >> 3) & 7
  if (map === 0)
    return opcode === 0x8e || (opcode === 0xff && (reg === 3 || reg === 5)) || flow === Flow.xbegin
  if (map === 1) return [0x00, 0x01, 0xb2, 0xb4, 0xb5].includes(opcode)
  return false
}

function classOf(instruction: Instruction): CaseClass {
  const { encoding, map, opcode, modrm, prefixes, flow, memory } = instruction
  const reg = (modrm >> 3) & 7
  fillEffects(instruction, effects)
  const used = effects.reads | effects.writes
  if (memory !== Memory.rip) return 'absolute'
  if (encoding === Encoding.evex) return 'avx512'
  if (encoding !== Encoding.legacy) return used === 0 ? 'avx' : (used & 16) !== 0 ? 'rsp' : 'bmi'
  if (map === 0) {
    if (flow !== Flow.next) return 'indirect'
    if (opcode === 0x8d) return 'lea'
    if (opcode === 0x8f || (opcode === 0xff && reg === 6)) return 'stack'
    if (opcode >= 0xd8 && opcode <= 0xdf) return 'x87'
  }
  if (map === 1 && (opcode === 0x0d || opcode === 0x18 || (opcode >= 0x1c && opcode <= 0x1f))) return 'hint'
  if ((prefixes & Prefix.lock) !== 0) return 'lock'
  if ((used & 16) !== 0) return 'rsp'
  const multiplies = (opcode === 0xf6 || opcode === 0xf7) && reg >= 4
  const compares = map === 1 && (opcode === 0xb0 || opcode === 0xb1 || opcode === 0xc7)
  if ((map === 0 && multiplies) || compares) return 'implicit'
  return used === 0 && map > 0 ? 'sse' : 'integer'
}

/** Makes templates; `next` gives 32 random bits. */
export class TemplateMaker {
  readonly #bytes = new Uint8Array(32)
  readonly #decoder = createTableDecoder(this.#bytes)
  readonly #instruction = new Instruction()
  readonly #next: () => number

  constructor(next: () => number) {
    this.#next = next
  }

  /** An encoding of the given page and opcode; undefined where the random rest made it none. */
  make(cell: number, absolute: boolean, lock = false): Template | undefined {
    const next = this.#next
    const instruction = this.#instruction
    const form = absolute ? SIB_FORM : RIP_FORM
    writeEncoding(cell * FORMS.length + form, next() % 8 === 0, next, this.#bytes, 0)
    // lock and the segments are rare in what was written.
    const r = lock ? 0 : next() & 15
    if (r < 3) {
      this.#bytes.copyWithin(1, 0, 16)
      this.#bytes[0] = [0xf0, 0x65, 0x64][r]
    }
    if (this.#decoder.decode(0, instruction) === 0 || isExcluded(instruction)) return undefined
    if (absolute) {
      if (instruction.memory !== Memory.absolute && instruction.memory !== Memory.index) return undefined
      const other = Prefix.p67 | Prefix.fs | Prefix.gs
      // The address itself is not the same at both places.
      if (instruction.map === 0 && instruction.opcode === 0x8d) return undefined
      if ((instruction.prefixes & other) !== 0 || instruction.memory === Memory.index) return undefined
    } else if (instruction.memory !== Memory.rip) return undefined
    return this.#template(instruction)
  }

  #template(instruction: Instruction): Template {
    const { length, displacementOffset, encoding, map, opcode, modrm, prefixes, flow } = instruction
    const reg = (modrm >> 3) & 7
    const isGroup = encoding !== Encoding.evex || reg !== 0
    return {
      bytes: this.#bytes.slice(0, length),
      at: displacementOffset,
      tail: length - displacementOffset - 4,
      caseClass: classOf(instruction),
      key: `${encoding} ${map} ${opcode} ${prefixes & (Prefix.p66 | Prefix.f2 | Prefix.f3 | Prefix.w | Prefix.lock)} ${isGroup ? reg : ''} ${instruction.memory}`,
      opcode,
      map,
      encoding,
      reg,
      register: reg | ((prefixes & Prefix.rexR) === 0 ? 0 : 8),
      isByte: (opcode & 1) === 0,
      segment: (prefixes & Prefix.fs) !== 0 ? 'fs' : (prefixes & Prefix.gs) !== 0 ? 'gs' : undefined,
      branch: flow === Flow.indirectCall ? 'call' : flow === Flow.indirectJump ? 'jump' : undefined,
    }
  }

  /** A direct call, jump or conditional jump of 32 bits, with what prefixes compilers give them. */
  branch(): Template {
    const next = this.#next
    const prefixes = [[], [], [], [0x3e], [0x2e], [0xf2], [0x48], [0x67]][next() & 7]
    const opcode = [[0xe8], [0xe9], [0x0f, 0x80 | (next() & 15)], [0x0f, 0x80 | (next() & 15)]][next() & 3]
    const bytes = Uint8Array.from([...prefixes, ...opcode, 0, 0, 0, 0])
    return {
      bytes,
      at: bytes.length - 4,
      tail: 0,
      caseClass: 'branch',
      key: `branch ${opcode} ${prefixes}`,
      opcode: opcode[opcode.length - 1],
      map: opcode.length - 1,
      encoding: Encoding.legacy,
      reg: 0,
      register: 0,
      isByte: false,
      segment: undefined,
      branch: opcode[0] === 0xe8 ? 'call' : 'jump',
    }
  }
}

/** Every page and opcode, as `make` wants them. */
export const CELLS: number = PAGES.length * 256
