/** The buffer that collects veneers and their literals. */

/** A part of the area and the instruction (offset in the blob) that it stands for. */
export interface AreaPart {
  readonly start: number
  readonly end: number
  readonly offset: number
}

/** A displacement, whose literal has no place yet. */
interface LiteralFixup {
  /** In the area, in code outside, or in the bytes of that which is made just now. */
  where: 'area' | 'patches' | Uint8Array
  /** Offset of the displacement there. */
  at: number
  /** Offset of the next instruction from the area's start. */
  readonly next: number
  readonly literal: number
}

/** A jump by a literal: `notrack jmp [rip + d]`, which is bound (MPX) like the branches that go to it. */
const STUB = [0x3e, 0xff, 0x25]

/**
 * Where veneers are put: code first, then literals, each value once. Offsets count from the area's start, so that nothing here needs an address. Code
 * outside the area (a patch) may refer into it. Displacements are filled in at once, those of literals by {@link VeneerArea.finish}.
 */
export class VeneerArea {
  readonly parts: AreaPart[] = []
  #code = new Uint8Array(256)
  #length = 0
  readonly #fixups: LiteralFixup[] = []
  /** Values of the literals by their number, the numbers by the value, and offsets of the instructions that asked first. */
  readonly #values: bigint[] = []
  readonly #literals = new Map<bigint, number>()
  readonly #owners: number[] = []
  /** Offsets of stubs by target; without and with bnd. */
  readonly #stubs = [new Map<bigint, number>(), new Map<bigint, number>()] as const
  /** Offset in the blob of the instruction that is served now. */
  #owner = 0
  #isInReach = true

  /** Bytes of code so far. */
  get length(): number {
    return this.#length
  }

  /** From now on everything stands for the instruction at `offset` of the blob. */
  serve(offset: number): void {
    this.#owner = offset
  }

  emit(...parts: readonly (readonly number[])[]): void {
    for (const part of parts) {
      if (this.#length + part.length > this.#code.length) this.#grow()
      for (let i = 0; i < part.length; i++) this.#code[this.#length++] = part[i]
    }
  }

  /** Emits `opcode`, then a displacement to the literal that holds `value`. */
  emitWithLiteral(opcode: readonly number[], value: bigint): void {
    this.emit(opcode, [0, 0, 0, 0])
    this.#fix('area', this.#length - 4, this.#length, value)
  }

  /** Emits a branch to `place`, an offset from the area's start that may lie outside it. */
  emitJump(place: number): void {
    this.emit([0xe9, 0, 0, 0, 0])
    this.#refer(this.#code, this.#length - 4, this.#length, place)
  }

  /** Ends the veneer that began at `start`. */
  end(start: number): void {
    this.parts.push({ start, end: this.#length, offset: this.#owner })
  }

  /** Offset of a jump to `target`, one for all direct branches there: those with `bnd` have one of their own. */
  stub(target: bigint, bnd: boolean): number {
    const stubs = this.#stubs[bnd ? 1 : 0]
    let start = stubs.get(target)
    if (start === undefined) {
      start = this.#length
      stubs.set(target, start)
      this.emitWithLiteral(bnd ? [0xf2, ...STUB] : STUB, target)
      this.end(start)
    }
    return start
  }

  /** The displacement at `at` of `bytes` shall reach the literal that holds `value`; `next` is where the instruction behind it begins. */
  referToLiteral(bytes: Uint8Array, at: number, next: number, value: bigint): void {
    this.#fix(bytes, at, next, value)
  }

  /** The displacement at `at` of `bytes` shall reach the veneer at `start`. */
  referToVeneer(bytes: Uint8Array, at: number, next: number, start: number): void {
    this.#refer(bytes, at, next, start)
  }

  /** `bytes`, in which displacements may wait for their literals, are from now on those at `start` of what `finish` is given. */
  settle(bytes: Uint8Array, start: number): void {
    for (let i = this.#fixups.length - 1; i >= 0 && this.#fixups[i].where === bytes; i--) {
      this.#fixups[i].where = 'patches'
      this.#fixups[i].at += start
    }
  }

  /** Places the literals and fills in their displacements, in `patches` too; `undefined` where anything does not reach. */
  finish(patches: Uint8Array): Uint8Array | undefined {
    const first = (this.#length + 7) & ~7
    const count = this.#values.length
    const area = new Uint8Array(count === 0 ? this.#length : first + 8 * count).fill(0xcc)
    area.set(this.#code.subarray(0, this.#length))
    const view = new DataView(area.buffer)
    for (let i = 0; i < count; i++) {
      const start = first + 8 * i
      this.parts.push({ start, end: start + 8, offset: this.#owners[i] })
      view.setBigUint64(start, this.#values[i], true)
    }
    for (const { where, at, next, literal } of this.#fixups) {
      const bytes = where === 'area' ? area : where === 'patches' ? patches : where
      this.#refer(bytes, at, next, first + 8 * literal)
    }
    return this.#isInReach ? area : undefined
  }

  #fix(where: LiteralFixup['where'], at: number, next: number, value: bigint): void {
    let literal = this.#literals.get(value)
    if (literal === undefined) {
      literal = this.#values.length
      this.#literals.set(value, literal)
      this.#values.push(value)
      this.#owners.push(this.#owner)
    }
    this.#fixups.push({ where, at, next, literal })
  }

  #refer(bytes: Uint8Array, at: number, next: number, place: number): void {
    const distance = place - next
    if (distance < -0x8000_0000 || distance > 0x7fff_ffff) this.#isInReach = false
    bytes[at] = distance
    bytes[at + 1] = distance >> 8
    bytes[at + 2] = distance >> 16
    bytes[at + 3] = distance >> 24
  }

  #grow(): void {
    const larger = new Uint8Array(2 * this.#code.length)
    larger.set(this.#code)
    this.#code = larger
  }
}
