/**
 * The register state of a case: 256 bytes of general registers, flags and outcome, then the CPU's XSAVE area in its
 * standard form. runner.s reads and writes exactly these bytes; this file gives them names.
 */

/** Encoding order of the general registers: the index is the register's number in machine code. */
export const GENERAL_REGISTERS = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
] as const

export type GeneralRegister = (typeof GENERAL_REGISTERS)[number]

/** XSAVE components in use, with their bits in XCR0. Their offsets differ between makers. */
export const XSAVE_COMPONENTS = { avx: 2, opmask: 5, zmmHigh: 6, zmm16: 7 } as const

export type XsaveComponent = keyof typeof XSAVE_COMPONENTS

/** What the CPU of the child has. Offsets are bytes from the XSAVE area's start; -1 where it lacks the component. */
export interface StateLayout {
  /** Bytes of the XSAVE area. */
  readonly xsaveSize: number
  /** Components saved and loaded, as a mask of XCR0. */
  readonly mask: number
  readonly offsets: Readonly<Record<XsaveComponent, number>>
}

/** Bytes of a state before its XSAVE area. */
export const STATE_HEAD = 256

/** Bytes from one state to the next: a multiple of 64, which XSAVE wants. */
export const stateSize = (layout: StateLayout): number => STATE_HEAD + Math.ceil(layout.xsaveSize / 64) * 64

const RIP = 128
const RFLAGS = 136
const FS_BASE = 144
const GS_BASE = 152
/** Where the runner reports how a case ended; see runner.s. */
export const OUTCOME = { signal: 160, code: 168, address: 176, pad: 184, flags: 192, error: 200 } as const

const FCW = 0
const FSW = 2
const FTW = 4
const MXCSR = 24
const X87 = 32
const XMM = 160
const XSTATE_BV = 512
const HEADER_END = 576

/** Resume flag: the kernel sets it in the flags of a faulting instruction; no instruction can. */
const RESUME_FLAG = 0x10000n
const STATUS_FLAGS = 0x8d5

export class CpuState {
  readonly layout: StateLayout
  /** `stateSize(layout)` bytes; other members are views of them. */
  readonly bytes: Uint8Array
  readonly #view: DataView

  /** The state in `bytes`, or a fresh one: registers 0, flags 0x202, x87 and MXCSR as a C function finds them. */
  constructor(layout: StateLayout, bytes?: Uint8Array) {
    this.layout = layout
    this.bytes = bytes ?? new Uint8Array(stateSize(layout))
    this.#view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength)
    if (bytes !== undefined) return
    this.rflags = 0x202n
    this.#view.setUint16(STATE_HEAD + FCW, 0x37f, true)
    this.mxcsr = 0x1f80
    this.#view.setBigUint64(STATE_HEAD + XSTATE_BV, BigInt(layout.mask), true)
  }

  /** `register` by name or number. */
  get(register: GeneralRegister | number): bigint {
    return this.#view.getBigUint64(8 * numberOf(register), true)
  }

  set(register: GeneralRegister | number, value: bigint): void {
    this.#view.setBigUint64(8 * numberOf(register), BigInt.asUintN(64, value), true)
  }

  /** Where the case begins; of a result: the exit address it took, or the faulting instruction (int3: behind it). */
  get rip(): bigint {
    return this.#view.getBigUint64(RIP, true)
  }

  set rip(value: bigint) {
    this.#view.setBigUint64(RIP, value, true)
  }

  get rflags(): bigint {
    return this.#view.getBigUint64(RFLAGS, true) & ~RESUME_FLAG
  }

  set rflags(value: bigint) {
    this.#view.setBigUint64(RFLAGS, value, true)
  }

  /** 0 is the process's own. Other values need the CPU feature `fsgsbase`. */
  get fsBase(): bigint {
    return this.#view.getBigUint64(FS_BASE, true)
  }

  set fsBase(value: bigint) {
    this.#view.setBigUint64(FS_BASE, value, true)
  }

  get gsBase(): bigint {
    return this.#view.getBigUint64(GS_BASE, true)
  }

  set gsBase(value: bigint) {
    this.#view.setBigUint64(GS_BASE, value, true)
  }

  get mxcsr(): number {
    return this.#view.getUint32(STATE_HEAD + MXCSR, true)
  }

  set mxcsr(value: number) {
    this.#view.setUint32(STATE_HEAD + MXCSR, value, true)
  }

  /** Bytes of a vector register: 64, 32 or 16, the widest that the CPU has. */
  get vectorWidth(): number {
    return this.layout.offsets.zmmHigh >= 0 ? 64 : this.layout.offsets.avx >= 0 ? 32 : 16
  }

  /** 32 with AVX-512, otherwise 16. */
  get vectorCount(): number {
    return this.layout.offsets.zmm16 >= 0 ? 32 : 16
  }

  /** A copy of vector register `index`, `vectorWidth` bytes. */
  vector(index: number): Uint8Array {
    const out = new Uint8Array(this.vectorWidth)
    for (const { at, offset, length } of this.#vectorPieces(index))
      out.set(this.bytes.subarray(offset, offset + length), at)
    return out
  }

  /** Writes the low bytes of vector register `index`; the rest becomes 0. */
  setVector(index: number, bytes: Uint8Array): void {
    for (const { at, offset, length } of this.#vectorPieces(index)) {
      this.bytes.fill(0, offset, offset + length)
      this.bytes.set(bytes.subarray(at, at + length), offset)
    }
  }

  opmask(index: number): bigint {
    return this.#view.getBigUint64(STATE_HEAD + this.layout.offsets.opmask + 8 * index, true)
  }

  setOpmask(index: number, value: bigint): void {
    this.#view.setBigUint64(STATE_HEAD + this.layout.offsets.opmask + 8 * index, value, true)
  }

  /** The ten bytes of st(index), themselves. */
  x87(index: number): Uint8Array {
    return this.bytes.subarray(STATE_HEAD + X87 + 16 * index, STATE_HEAD + X87 + 16 * index + 10)
  }

  /** Abridged x87 tags: bit i set where physical register i holds something. */
  get x87Tags(): number {
    return this.bytes[STATE_HEAD + FTW]
  }

  set x87Tags(value: number) {
    this.bytes[STATE_HEAD + FTW] = value
  }

  get x87Control(): number {
    return this.#view.getUint16(STATE_HEAD + FCW, true)
  }

  set x87Control(value: number) {
    this.#view.setUint16(STATE_HEAD + FCW, value, true)
  }

  get x87Status(): number {
    return this.#view.getUint16(STATE_HEAD + FSW, true)
  }

  set x87Status(value: number) {
    this.#view.setUint16(STATE_HEAD + FSW, value, true)
  }

  clone(): CpuState {
    return new CpuState(this.layout, this.bytes.slice())
  }

  /**
   * Fills all general registers, status flags, vector registers, opmasks and x87 values (four of the eight in use)
   * from `next`, which gives 32 random bits. rsp, rip and the segment bases are the caller's.
   */
  randomize(next: () => number): void {
    const fill = (start: number, end: number): void => {
      for (let at = start; at < end; at += 4) this.#view.setUint32(at, next() >>> 0, true)
    }
    const rsp = this.get('rsp')
    fill(0, 128)
    this.set('rsp', rsp)
    this.rflags = BigInt(0x202 | (next() & STATUS_FLAGS))
    fill(STATE_HEAD + XMM, STATE_HEAD + XMM + 256)
    const { offsets } = this.layout
    for (const [start, length] of [
      [offsets.avx, 256],
      [offsets.opmask, 64],
      [offsets.zmmHigh, 512],
      [offsets.zmm16, 1024],
    ])
      if (start >= 0) fill(STATE_HEAD + start, STATE_HEAD + start + length)
    for (let i = 0; i < 8; i++) {
      const value = this.x87(i)
      for (let at = 0; at < 8; at++) value[at] = next()
      value[7] |= 0x80 // a normal number needs its integer bit
      value[8] = next()
      value[9] = 0x3f + (next() & 1)
    }
    this.x87Tags = 0x0f
  }

  #vectorPieces(index: number): { at: number; offset: number; length: number }[] {
    const { offsets } = this.layout
    if (index >= 16) return [{ at: 0, offset: STATE_HEAD + offsets.zmm16 + 64 * (index - 16), length: 64 }]
    const pieces = [{ at: 0, offset: STATE_HEAD + XMM + 16 * index, length: 16 }]
    if (offsets.avx >= 0) pieces.push({ at: 16, offset: STATE_HEAD + offsets.avx + 16 * index, length: 16 })
    if (offsets.zmmHigh >= 0)
      pieces.push({ at: 32, offset: STATE_HEAD + offsets.zmmHigh + 32 * index, length: 32 })
    return pieces
  }
}

const numberOf = (register: GeneralRegister | number): number =>
  typeof register === 'number' ? register : GENERAL_REGISTERS.indexOf(register)

/** One register that two states hold differently. */
export interface StateDifference {
  readonly register: string
  readonly a: string
  readonly b: string
}

/**
 * What differs between two states: general registers, flags, segment bases, vectors, opmasks, x87 and MXCSR. rip and
 * the x87 instruction and operand pointers are addresses of code and not compared.
 */
export function diffStates(a: CpuState, b: CpuState): StateDifference[] {
  const differences: StateDifference[] = []
  const compare = (register: string, x: bigint | number, y: bigint | number): void => {
    if (x !== y) differences.push({ register, a: `0x${x.toString(16)}`, b: `0x${y.toString(16)}` })
  }
  for (const register of GENERAL_REGISTERS) compare(register, a.get(register), b.get(register))
  compare('rflags', a.rflags, b.rflags)
  compare('fsBase', a.fsBase, b.fsBase)
  compare('gsBase', a.gsBase, b.gsBase)
  if (sameVectorState(a, b)) return differences
  compare('mxcsr', a.mxcsr, b.mxcsr)
  compare('fcw', a.x87Control, b.x87Control)
  compare('fsw', a.x87Status, b.x87Status)
  compare('ftw', a.x87Tags, b.x87Tags)
  const compareBytes = (register: string, x: Uint8Array, y: Uint8Array): void => {
    if (Buffer.compare(x, y) !== 0) compare(register, asNumber(x), asNumber(y))
  }
  for (let i = 0; i < 8; i++) compareBytes(`st${i}`, a.x87(i), b.x87(i))
  for (let i = 0; i < a.vectorCount; i++) compareBytes(`vector${i}`, a.vector(i), b.vector(i))
  if (a.layout.offsets.opmask >= 0) for (let i = 0; i < 8; i++) compare(`k${i}`, a.opmask(i), b.opmask(i))
  return differences
}

const asNumber = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)

/** A cheap test that most pairs pass; false says only that a closer look is needed. */
function sameVectorState(a: CpuState, b: CpuState): boolean {
  const same = (start: number, end: number): boolean =>
    Buffer.compare(
      a.bytes.subarray(STATE_HEAD + start, STATE_HEAD + end),
      b.bytes.subarray(STATE_HEAD + start, STATE_HEAD + end),
    ) === 0
  return (
    same(FCW, FTW + 1) &&
    same(MXCSR, MXCSR + 4) &&
    same(X87, XMM + 256) &&
    same(HEADER_END, Math.max(HEADER_END, a.layout.xsaveSize))
  )
}
