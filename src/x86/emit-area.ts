/** The buffer that collects veneers and their literals. */
import { int32 } from './emit.ts'

/** The far place of a displacement: a literal by its value, or an offset from the area's start. */
type Aim = { readonly literal: bigint } | { readonly offset: number }

interface Fixup {
  readonly bytes: Uint8Array | undefined
  /** Offset of the displacement in `bytes`, or in the area. */
  readonly at: number
  /** Offset of the next instruction from the area's start. */
  readonly next: number
  readonly aim: Aim
}

/** A part of the area and the instruction (offset in the blob) that it stands for. */
export interface AreaPart {
  readonly start: number
  readonly end: number
  readonly offset: number
}

/**
 * Where veneers are put: code first, then literals, each value once. Offsets count from the area's start, so that nothing here needs an address. Code
 * outside the area (a patch) may refer into it: displacements are filled in by {@link VeneerArea.finish}.
 */
export class VeneerArea {
  readonly parts: AreaPart[] = []
  readonly #code: number[] = []
  readonly #fixups: Fixup[] = []
  /** Value of a literal to the offset of the instruction that asked first. */
  readonly #literals = new Map<bigint, number>()
  readonly #stubs = new Map<string, number>()
  /** Offset in the blob of the instruction that is served now. */
  #owner = 0

  /** Bytes of code so far. */
  get length(): number {
    return this.#code.length
  }

  /** From now on everything stands for the instruction at `offset` of the blob. */
  serve(offset: number): void {
    this.#owner = offset
  }

  emit(...parts: readonly (readonly number[])[]): void {
    for (const part of parts) for (const byte of part) this.#code.push(byte)
  }

  /** Emits `opcode`, then a displacement to the literal that holds `value`. */
  emitWithLiteral(opcode: readonly number[], value: bigint): void {
    this.emit(opcode, [0, 0, 0, 0])
    this.#fix(undefined, this.length - 4, this.length, { literal: this.#literal(value) })
  }

  /** Emits a branch to `place`, an offset from the area's start that may lie outside it. */
  emitJump(place: number): void {
    this.emit([0xe9, 0, 0, 0, 0])
    this.#fix(undefined, this.length - 4, this.length, { offset: place })
  }

  /** Ends the veneer that began at `start`. */
  end(start: number): void {
    this.parts.push({ start, end: this.length, offset: this.#owner })
  }

  /** Offset of a veneer that is the same for all who ask by this name; `emit` makes it. */
  stub(name: string, emit: () => void): number {
    let start = this.#stubs.get(name)
    if (start === undefined) {
      start = this.length
      this.#stubs.set(name, start)
      emit()
      this.end(start)
    }
    return start
  }

  /** The displacement at `at` of `bytes` shall reach the literal that holds `value`; `next` is where the instruction behind it begins. */
  referToLiteral(bytes: Uint8Array, at: number, next: number, value: bigint): void {
    this.#fix(bytes, at, next, { literal: this.#literal(value) })
  }

  /** The displacement at `at` of `bytes` shall reach the veneer at `start`. */
  referToVeneer(bytes: Uint8Array, at: number, next: number, start: number): void {
    this.#fix(bytes, at, next, { offset: start })
  }

  /** Places the literals and fills in all displacements; `undefined` where one of them does not reach. */
  finish(): Uint8Array | undefined {
    const first = (this.length + 7) & ~7
    const places = new Map<bigint, number>()
    for (const [value, offset] of this.#literals) {
      const start = first + 8 * places.size
      places.set(value, start)
      this.parts.push({ start, end: start + 8, offset })
    }
    const area = new Uint8Array(places.size === 0 ? this.length : first + 8 * places.size).fill(0xcc)
    area.set(this.#code)
    const view = new DataView(area.buffer)
    for (const [value, start] of places) view.setBigUint64(start, value, true)
    for (const { bytes = area, at, next, aim } of this.#fixups) {
      const place = 'offset' in aim ? aim.offset : places.get(aim.literal)!
      const distance = place - next
      if (distance < -0x8000_0000 || distance > 0x7fff_ffff) return undefined
      bytes.set(int32(distance), at)
    }
    return area
  }

  #literal(value: bigint): bigint {
    if (!this.#literals.has(value)) this.#literals.set(value, this.#owner)
    return value
  }

  #fix(bytes: Uint8Array | undefined, at: number, next: number, aim: Aim): void {
    this.#fixups.push({ bytes, at, next, aim })
  }
}
