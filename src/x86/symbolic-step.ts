/**
 * One decoded instruction as symbolic execution wants it: its operands by number, one of its fields standing
 * for another value. iced tells all of it.
 */
import type * as Iced from 'iced-x86'
import type { IcedCursor } from './iced.ts'

/** What a field stands for now, where the bytes cannot say it. */
export interface FieldValue {
  /** Of the field, from the instruction's first byte. */
  readonly at: number
  readonly value: bigint
}

/** Why the code cannot be followed. */
export class NotFollowed extends Error {}

/** One decoded instruction, with a field that stands for another value. */
export class Step {
  readonly instruction: Iced.Instruction
  readonly isBranch: boolean
  readonly #iced: typeof Iced
  readonly #cursor: IcedCursor
  readonly #fields: readonly FieldValue[]

  constructor(iced: typeof Iced, cursor: IcedCursor, fields: readonly FieldValue[]) {
    this.#iced = iced
    this.#cursor = cursor
    this.#fields = fields
    this.instruction = cursor.instruction
    this.isBranch = cursor.isBranch
  }

  get isFar(): boolean {
    const { instruction } = this
    return instruction.isCallFarIndirect || instruction.isJmpFarIndirect
  }
  /** A branch that IBT holds to what begins with an endbr64: an indirect one without `notrack`. */
  get isTracked(): boolean {
    return !this.isBranch && this.instruction.segmentPrefix !== this.#iced.Register.DS
  }
  get isXbegin(): boolean {
    return this.instruction.mnemonic === this.#iced.Mnemonic.Xbegin
  }
  /** The CPU cuts the address to 32 bits. */
  get isCut(): boolean {
    const { memoryBase, memoryIndex } = this.instruction
    return [memoryBase, memoryIndex].some(
      (register) => this.isGeneral(register) && this.#iced.RegisterExt.size(register) === 4,
    )
  }
  get segment(): string {
    const { segmentPrefix } = this.instruction
    const { Register } = this.#iced
    return segmentPrefix === Register.FS ? 'fs:' : segmentPrefix === Register.GS ? 'gs:' : ''
  }
  /** nop, prefetch and the hints among them: what their operands name is not used. */
  get isHint(): boolean {
    const { code } = this.instruction
    const { Code } = this.#iced
    const name = Code[code]
    return /^(Nop|Prefetch|Reservednop|Cldemote)/.test(name)
  }
  /** The immediate is a field that stands for another value. */
  get isAddress(): boolean {
    return this.#valueAt(this.#cursor.immediateOffset) !== undefined
  }
  /** Prefixes that change how memory is accessed. */
  get access(): string {
    return this.instruction.hasLockPrefix ? ' lock' : ''
  }
  get target(): bigint {
    return this.#valueAt(this.#cursor.immediateOffset) ?? this.#cursor.target ?? 0n
  }
  get ipAddress(): bigint {
    return this.#valueAt(this.#cursor.displacementOffset) ?? this.instruction.ipRelMemoryAddress
  }
  get displacement(): bigint {
    return this.#valueAt(this.#cursor.displacementOffset) ?? this.instruction.memoryDisplacement
  }

  immediate(operand: number): bigint {
    const kind = this.instruction.opKind(operand)
    const { OpKind } = this.#iced
    if (kind < OpKind.Immediate8 || kind > OpKind.Immediate32to64)
      throw new NotFollowed('it has an operand that no veneer needs')
    return this.#valueAt(this.#cursor.immediateOffset) ?? this.instruction.immediate(operand)
  }
  isMemory(operand: number): boolean {
    return this.instruction.opKind(operand) === this.#iced.OpKind.Memory
  }
  isRegister(operand: number): boolean {
    return this.instruction.opKind(operand) === this.#iced.OpKind.Register
  }
  isGeneral(register: Iced.Register): boolean {
    return this.#iced.RegisterExt.isGPR(register)
  }
  isHighByte(register: Iced.Register): boolean {
    const { Register } = this.#iced
    return register >= Register.AH && register <= Register.BH
  }
  numberOf(register: Iced.Register): number {
    const { RegisterExt, Register } = this.#iced
    return RegisterExt.fullRegister(register) - Register.RAX
  }
  /** Bytes of an operand; of memory that an instruction only points at: 0. */
  size(operand: number): number {
    const { MemorySizeExt, RegisterExt } = this.#iced
    if (this.isMemory(operand)) return MemorySizeExt.size(this.instruction.memorySize)
    return this.isRegister(operand) ? RegisterExt.size(this.instruction.opRegister(operand)) : 8
  }

  /** Masks, rounding, lock and the like. */
  decoration(): string {
    const i = this.instruction
    const prefixes = [i.hasLockPrefix, i.hasRepePrefix, i.hasRepnePrefix, i.isBroadcast, i.zeroingMasking]
    return `${prefixes.map(Number).join('')} ${i.opMask} ${i.roundingControl} ${i.suppressAllExceptions}`
  }

  /** General registers that count without being an operand or a part of an address. */
  implicitRegisters(): number[] {
    const { instruction } = this
    const named = new Set<number>()
    for (let i = 0; i < instruction.opCount; i++)
      if (this.isRegister(i) && this.isGeneral(instruction.opRegister(i)))
        named.add(this.numberOf(instruction.opRegister(i)))
    return this.#used().filter((register) => !named.has(register))
  }

  /** Register operands that are written; `isOutput`: all of the register, whatever it held. */
  writtenRegisters(): readonly {
    readonly operand: number
    readonly register: Iced.Register
    readonly isOutput: boolean
  }[] {
    const { OpAccess, InstructionInfoFactory } = this.#iced
    const factory = new InstructionInfoFactory()
    const info = factory.info(this.instruction)
    const written: { operand: number; register: Iced.Register; isOutput: boolean }[] = []
    for (let i = 0; i < this.instruction.opCount; i++) {
      const access = info.opAccess(i)
      const writes = access !== OpAccess.Read && access !== OpAccess.CondRead && access !== OpAccess.None
      if (!writes || !this.isRegister(i) || !this.isGeneral(this.instruction.opRegister(i))) continue
      const isOutput = access === OpAccess.Write && this.size(i) >= 4
      written.push({ operand: i, register: this.instruction.opRegister(i), isOutput })
    }
    info.free()
    factory.free()
    return written
  }

  #used(): number[] {
    const factory = new this.#iced.InstructionInfoFactory()
    // Without its address: a register may count for that alone.
    const bare = this.instruction.clone()
    bare.memoryBase = this.#iced.Register.None
    bare.memoryIndex = this.#iced.Register.None
    const info = factory.info(bare)
    const numbers = new Set<number>()
    for (const used of info.usedRegisters() as Iced.UsedRegister[]) {
      if (this.isGeneral(used.register)) numbers.add(this.numberOf(used.register))
      used.free()
    }
    info.free()
    bare.free()
    factory.free()
    return [...numbers].sort((a, b) => a - b)
  }

  #valueAt(at: number): bigint | undefined {
    return at > 0 ? this.#fields.find((field) => field.at === at)?.value : undefined
  }
}
