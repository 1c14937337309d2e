/**
 * What the reach fuzzer runs: one instruction with an address field that a far move may put out of its reach.
 * Every page, opcode and ModRM form is met, however rare it is in random bytes. What surrounds the
 * instruction is made in reach-state.ts.
 */
import { baseRegister, fillEffects, RegisterEffects } from '../../src/x86/effects.ts'
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
  'short',
  'hint',
  'absolute',
  'index',
  'base',
  'gather',
  'addr32',
  'immediate',
] as const
export type CaseClass = (typeof CLASSES)[number]

/**
 * How the operand is addressed: by rip, by a displacement alone, or beside an index or a base; with 67h: by
 * eip, beside what it cuts.
 */
export type Form = 'rip' | 'eip' | 'absolute' | 'index' | 'index32' | 'base' | 'base32'

/** An instruction whose field points nowhere yet. */
export interface Template {
  readonly bytes: Uint8Array
  /** Of the field. */
  readonly at: number
  readonly kind: 'pc8' | 'pc32' | 'eip32' | 'abs32' | 'abs32s'
  readonly caseClass: CaseClass
  /** What tells whether this CPU runs it: opcode, prefixes, group. */
  readonly key: string
  readonly instruction: Readonly<Instruction>
  /** Registers that the instruction reads or writes: a mask. */
  readonly used: number
  readonly segment: 'fs' | 'gs' | undefined
  readonly branch: 'call' | 'jump' | undefined
  /** Of an immediate: another instruction that does the same with the value in this register. */
  readonly reference?: (register: number) => readonly number[]
}

const WRITTEN_AS: Readonly<Record<Form, readonly (typeof FORMS)[number][]>> = {
  rip: ['[rip]'],
  eip: ['[rip]'],
  absolute: ['[sib no base]'],
  index: ['[sib no base]'],
  index32: ['[sib no base]'],
  base: ['[r+32]', '[sib+32]'],
  base32: ['[r+32]', '[sib+32]'],
}
const DECODED_AS: Readonly<Record<Form, readonly number[]>> = {
  rip: [Memory.rip],
  eip: [Memory.eip],
  absolute: [Memory.absolute],
  index: [Memory.index],
  index32: [Memory.index],
  base: [Memory.base],
  base32: [Memory.base],
}
const effects = new RegisterEffects()
const RSP = 4

/** ModRM.reg of far calls and jumps. */
const FAR_TRANSFERS = [3, 5]

/** A branch whose target is in itself. */
export const isDirect = ({ caseClass }: Template): boolean => caseClass === 'branch' || caseClass === 'short'

/** A far call or jump: its pointer has a selector. */
export const isFarTransfer = ({ map, opcode, encoding, modrm }: Instruction): boolean =>
  encoding === Encoding.legacy && map === 0 && opcode === 0xff && FAR_TRANSFERS.includes((modrm >> 3) & 7)

/**
 * Loads of segment registers, far transfers to where 16 bits lead, system instructions: no user program's, or no end.
 */
function isExcluded(instruction: Instruction): boolean {
  const { map, opcode, encoding, modrm, flow, prefixes } = instruction
  if (encoding !== Encoding.legacy) return false
  const reg = (modrm >> 3) & 7
  const is16 = (prefixes & Prefix.p66) !== 0
  if (map === 0) return opcode === 0x8e || (isFarTransfer(instruction) && is16) || flow === Flow.xbegin
  // A bit string as long as rsp says goes anywhere.
  const isEndless = isBitString(instruction) && reg === RSP && (prefixes & Prefix.rexR) === 0
  if (map === 1) return isEndless || [0x00, 0x01, 0xb2, 0xb4, 0xb5].includes(opcode)
  return false
}

const isBitString = ({ encoding, map, opcode }: Instruction): boolean =>
  encoding === Encoding.legacy && map === 1 && [0xa3, 0xab, 0xb3, 0xbb].includes(opcode)

/**
 * Forms with an absolute displacement that are refused, or whose result is the address itself (that is among
 * the immediates).
 */
function isExcludedAbsolute(instruction: Instruction, form: Form): boolean {
  const { map, opcode, encoding, flow, prefixes } = instruction
  if ((prefixes & (Prefix.fs | Prefix.gs)) !== 0) return true
  const isCut = (prefixes & Prefix.p67) !== 0 && form !== 'eip' && form !== 'absolute'
  // What the CPU cuts of a bit string's address is more than its base.
  if (isCut && (isGather(instruction) || isBitString(instruction) || flow !== Flow.next)) return true
  // The stack is where no displacement of 32 bits leads anywhere.
  if (baseRegister(instruction) === RSP) return true
  if (encoding !== Encoding.legacy || map !== 0) return map === 2 && opcode === 0xf8
  return opcode === 0x8d
}

/** Touches a cache line or nothing (0F 19 to 1B are nops where there is no MPX): no state changes, whatever it is. */
export function isHint({ encoding, map, opcode, modrm, prefixes }: Instruction): boolean {
  if (encoding !== Encoding.legacy || map !== 1) return false
  const reg = (modrm >> 3) & 7
  const flushes = opcode === 0xae && (reg === 7 || (reg === 6 && (prefixes & Prefix.p66) !== 0))
  return flushes || opcode === 0x0d || (opcode >= 0x18 && opcode <= 0x1f)
}

/** A vector of indices, as gathers and scatters have it. */
const isGather = ({ encoding, map, opcode }: Instruction): boolean =>
  map === 2 &&
  ((encoding === Encoding.vex && opcode >= 0x90 && opcode <= 0x93) ||
    (encoding === Encoding.evex &&
      ((opcode >= 0x90 && opcode <= 0x93) || (opcode >= 0xa0 && opcode <= 0xa3))))

function classOf(instruction: Instruction, form: Form, used: number): CaseClass {
  const { encoding, map, opcode, modrm, prefixes, flow } = instruction
  const reg = (modrm >> 3) & 7
  if (isHint(instruction)) return 'hint'
  if (isGather(instruction)) return 'gather'
  if (form === 'eip' || (prefixes & Prefix.p67) !== 0) return 'addr32'
  if (form === 'absolute' || form === 'index' || form === 'base') return form
  if (encoding === Encoding.evex) return 'avx512'
  if (encoding !== Encoding.legacy) return used === 0 ? 'avx' : (used & (1 << RSP)) !== 0 ? 'rsp' : 'bmi'
  if (map === 0) {
    if (flow !== Flow.next) return 'indirect'
    if (opcode === 0x8d) return 'lea'
    if (opcode === 0x8f || (opcode === 0xff && reg === 6)) return 'stack'
    if (opcode >= 0xd8 && opcode <= 0xdf) return 'x87'
  }
  if ((prefixes & Prefix.lock) !== 0) return 'lock'
  if ((used & (1 << RSP)) !== 0) return 'rsp'
  const multiplies = (opcode === 0xf6 || opcode === 0xf7) && reg >= 4
  const compares = map === 1 && (opcode === 0xb0 || opcode === 0xb1 || opcode === 0xc7)
  if ((map === 0 && multiplies) || compares) return 'implicit'
  return used === 0 && map > 0 ? 'sse' : 'integer'
}

const kindOf = (form: Form, { prefixes }: Instruction): Template['kind'] =>
  form === 'rip' ? 'pc32' : form === 'eip' ? 'eip32' : (prefixes & Prefix.p67) === 0 ? 'abs32s' : 'abs32'

/** What a template says of its instruction. */
export function templateOf(
  bytes: Uint8Array,
  at: number,
  kind: Template['kind'],
  caseClass: CaseClass | undefined,
  form: Form = 'rip',
): Template {
  const instruction = new Instruction()
  if (createTableDecoder(bytes).decode(0, instruction) !== bytes.length)
    throw new Error(`${Buffer.from(bytes).toString('hex')} is no instruction`)
  const { encoding, map, opcode, modrm, prefixes, flow } = instruction
  fillEffects(instruction, effects)
  const used = effects.reads | effects.writes
  const reg = (modrm >> 3) & 7
  const marks = prefixes & (Prefix.p66 | Prefix.f2 | Prefix.f3 | Prefix.w | Prefix.lock)
  const isGroup = encoding !== Encoding.evex || reg !== 0
  const isCall = flow === Flow.call || flow === Flow.indirectCall
  return {
    bytes,
    at,
    kind,
    caseClass: caseClass ?? classOf(instruction, form, used),
    key: `${encoding} ${map} ${opcode} ${marks} ${isGroup ? reg : ''}`,
    instruction,
    used,
    segment: (prefixes & Prefix.fs) !== 0 ? 'fs' : (prefixes & Prefix.gs) !== 0 ? 'gs' : undefined,
    branch: isCall ? 'call' : flow === Flow.next ? undefined : 'jump',
  }
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
  make(cell: number, form: Form, lock = false): Template | undefined {
    const next = this.#next
    const instruction = this.#instruction
    const written = WRITTEN_AS[form][next() % WRITTEN_AS[form].length]
    writeEncoding(cell * FORMS.length + FORMS.indexOf(written), next() % 8 === 0, next, this.#bytes, 0)
    // lock and the segments are rare in what was written.
    const r = lock ? 0 : next() & 15
    if (form === 'eip' || form === 'index32' || form === 'base32') this.#prefix(0x67)
    else if (r < 3) this.#prefix([0xf0, 0x65, 0x64][r])
    if (this.#decoder.decode(0, instruction) === 0) return undefined
    if (form === 'absolute' && instruction.memory === Memory.index) {
      this.#bytes[instruction.modrmOffset + 1] = 0x25
      this.#decoder.decode(0, instruction)
    }
    if (!DECODED_AS[form].includes(instruction.memory) || isExcluded(instruction)) return undefined
    if (instruction.displacementSize !== 4) return undefined
    if (form !== 'rip' && isExcludedAbsolute(instruction, form)) return undefined
    const bytes = this.#bytes.slice(0, instruction.length)
    return templateOf(bytes, instruction.displacementOffset, kindOf(form, instruction), undefined, form)
  }

  #prefix(byte: number): void {
    this.#bytes.copyWithin(1, 0, 16)
    this.#bytes[0] = byte
  }

  /** A direct call, jump or conditional jump of 32 bits, with what prefixes compilers give them. */
  branch(): Template {
    const next = this.#next
    const prefixes = [[], [], [], [0x3e], [0x2e], [0xf2], [0x48], [0x67]][next() & 7]
    const opcode = [[0xe8], [0xe9], [0x0f, 0x80 | (next() & 15)], [0x0f, 0x80 | (next() & 15)]][next() & 3]
    const bytes = Uint8Array.from([...prefixes, ...opcode, 0, 0, 0, 0])
    return templateOf(bytes, bytes.length - 4, 'pc32', 'branch')
  }

  /** A branch of 8 bits. */
  short(): Template {
    const next = this.#next
    const prefixes = [[], [], [], [0x3e], [0x2e], [0x48], [0x67], [0x67]][next() & 7]
    const opcode = [0x70 | (next() & 15), 0x70 | (next() & 15), 0xe0 | (next() & 3), 0xeb][next() & 3]
    const bytes = Uint8Array.from([...prefixes, opcode, 0])
    return templateOf(bytes, bytes.length - 1, 'pc8', 'short')
  }

  /** `mov` between the accumulator and a 32-bit address of its own. */
  moffs(): Template {
    const next = this.#next
    const prefixes = [[0x67], [0x67, 0x66], [0x67, 0x48], [0x48, 0x67], [0x66, 0x67, 0x2e]][next() % 5]
    const bytes = Uint8Array.from([...prefixes, 0xa0 | (next() & 3), 0, 0, 0, 0])
    return templateOf(bytes, bytes.length - 4, 'abs32', 'addr32')
  }

  /** A branch that this CPU may lack. */
  xbegin(): Template {
    return templateOf(Uint8Array.of(0xc7, 0xf8, 0, 0, 0, 0), 2, 'pc32', 'branch')
  }
}

/** Every page and opcode, as `make` wants them. */
export const CELLS: number = PAGES.length * 256
