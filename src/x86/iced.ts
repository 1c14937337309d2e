/**
 * iced-x86, the reference decoder, behind one door.
 *
 * Its npm build is WebAssembly for Node: loading costs 50 to 100 ms, so that happens on first use, and none of
 * its objects is collected, so each one made here is freed by `dispose` or at once.
 */
import type * as Iced from 'iced-x86'
import { RelocError } from '../core/errors.ts'
import { loadPackage } from '../core/package.ts'
import { fillIdentity } from './identity.ts'
import {
  type Cpu,
  Flow,
  type Instruction,
  type InstructionDecoder,
  MAX_LENGTH,
  Memory,
} from './instruction.ts'

let loaded: typeof Iced | undefined

let load = (): typeof Iced => loadPackage('iced-x86') as typeof Iced

/** @internal The package itself, for this room. Throws `unsupported` where it cannot be had. */
export const loadIced = (): typeof Iced => (loaded ??= loadOrSay())

function loadOrSay(): typeof Iced {
  try {
    return load()
  } catch (error) {
    // What Node would say holds the whole line of source: of a bundle, all of it.
    throw new RelocError(
      'unsupported',
      `iced-x86 cannot be loaded (${String(error).split('\n')[0]}): it needs Node, WebAssembly and memory for it, and has to be installed where this runs (a bundle does not hold it). Give it these, or go without verification (\`verify: false\`, --no-verify).`,
    )
  }
}

/** @internal Says where else the package comes from. */
export function loadIcedBy(loader: () => object): void {
  load = () => loader() as typeof Iced
}

/**
 * What the instructions of each code of iced (`Code`) have for a branch, filled as they are met: 0 is not known yet.
 */
const branchForms = new Uint8Array(1 << 13)
const NO_BRANCH = 1
const BRANCH = 2
const BRANCH_16 = 3

/** iced's code (`Code.INVALID`) of bytes that are no instruction. */
const INVALID = 0

/** No shorter instruction has a RIP- or EIP-relative operand: opcode, ModRM, disp32. */
const SHORTEST_IP_RELATIVE = 6

/** How a decoder reads code that the makers decode differently. */
export interface DecoderOptions {
  /** Default `intel`. */
  readonly cpu?: Cpu | undefined
}

/** Where the code is; only addresses that the cursor computes depend on it. */
export interface IcedCursorOptions extends DecoderOptions {
  /** Address of byte 0, default 0. */
  readonly base?: bigint | undefined
}

interface Fields {
  displacementOffset: number
  displacementSize: number
  immediateOffset: number
  immediateSize: number
  immediate2Offset: number
  immediate2Size: number
}

/**
 * Walks code with iced and says where the constants of each instruction are and what its relative field points
 * at. Offsets of fields count from the instruction's first byte; a size of 0 means: not there.
 */
export class IcedCursor {
  /** Of the last instruction: bytes from the start of the code. */
  offset = 0
  /** 0: no instruction. */
  length = 0
  /** Near branch or xbegin. */
  isBranch = false
  /** A near branch whose target is truncated to 16 bits. */
  isBranch16 = false

  /** Where the constants are; asked for when one is first needed, for it takes longer than to decode. */
  readonly #fields: Fields = {
    displacementOffset: 0,
    displacementSize: 0,
    immediateOffset: 0,
    immediateSize: 0,
    immediate2Offset: 0,
    immediate2Size: 0,
  }
  #hasFields = false
  readonly #iced: typeof Iced
  readonly #base: bigint
  readonly #decoder: Iced.Decoder
  readonly #instruction: Iced.Instruction
  /** Where `#decoder` stands; -1 after bytes that are no instruction. */
  #position = 0

  constructor(code: Uint8Array, { cpu = 'intel', base = 0n }: IcedCursorOptions = {}) {
    const iced = loadIced()
    this.#iced = iced
    this.#base = base
    this.#decoder = new iced.Decoder(
      64,
      code,
      cpu === 'amd' ? iced.DecoderOptions.AMD : iced.DecoderOptions.None,
    )
    this.#decoder.ip = base
    this.#instruction = new iced.Instruction()
  }

  /** Decodes at `offset` (0 to the code's length) and returns the length, 0 where there is no instruction. */
  decode(offset: number): number {
    const decoder = this.#decoder
    const instruction = this.#instruction
    this.offset = offset
    if (offset !== this.#position) {
      decoder.position = offset
      decoder.ip = this.#base + BigInt(offset)
    }
    decoder.decodeOut(instruction)
    this.#hasFields = false
    // Each question to iced is a call; this loop is most of what verification costs.
    const code: number = instruction.code
    if (code === INVALID) {
      this.#position = -1
      return (this.length = 0)
    }
    this.length = instruction.length
    this.#position = offset + this.length
    const form = branchForms[code] || this.#learn(code)
    this.isBranch = form !== NO_BRANCH
    this.isBranch16 = form === BRANCH_16
    return this.length
  }

  /** A near branch is the first operand of all instructions of a code, or of none. */
  #learn(code: number): number {
    const { NearBranch16, NearBranch64 } = this.#iced.OpKind
    const kind = this.#instruction.op0Kind
    return (branchForms[code] =
      kind === NearBranch16 ? BRANCH_16 : kind === NearBranch64 ? BRANCH : NO_BRANCH)
  }

  #layout(): Fields {
    const fields = this.#fields
    if (this.#hasFields) return fields
    const constants = this.#decoder.getConstantOffsets(this.#instruction)
    fields.displacementOffset = constants.displacementOffset
    fields.displacementSize = constants.displacementSize
    fields.immediateOffset = constants.immediateOffset
    fields.immediateSize = constants.immediateSize
    fields.immediate2Offset = constants.immediateOffset2
    fields.immediate2Size = constants.immediateSize2
    constants.free()
    this.#hasFields = true
    return fields
  }

  get displacementOffset(): number {
    return this.#layout().displacementOffset
  }

  get displacementSize(): number {
    return this.#layout().displacementSize
  }

  /** Of an immediate operand, or of the relative field of a branch (then `isBranch`). */
  get immediateOffset(): number {
    return this.#layout().immediateOffset
  }

  get immediateSize(): number {
    return this.#layout().immediateSize
  }

  get immediate2Offset(): number {
    return this.#layout().immediate2Offset
  }

  get immediate2Size(): number {
    return this.#layout().immediate2Size
  }

  /** iced's record of the last instruction; the next `decode` overwrites it, `dispose` frees it. */
  get instruction(): Iced.Instruction {
    return this.#instruction
  }

  /** The memory operand is RIP- or EIP-relative. */
  get isIpRelative(): boolean {
    return this.length >= SHORTEST_IP_RELATIVE && this.#instruction.isIpRelMemoryOperand
  }

  /** The memory operand is EIP-relative: its address wraps at 2^32. */
  get isEipRelative(): boolean {
    return this.#instruction.memoryBase === this.#iced.Register.EIP && this.isIpRelative
  }

  get isLea(): boolean {
    return this.#instruction.mnemonic === this.#iced.Mnemonic.Lea
  }

  /** The memory operand is in fs or gs: its address is an offset into that segment. A `lea` looks at no segment. */
  get inSegment(): boolean {
    const { memorySegment } = this.#instruction
    const { Register } = this.#iced
    return (memorySegment === Register.FS || memorySegment === Register.GS) && !this.isLea
  }

  /** The displacement is sign-extended to 64 bits (without a 67h prefix), not zero-extended. */
  get displacementIsSignExtended(): boolean {
    return this.#instruction.memoryDisplSize === 8
  }

  /** The immediate is 32 bits, sign-extended to a 64-bit operand. */
  get immediateIsSignExtended(): boolean {
    const instruction = this.#instruction
    for (let i = 0; i < instruction.opCount; i++)
      if (instruction.opKind(i) === this.#iced.OpKind.Immediate32to64) return true
    return false
  }

  /** The address that the branch field or the RIP- or EIP-relative displacement points at; undefined without one. */
  get target(): bigint | undefined {
    if (this.isBranch) return this.#instruction.nearBranchTarget
    return this.isIpRelative ? this.#instruction.ipRelMemoryAddress : undefined
  }

  /** The low 32 bits of `target`, which for a branch take no bigint; undefined without one. */
  get targetLow(): number | undefined {
    if (this.isBranch) return this.#instruction.nearBranch32
    return this.isIpRelative ? Number(BigInt.asUintN(32, this.#instruction.memoryDisplacement)) : undefined
  }

  /** Frees iced's objects; the cursor cannot be used after it. */
  dispose(): void {
    this.#decoder.free()
    this.#instruction.free()
  }
}

/** iced as an {@link InstructionDecoder}: everything but the opcode's identity is what iced says. */
export interface IcedDecoder extends InstructionDecoder {
  /** Frees iced's objects; the decoder cannot be used after it. */
  dispose(): void
}

/** A decoder of `code` on iced. `code` is copied: later changes are not seen. Call `dispose` after use. */
export function createIcedDecoder(code: Uint8Array, options: DecoderOptions = {}): IcedDecoder {
  const cursor = new IcedCursor(code, options)
  return {
    decode(offset: number, out: Instruction): number {
      out.offset = offset
      out.length = cursor.decode(offset)
      if (out.length > 0) {
        fillLayout(cursor, out)
        fillIdentity(code, out)
      }
      return out.length
    },
    dispose: () => cursor.dispose(),
  }
}

function fillLayout(cursor: IcedCursor, out: Instruction): void {
  const { OpKind } = loadIced()
  const instruction = cursor.instruction
  out.displacementOffset = cursor.displacementOffset
  out.displacementSize = cursor.displacementSize
  out.immediate2Offset = cursor.immediate2Offset
  out.branchOffset = cursor.isBranch ? cursor.immediateOffset : 0
  out.branchSize = cursor.isBranch ? cursor.immediateSize : 0
  out.branch16 = cursor.isBranch && instruction.op0Kind === OpKind.NearBranch16 ? 1 : 0
  out.immediateOffset = cursor.isBranch ? 0 : cursor.immediateOffset
  out.immediateSize = cursor.isBranch ? 0 : cursor.immediateSize
  out.immediateWidth = 0
  out.memory = Memory.none
  for (let i = 0; i < instruction.opCount; i++) {
    const kind = instruction.opKind(i)
    if (kind === OpKind.Memory) out.memory = memoryForm(instruction)
    else if (out.immediateSize > 0 && kind !== OpKind.Immediate8_2nd)
      out.immediateWidth ||= immediateWidth(kind)
  }
  out.flow = flowClass(instruction, cursor.isBranch)
}

function immediateWidth(kind: Iced.OpKind): number {
  const { OpKind } = loadIced()
  switch (kind) {
    case OpKind.Immediate8:
      return 1
    case OpKind.Immediate16:
    case OpKind.Immediate8to16:
      return 2
    case OpKind.Immediate32:
    case OpKind.Immediate8to32:
      return 4
    case OpKind.Immediate64:
    case OpKind.Immediate8to64:
    case OpKind.Immediate32to64:
      return 8
    default:
      return 0
  }
}

function memoryForm(instruction: Iced.Instruction): number {
  const { Code, Register } = loadIced()
  if (instruction.memoryBase === Register.RIP) return Memory.rip
  if (instruction.memoryBase === Register.EIP) return Memory.eip
  if (instruction.memoryBase !== Register.None) return Memory.base
  if (instruction.memoryIndex !== Register.None) return Memory.index
  const moffs = instruction.code >= Code.Mov_AL_moffs8 && instruction.code <= Code.Mov_moffs64_RAX
  return moffs ? Memory.moffs : Memory.absolute
}

function flowClass(instruction: Iced.Instruction, isBranch: boolean): number {
  const { Code, FlowControl } = loadIced()
  switch (instruction.flowControl) {
    case FlowControl.ConditionalBranch:
      return Flow.conditional
    case FlowControl.UnconditionalBranch:
      return Flow.jump
    case FlowControl.Call:
      return isBranch ? Flow.call : Flow.system
    case FlowControl.Return:
      return Flow.ret
    case FlowControl.IndirectBranch:
      return Flow.indirectJump
    case FlowControl.IndirectCall:
      return Flow.indirectCall
    case FlowControl.XbeginXabortXend:
      return isBranch ? Flow.xbegin : Flow.next
    case FlowControl.Interrupt:
      return instruction.code === Code.Int3 ? Flow.int3 : Flow.interrupt
    case FlowControl.Exception:
      return Flow.undefined
    default:
      return instruction.code === Code.Hlt ? Flow.halt : Flow.next
  }
}

/** Code as text: lower-case Intel syntax with 0x numbers and resolved RIP-relative addresses. */
export class InstructionPrinter {
  readonly #cursor: IcedCursor
  readonly #formatter: Iced.Formatter

  /** @param base address of byte 0 of `code`, which is copied */
  constructor(code: Uint8Array, base: bigint) {
    const iced = loadIced()
    this.#cursor = new IcedCursor(code, { base })
    const formatter = new iced.Formatter(iced.FormatterSyntax.Nasm)
    formatter.hexPrefix = '0x'
    formatter.hexSuffix = ''
    formatter.uppercaseHex = false
    formatter.branchLeadingZeros = false
    formatter.spaceAfterOperandSeparator = true
    formatter.ripRelativeAddresses = false
    this.#formatter = formatter
  }

  /** The instruction at `offset`; `(bad)` where there is none. */
  text(offset: number): string {
    this.#cursor.decode(offset)
    return this.#formatter.format(this.#cursor.instruction)
  }

  /** Frees iced's objects; the printer cannot be used after it. */
  dispose(): void {
    this.#formatter.free()
    this.#cursor.dispose()
  }
}

/** One instruction as {@link InstructionPrinter} has it; `address` is that of `offset`. */
export function formatInstruction(code: Uint8Array, offset: number, address: bigint): string {
  const printer = new InstructionPrinter(code.subarray(offset, offset + MAX_LENGTH), address)
  try {
    return printer.text(0)
  } finally {
    printer.dispose()
  }
}
