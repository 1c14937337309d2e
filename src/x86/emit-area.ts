/** The buffer that collects veneers and their literals. */

import { AreaParts } from './emit-area-parts.ts'
import { Literals } from './emit-literals.ts'

/** A displacement whose literal has no place yet, in the bytes of that which is made just now. */
interface LooseFixup {
  readonly bytes: Uint8Array
  /** Offset of the displacement there. */
  readonly at: number
  /** Offset of the next instruction from the area's start. */
  readonly next: number
  readonly literal: number
}

/** Displacements whose literals have no places yet, in columns; `ats` are offsets in the area or in the patches. */
class Fixups {
  readonly #ats: number[] = []
  readonly #nexts: number[] = []
  readonly #literals: number[] = []

  add(at: number, next: number, literal: number): void {
    this.#ats.push(at)
    this.#nexts.push(next)
    this.#literals.push(literal)
  }

  each(visit: (at: number, next: number, literal: number) => void): void {
    for (let i = 0; i < this.#ats.length; i++) visit(this.#ats[i], this.#nexts[i], this.#literals[i])
  }
}

/** A jump by a literal: `notrack jmp [rip + d]`, which is bound (MPX) like the branches that go to it. */
const STUB = [0x3e, 0xff, 0x25]

/**
 * Where veneers are put: code first, then literals, each value once. Offsets count from the area's start, so
 * that nothing here needs an address. Code outside the area (a patch) may refer into it. Displacements are
 * filled in at once, those of literals by {@link VeneerArea.finish}.
 */
export class VeneerArea {
  readonly parts: AreaParts = new AreaParts()
  #code = new Uint8Array(256)
  #length = 0
  readonly #inArea = new Fixups()
  readonly #inPatches = new Fixups()
  #loose: LooseFixup[] = []
  readonly #literals = new Literals()
  /** Of each literal the offset of the instruction that asked first. */
  readonly #owners: number[] = []
  /** Offset + 1 of the stub that jumps by a literal, 0 or nothing where there is none; without and with bnd. */
  readonly #stubs: readonly [number[], number[]] = [[], []]
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
    this.#inArea.add(this.#length - 4, this.#length, this.#literal(value))
  }

  /** Emits a branch to `place`, an offset from the area's start that may lie outside it. */
  emitJump(place: number): void {
    this.emit([0xe9, 0, 0, 0, 0])
    this.#refer(this.#code, this.#length - 4, this.#length, place)
  }

  /** Ends the veneer that began at `start`. */
  end(start: number): void {
    this.parts.add(start, this.#length, this.#owner)
  }

  /** Offset of a jump to `target`, one for all direct branches there: those with `bnd` have one of their own. */
  stub(target: bigint, bnd: boolean): number {
    const stubs = this.#stubs[bnd ? 1 : 0]
    const literal = this.#literal(target)
    while (stubs.length <= literal) stubs.push(0)
    if (stubs[literal] === 0) {
      stubs[literal] = this.#length + 1
      this.emitWithLiteral(bnd ? [0xf2, ...STUB] : STUB, target)
      this.end(stubs[literal] - 1)
    }
    return stubs[literal] - 1
  }

  /**
   * The displacement at `at` of `bytes` shall reach the literal that holds `value`; `next` is where the
   * instruction behind it begins.
   */
  referToLiteral(bytes: Uint8Array, at: number, next: number, value: bigint): void {
    this.#loose.push({ bytes, at, next, literal: this.#literal(value) })
  }

  /** The displacement at `at` of `bytes` shall reach the veneer at `start`. */
  referToVeneer(bytes: Uint8Array, at: number, next: number, start: number): void {
    this.#refer(bytes, at, next, start)
  }

  /**
   * `bytes`, in which displacements may wait for their literals, are from now on those at `start` of what
   * `finish` is given.
   */
  settle(bytes: Uint8Array, start: number): void {
    for (const fixup of this.#loose)
      if (fixup.bytes === bytes) this.#inPatches.add(fixup.at + start, fixup.next, fixup.literal)
    this.#loose = []
  }

  /**
   * Places the literals and fills in their displacements, in `patches` too; `undefined` where anything does not reach.
   */
  finish(patches: Uint8Array): Uint8Array | undefined {
    const first = (this.#length + 7) & ~7
    const count = this.#literals.length
    const area = new Uint8Array(count === 0 ? this.#length : first + 8 * count).fill(0xcc)
    area.set(this.#code.subarray(0, this.#length))
    const view = new DataView(area.buffer)
    for (let i = 0; i < count; i++) {
      const start = first + 8 * i
      this.parts.add(start, start + 8, this.#owners[i])
      view.setBigUint64(start, this.#literals.valueOf(i), true)
    }
    const fill = (bytes: Uint8Array, fixups: Fixups): void =>
      fixups.each((at, next, literal) => this.#refer(bytes, at, next, first + 8 * literal))
    fill(area, this.#inArea)
    fill(patches, this.#inPatches)
    return this.#isInReach ? area : undefined
  }

  /** The number of the literal that holds `value`. */
  #literal(value: bigint): number {
    const literal = this.#literals.numberOf(value)
    if (literal === this.#owners.length) this.#owners.push(this.#owner)
    return literal
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
