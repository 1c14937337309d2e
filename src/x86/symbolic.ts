/**
 * What an instruction, or the few instructions that stand in for it, does, as symbols: by iced's decoding alone, so that it can judge an emitter.
 *
 * A value is a symbol plus a constant: `r0` is what rax held at first, `c` nothing (a plain number), `s-8` what the stack held 8 bytes below the first rsp, and
 * the result of an instruction that is not known better is that instruction with the values of its operands. Moves, pushes, pops, `lea` and jumps are
 * followed; everything else is an event, named by what it does with which values. So two pieces of code do the same exactly if they end with the same
 * registers, flags, events, stack and way out.
 */
import type * as Iced from 'iced-x86'
import { IcedCursor, loadIced } from './iced.ts'

/** A symbol and a number, modulo 2^64. */
interface Value {
  readonly of: string
  readonly plus: bigint
}

/** Bytes at an address. */
export interface CodePiece {
  readonly at: bigint
  readonly bytes: Uint8Array
}

/** What a field stands for now, where the bytes cannot say it. */
export interface FieldValue {
  /** Of the field, from the instruction's first byte. */
  readonly at: number
  readonly value: bigint
}

/** How a run ended, in comparable text; and what it left on the stack. */
export interface Effect {
  readonly registers: readonly string[]
  readonly flags: string
  readonly events: readonly string[]
  /** Way out: `next`, or where and how. */
  readonly exit: string
  /** 8- and 2-byte slots that were written, by their distance from the first rsp. */
  readonly stack: ReadonlyMap<number, string>
  /** Final rsp - first rsp; undefined where that is no number. */
  readonly raised: number | undefined
}

/** Why the code cannot be followed. */
export class NotFollowed extends Error {}

/** More instructions than any veneer has. */
const LONGEST = 16
/** Bytes below rsp that signals leave alone. */
const RED_ZONE = 128n

/** A cursor on the instruction at `at`. */
function cursorAt({ at: start, bytes }: CodePiece, at: bigint): IcedCursor {
  const offset = Number(at - start)
  return new IcedCursor(bytes.subarray(offset, offset + 15), { base: at })
}

const text = ({ of, plus }: Value): string => `${of}${plus < 0n ? '' : '+'}${plus}`
const number = (plus: bigint): Value => ({ of: 'c', plus: BigInt.asIntN(64, plus) })

/**
 * Follows the code from `start` until it comes to `next` or leaves `pieces`. `field` overrides a field of the first instruction.
 * Throws `NotFollowed`.
 */
export function followCode(
  pieces: readonly CodePiece[],
  start: bigint,
  next: bigint,
  field?: FieldValue,
): Effect {
  const machine = new Machine(pieces, next)
  let at: bigint | undefined = start
  for (let i = 0; i < LONGEST && at !== undefined; i++) at = machine.step(at, i === 0 ? field : undefined)
  if (at !== undefined) throw new NotFollowed('it is too long')
  return machine.effect()
}

class Machine {
  readonly #iced = loadIced()
  readonly #pieces: readonly CodePiece[]
  readonly #next: bigint
  readonly #registers: Value[] = Array.from({ length: 16 }, (_, i) => ({ of: `r${i}`, plus: 0n }))
  readonly #stack = new Map<bigint, { value: Value; size: number }>()
  readonly #events: string[] = []
  #flags = 'flags'
  #exit = ''

  constructor(pieces: readonly CodePiece[], next: bigint) {
    this.#pieces = pieces
    this.#next = next
  }

  effect(): Effect {
    const { of, plus } = this.#registers[4]
    return {
      registers: this.#registers.map(text),
      flags: this.#flags,
      events: this.#events,
      exit: this.#exit,
      stack: new Map([...this.#stack].map(([at, { value, size }]) => [Number(at), `${size}:${text(value)}`])),
      raised: of === 'r4' ? Number(plus) : undefined,
    }
  }

  /** One instruction; where the next one is, undefined at the end. */
  step(at: bigint, field: FieldValue | undefined): bigint | undefined {
    const piece = this.#pieces.find(
      ({ at: start, bytes }) => at >= start && at < start + BigInt(bytes.length),
    )
    if (piece === undefined) throw new NotFollowed('it leaves what is known')
    const cursor = cursorAt(piece, at)
    try {
      if (cursor.decode(0) === 0) throw new NotFollowed('it holds bytes that are no instruction')
      const to = new Step(this.#iced, cursor, field)
      const next = this.#execute(to, at + BigInt(cursor.length))
      this.#forget()
      if (next === this.#next) this.#exit = 'next'
      return this.#exit === '' ? next : undefined
    } finally {
      cursor.dispose()
    }
  }

  /** What lies below the red zone can change at any time. */
  #forget(): void {
    const { of, plus } = this.#registers[4]
    if (of !== 'r4') return
    for (const at of this.#stack.keys())
      if (at < plus - RED_ZONE) this.#stack.set(at, { value: { of: 'lost', plus: 0n }, size: 8 })
  }

  #execute(step: Step, after: bigint): bigint {
    const { Mnemonic } = this.#iced
    const { instruction } = step
    switch (instruction.mnemonic) {
      case Mnemonic.Jmp:
        if (step.isFar) break
        return this.#leave(step, 'jump')
      case Mnemonic.Call:
        if (step.isFar) break
        this.#push(number(after), 8)
        return this.#leave(step, 'call')
      case Mnemonic.Lea:
        if (step.size(0) === 8 || step.instruction.isIpRelMemoryOperand) {
          this.#write(step, 0, this.#address(step, false))
          return after
        }
        break
      case Mnemonic.Mov:
        // A 4-byte address that the CPU zero-extends may become one of 8.
        if (step.isAddress && step.isRegister(0) && step.size(0) === 4)
          this.#registers[step.numberOf(instruction.opRegister(0))] = this.#read(step, 1)
        else this.#write(step, 0, this.#read(step, 1))
        return after
      case Mnemonic.Push:
        this.#push(this.#read(step, 0), -instruction.stackPointerIncrement)
        return after
      case Mnemonic.Pop: {
        const size = instruction.stackPointerIncrement
        const rsp = this.#registers[4]
        const value = this.#load(rsp, size, '')
        this.#registers[4] = { ...rsp, plus: rsp.plus + BigInt(size) }
        this.#write(step, 0, value)
        return after
      }
      default:
    }
    if (instruction.flowControl === this.#iced.FlowControl.Exception) {
      this.#exit = 'undefined'
      return after
    }
    this.#perform(step)
    if (instruction.isJccShortOrNear || instruction.mnemonic === Mnemonic.Xbegin) {
      this.#exit = `if ${instruction.conditionCode}: ${this.#resolve(step.target)}`
      return after
    }
    return after
  }

  /** A jump or call: to a place that is known as code, to a number, or to a value. */
  #leave(step: Step, how: string): bigint {
    const target = step.isMemory(0)
      ? this.#read(step, 0)
      : step.isRegister(0)
        ? this.#read(step, 0)
        : number(step.target)
    const to = BigInt.asUintN(64, target.plus)
    const isCode = this.#pieces.some(({ at, bytes }) => to >= at && to < at + BigInt(bytes.length))
    if (target.of === 'c' && (to === this.#next || isCode) && how !== 'call') return to
    if (target.of === 'c' && isCode && !step.isMemory(0)) return to
    this.#exit = `to ${text(target)}`
    return 0n
  }

  /** Where a branch to `target` ends up, through a jump by a literal. */
  #resolve(target: bigint): string {
    const piece = this.#pieces.find(({ at, bytes }) => target >= at && target < at + BigInt(bytes.length))
    if (piece === undefined) return text(number(target))
    const cursor = cursorAt(piece, target)
    try {
      cursor.decode(0)
      const step = new Step(this.#iced, cursor, undefined)
      const { Mnemonic } = this.#iced
      if (cursor.length === 0 || step.instruction.mnemonic !== Mnemonic.Jmp) return 'elsewhere'
      return text(this.#read(step, 0))
    } finally {
      cursor.dispose()
    }
  }

  #push(value: Value, size: number): void {
    const rsp = this.#registers[4]
    this.#registers[4] = { ...rsp, plus: rsp.plus - BigInt(size) }
    this.#store(this.#registers[4], size, '', value)
  }

  /** The address of the memory operand; `segment`: with what a segment adds. */
  #address(step: Step, segment: boolean): Value {
    const { instruction } = step
    const { memoryBase, memoryIndex } = instruction
    const { Register } = this.#iced
    const prefix = segment ? step.segment : ''
    if (instruction.isIpRelMemoryOperand) return { of: `${prefix}c`, plus: BigInt.asIntN(64, step.ipAddress) }
    const base = memoryBase === Register.None ? number(0n) : this.#registers[step.numberOf(memoryBase)]
    let { of, plus } = base
    const scaled = this.#constantIndex(step)
    if (scaled !== undefined) plus += scaled
    else if (memoryIndex !== Register.None) {
      const index = step.isGeneral(memoryIndex)
        ? text(this.#registers[step.numberOf(memoryIndex)])
        : `v${memoryIndex}`
      of = `${of}+(${index})*${instruction.memoryIndexScale}`
    }
    plus += step.displacement
    return { of: prefix + of, plus: BigInt.asIntN(64, plus) }
  }

  /** What an index adds whose value is a number. */
  #constantIndex(step: Step): bigint | undefined {
    const { memoryIndex, memoryIndexScale } = step.instruction
    if (memoryIndex === this.#iced.Register.None || !step.isGeneral(memoryIndex)) return undefined
    const { of, plus } = this.#registers[step.numberOf(memoryIndex)]
    return of === 'c' ? plus * BigInt(memoryIndexScale) : undefined
  }

  #read(step: Step, operand: number): Value {
    const size = step.size(operand)
    if (step.isMemory(operand)) return this.#load(this.#address(step, true), size, step.access)
    if (!step.isRegister(operand)) return number(step.immediate(operand))
    const register = step.instruction.opRegister(operand)
    if (!step.isGeneral(register)) return { of: `x${register}`, plus: 0n }
    const value = this.#registers[step.numberOf(register)]
    if (size === 8) return value
    return lowPart(value, step.isHighByte(register) ? 'h' : String(size))
  }

  #write(step: Step, operand: number, value: Value): void {
    const size = step.size(operand)
    if (step.isMemory(operand)) {
      this.#store(this.#address(step, true), size, step.access, value)
      return
    }
    const register = step.instruction.opRegister(operand)
    if (!step.isGeneral(register)) {
      this.#events.push(`x${register} = ${text(value)}`)
      return
    }
    const n = step.numberOf(register)
    if (size === 8) this.#registers[n] = value
    else if (size === 4) this.#registers[n] = zeroExtended(value)
    else {
      const part = step.isHighByte(register) ? 'h' : String(size)
      this.#registers[n] = {
        of: `(${text(this.#registers[n])}|${part}:${text(lowPart(value, part))})`,
        plus: 0n,
      }
    }
  }

  #load(address: Value, size: number, access: string): Value {
    if (address.of === 'r4') {
      const slot = this.#stack.get(address.plus)
      if (slot === undefined) return { of: `s${address.plus}:${size}`, plus: 0n }
      if (slot.size !== size) throw new NotFollowed('it reads a part of what it wrote')
      return slot.value
    }
    const literal = address.of === 'c' && access === '' ? this.#literal(address.plus, size) : undefined
    if (literal !== undefined) return literal
    const event = `load${access} ${size} [${text(address)}]`
    this.#events.push(event)
    return { of: event, plus: 0n }
  }

  /** The bytes at an address of `pieces`: veneers hold no data but literals. */
  #literal(address: bigint, size: number): Value | undefined {
    const at = BigInt.asUintN(64, address)
    const piece = this.#pieces.find(
      ({ at: start, bytes }) => at >= start && at + BigInt(size) <= start + BigInt(bytes.length),
    )
    if (piece === undefined) return undefined
    let value = 0n
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(piece.bytes[Number(at - piece.at) + i])
    return number(value)
  }

  #store(address: Value, size: number, access: string, value: Value): void {
    const stored = size === 8 ? value : lowPart(value, String(size))
    if (address.of === 'r4') this.#stack.set(address.plus, { value: stored, size })
    else this.#events.push(`store${access} ${size} [${text(address)}] ${text(stored)}`)
  }

  /** An instruction that is not followed: one event with its operands' values, whose results are named after it. */
  #perform(step: Step): void {
    const { instruction } = step
    const operands: string[] = []
    for (let i = 0; i < instruction.opCount && !step.isHint; i++) operands.push(this.#describe(step, i))
    const literal = operands.some((operand) => operand.startsWith('c'))
    const implicit = step.implicitRegisters()
    const before = implicit.map((register) => `${register}=${text(this.#registers[register])}`)
    const name = literal ? `${instruction.mnemonic}` : `#${instruction.code}`
    if (instruction.mnemonic === this.#iced.Mnemonic.Test) operands.sort()
    // The first of three is only written.
    if (instruction.mnemonic === this.#iced.Mnemonic.Imul && operands.length === 3) operands.shift()
    const flags = instruction.rflagsRead === 0 ? '' : this.#flags
    const event = `${name} ${step.decoration()} ${operands.join(', ')} {${before.join(' ')}} ${flags}`
    this.#events.push(event)
    if (instruction.rflagsModified !== 0)
      this.#flags = `after ${event} ${instruction.rflagsRead} ${this.#flags}`
    for (const register of implicit) this.#registers[register] = { of: `<${event}>${register}`, plus: 0n }
    for (const { operand, register } of step.writtenRegisters())
      this.#registers[step.numberOf(register)] = { of: `<${event}>#${operand}`, plus: 0n }
  }

  #describe(step: Step, operand: number): string {
    const size = step.size(operand)
    if (step.isMemory(operand)) {
      const address = this.#address(step, true)
      const literal = address.of === 'c' ? this.#literal(address.plus, size) : undefined
      return literal === undefined ? `[${text(address)}]${size}` : text(literal)
    }
    if (!step.isRegister(operand)) return step.isBranch ? '' : text(number(step.immediate(operand)))
    const register = step.instruction.opRegister(operand)
    if (!step.isGeneral(register)) return `x${register}`
    const part = step.isHighByte(register) ? 'h' : String(size)
    return `${part}(${text(this.#registers[step.numberOf(register)])})`
  }
}

const BITS: Readonly<Record<string, number>> = { '1': 8, '2': 16, '4': 32 }

/** The low bytes of a value; `h`: its second byte. */
function lowPart(value: Value, part: string): Value {
  if (part === '8') return value
  if (value.of === 'c' && part !== 'h') return number(BigInt.asUintN(BITS[part], value.plus))
  const merged = value.of.match(/^\(.*\|(.):(.*)\)$/)
  if (merged !== null && merged[1] === part && value.plus === 0n) {
    const [, of, plus] = merged[2].match(/^(.*)([+-]\d+)$/) ?? ['', merged[2], '0']
    return { of, plus: BigInt(plus) }
  }
  // What was loaded or stored at this size has no more bytes.
  if (value.of.startsWith(`load ${part} `) || value.of.endsWith(`:${part}`)) return value
  return { of: `${part}(${text(value)})`, plus: 0n }
}

const zeroExtended = (value: Value): Value => {
  const low = lowPart(value, '4')
  return low.of === 'c' ? low : { of: `z(${text(low)})`, plus: 0n }
}

/** One decoded instruction, with a field that stands for another value. */
class Step {
  readonly instruction: Iced.Instruction
  readonly isBranch: boolean
  readonly #iced: typeof Iced
  readonly #cursor: IcedCursor
  readonly #field: FieldValue | undefined

  constructor(iced: typeof Iced, cursor: IcedCursor, field: FieldValue | undefined) {
    this.#iced = iced
    this.#cursor = cursor
    this.#field = field
    this.instruction = cursor.instruction
    this.isBranch = cursor.isBranch
  }

  get isFar(): boolean {
    const { instruction } = this
    return instruction.isCallFarIndirect || instruction.isJmpFarIndirect
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

  /** Register operands that are written. */
  writtenRegisters(): { readonly operand: number; readonly register: Iced.Register }[] {
    const { OpAccess, InstructionInfoFactory } = this.#iced
    const factory = new InstructionInfoFactory()
    const info = factory.info(this.instruction)
    const written: { operand: number; register: Iced.Register }[] = []
    for (let i = 0; i < this.instruction.opCount; i++) {
      const access = info.opAccess(i)
      const writes = access !== OpAccess.Read && access !== OpAccess.CondRead && access !== OpAccess.None
      if (writes && this.isRegister(i) && this.isGeneral(this.instruction.opRegister(i)))
        written.push({ operand: i, register: this.instruction.opRegister(i) })
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
    return this.#field?.at === at && at > 0 ? this.#field.value : undefined
  }
}
