/**
 * What an instruction, or the few instructions that stand in for it, does, as symbols: by iced's decoding
 * alone, so that it can judge an emitter.
 *
 * A value is a symbol plus a constant: `r0` is what rax held at first, `c` nothing (a plain number), `s-8`
 * what the stack held 8 bytes below the first rsp, and the result of an instruction that is not known better
 * is that instruction with the values of its operands. Moves, pushes, pops, `lea` and jumps are followed;
 * everything else is an event, named by what it does with which values. So two pieces of code do the same
 * exactly if they end with the same registers, flags, events, stack and way out.
 */
import { IcedCursor, loadIced } from './iced.ts'
import { MAX_LENGTH } from './instruction.ts'
import { type FieldValue, NotFollowed, Step } from './symbolic-step.ts'
import { lowPart, number, signExtended, text, type Value, zeroExtended } from './symbolic-value.ts'

/** Bytes at an address. */
export interface CodePiece {
  readonly at: bigint
  readonly bytes: Uint8Array
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
  /** Control went to somewhere else, and came back maybe: nothing below rsp lives on. */
  readonly transfers: boolean
}

/** More instructions than any veneer has. */
const LONGEST = 20
/** Bytes below rsp that signals leave alone. */
const RED_ZONE = 128n

/** A cursor on the instruction at `at`. */
function cursorAt({ at: start, bytes }: CodePiece, at: bigint): IcedCursor {
  const offset = Number(at - start)
  return new IcedCursor(bytes.subarray(offset, offset + MAX_LENGTH), { base: at })
}

/**
 * Follows the code from `start` until it comes to `next` or leaves `pieces`. `fields` override those of the
 * first instruction. Throws `NotFollowed`.
 */
export function followCode(
  pieces: readonly CodePiece[],
  start: bigint,
  next: bigint,
  fields: readonly FieldValue[] = [],
): Effect {
  const machine = new Machine(pieces, next)
  let at: bigint | undefined = start
  for (let i = 0; i < LONGEST && at !== undefined; i++) at = machine.step(at, i === 0 ? fields : [])
  if (at !== undefined) throw new NotFollowed('it is too long')
  return machine.effect()
}

/** Where a branch leads, and whether what is there must say that it may. */
const wayTo = (step: Step, target: Value): string => `${step.isTracked ? 'tracked ' : ''}${text(target)}`

class Machine {
  readonly #iced = loadIced()
  readonly #pieces: readonly CodePiece[]
  readonly #next: bigint
  readonly #registers: Value[] = Array.from({ length: 16 }, (_, i) => ({ of: `r${i}`, plus: 0n }))
  readonly #stack = new Map<bigint, { value: Value; size: number }>()
  readonly #events: string[] = []
  #flags = 'flags'
  #exit = ''
  #transfers = false

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
      transfers: this.#transfers,
    }
  }

  /** One instruction; where the next one is, undefined at the end. */
  step(at: bigint, fields: readonly FieldValue[]): bigint | undefined {
    const piece = this.#pieces.find(
      ({ at: start, bytes }) => at >= start && at < start + BigInt(bytes.length),
    )
    if (piece === undefined) throw new NotFollowed('it leaves what is known')
    const cursor = cursorAt(piece, at)
    try {
      if (cursor.decode(0) === 0) throw new NotFollowed('it holds bytes that are no instruction')
      const to = new Step(this.#iced, cursor, fields)
      const next = this.#execute(to, at + BigInt(cursor.length))
      this.#forget()
      if (this.#exit === '' && next === this.#next) this.#exit = 'next'
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
        return step.isFar ? this.#leaveFar(step) : this.#leave(step, 'jump')
      case Mnemonic.Call:
        if (step.isFar) return this.#callFar(step, after)
        this.#push(number(after), 8)
        return this.#leave(step, 'call')
      case Mnemonic.Lea:
        this.#write(step, 0, this.#address(step, false))
        return after
      case Mnemonic.Movsxd:
        if (step.size(1) !== 4) break
        this.#write(step, 0, signExtended(this.#read(step, 1)))
        return after
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
    if (instruction.flowControl === this.#iced.FlowControl.ConditionalBranch || step.isXbegin) {
      const otherwise = after === this.#next ? 'next' : 'elsewhere'
      this.#exit = `if ${instruction.conditionCode}: ${this.#resolve(step.target)}, else ${otherwise}`
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
    const isKnown = target.of === 'c' && !step.isTracked
    if (isKnown && (to === this.#next || isCode) && how !== 'call') return to
    if (isKnown && isCode && !step.isMemory(0)) return to
    this.#exit = `to ${wayTo(step, target)}`
    this.#transfers = true
    return 0n
  }

  /** Selector and offset of a far pointer in memory. */
  #farPointer(step: Step): string {
    const size = step.size(0) - 2
    const address = this.#address(step, true)
    const offset = this.#load(address, size, '')
    const selector = this.#load({ ...address, plus: address.plus + BigInt(size) }, 2, '')
    this.#transfers = true
    return `${text(selector)}:${text(offset)}`
  }

  #leaveFar(step: Step): bigint {
    this.#exit = `to ${this.#farPointer(step)}`
    return 0n
  }

  /**
   * A far call comes back, wherever it was made: what it leaves in registers and below rsp is not known, but the same.
   */
  #callFar(step: Step, after: bigint): bigint {
    const event = `call ${this.#farPointer(step)} with ${this.#registers.map(text).join()} ${this.#flags}`
    this.#events.push(event)
    this.#flags = `after ${event}`
    const rsp = this.#registers[4]
    this.#registers.forEach((_, i) => {
      if (i !== 4) this.#registers[i] = { of: `<${event}>${i}`, plus: 0n }
    })
    if (rsp.of !== 'r4') throw new NotFollowed('it calls with a stack that is not known')
    for (const at of this.#stack.keys())
      if (at < rsp.plus) this.#stack.set(at, { value: { of: 'lost', plus: 0n }, size: 8 })
    return after
  }

  /** Where a branch to `target` ends up, through jumps. */
  #resolve(target: bigint, depth = 2): string {
    const piece = this.#pieces.find(({ at, bytes }) => target >= at && target < at + BigInt(bytes.length))
    if (piece === undefined) return text(number(target))
    const cursor = cursorAt(piece, target)
    try {
      cursor.decode(0)
      const step = new Step(this.#iced, cursor, [])
      const { Mnemonic } = this.#iced
      if (cursor.length === 0 || step.instruction.mnemonic !== Mnemonic.Jmp || step.isFar) return 'elsewhere'
      if (step.isBranch) return depth > 0 ? this.#resolve(step.target, depth - 1) : 'elsewhere'
      return wayTo(step, this.#read(step, 0))
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
    const { Mnemonic, Register } = this.#iced
    const prefix = segment ? step.segment : ''
    if (instruction.isIpRelMemoryOperand) {
      // The CPU cuts an EIP-relative address; what an operand out of reach stands for is not cut, but for a \`lea\`.
      const isCut = memoryBase === Register.EIP && instruction.mnemonic === Mnemonic.Lea
      return { of: `${prefix}c`, plus: BigInt.asIntN(64, BigInt.asUintN(isCut ? 32 : 64, step.ipAddress)) }
    }
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
    if (step.isCut && instruction.mnemonic !== Mnemonic.Lea) {
      const sum = signExtended({ of, plus: BigInt.asIntN(64, plus) })
      return { of: prefix + sum.of, plus: BigInt.asIntN(64, sum.plus + step.displacement) }
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
    const outputs = step.writtenRegisters().filter(({ isOutput }) => isOutput)
    for (let i = 0; i < instruction.opCount && !step.isHint; i++)
      operands.push(outputs.some(({ operand }) => operand === i) ? 'out' : this.#describe(step, i))
    const literal = operands.some((operand) => operand.startsWith('c'))
    const implicit = step.implicitRegisters()
    const before = implicit.map((register) => `${register}=${text(this.#registers[register])}`)
    const name = literal ? `${instruction.mnemonic}` : `#${instruction.code}`
    if (instruction.mnemonic === this.#iced.Mnemonic.Test) operands.sort()
    if (instruction.mnemonic === this.#iced.Mnemonic.Imul && operands.length === 3) {
      // The first of three is only written, and the second may be loaded before.
      operands.shift()
      if (step.isMemory(1)) operands[0] = `${step.size(1)}(${text(this.#read(step, 1))})`
    }
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
    const value = this.#registers[step.numberOf(register)]
    return value.of === 'c' && size === 8 ? text(value) : `${part}(${text(value)})`
  }
}
