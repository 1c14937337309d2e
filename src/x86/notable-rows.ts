/** What is notable of instructions, one row each, in typed columns that ascend by the instruction's start. */
import { lowerBound } from '../core/search.ts'
import { Flow } from './instruction.ts'

type Column = Uint8Array | Uint32Array | Int32Array | Float64Array

const emptyLike = (column: Column, length: number): Column =>
  new (column.constructor as new (length: number) => Column)(length)

/** Rows of one column: the starts. */
export class Rows {
  starts: Uint32Array
  count = 0

  /** @param room for so many rows at first */
  constructor(room: number) {
    this.starts = new Uint32Array(room)
  }

  /** Makes room for so many rows more: nothing else does. */
  reserve(rows: number): void {
    const least = this.count + rows
    if (least > this.starts.length) this.resize(least + Math.max(rows, this.count >> 1))
  }

  push(start: number): void {
    this.starts[this.count++] = start
  }

  /** All columns. */
  columns(): Column[] {
    return [this.starts]
  }

  protected use([starts]: Column[]): void {
    this.starts = starts as Uint32Array
  }

  /** Makes room for so many rows. */
  protected resize(room: number): void {
    this.use(
      this.columns().map((column) => {
        const other = emptyLike(column, room)
        other.set(column.length > room ? column.subarray(0, room) : column)
        return other
      }),
    )
  }

  /** Forgets the room that was not needed. */
  trim(): void {
    this.use(this.columns().map((column) => column.subarray(0, this.count)))
  }

  /** These rows, but in the `zones` (pairs of offsets, ascending) those of `other`. */
  replace(zones: readonly number[], other: Rows): void {
    const own = this.columns()
    const theirs = other.columns()
    const parts: [Column[], number, number][] = []
    let from = 0
    for (let i = 0; i <= zones.length; i += 2) {
      const end = i < zones.length ? lowerBound(this.starts, zones[i]) : this.count
      parts.push([own, from, end])
      if (i === zones.length) break
      from = lowerBound(this.starts, zones[i + 1])
      parts.push([theirs, lowerBound(other.starts, zones[i]), lowerBound(other.starts, zones[i + 1])])
    }
    this.count = parts.reduce((sum, [, first, end]) => sum + end - first, 0)
    this.use(
      own.map((column, i) => {
        const whole = emptyLike(column, this.count)
        let at = 0
        for (const [columns, first, end] of parts) {
          whole.set(columns[i].subarray(first, end), at)
          at += end - first
        }
        return whole
      }),
    )
  }
}

/**
 * Instructions that divert the flow or have a RIP- or EIP-relative operand; of a code map, the last of each run too.
 */
export class Ends extends Rows {
  /**
   * Bits of `kinds`: the low four are one of `Flow`; whether the relative operand is a RIP operand, and of a
   * lea; whether a run ends here.
   */
  static readonly flow = 0x0f
  static readonly rip = 0x10
  static readonly lea = 0x20
  static readonly last = 0x40
  kinds: Uint8Array
  /** Where the relative operand points, if that is one of the blob's bytes; else -1. */
  targets: Int32Array

  constructor(room: number) {
    super(room)
    this.kinds = new Uint8Array(this.starts.length)
    this.targets = new Int32Array(this.starts.length)
  }

  add(start: number, kind: number, target: number): void {
    const row = this.count++
    this.starts[row] = start
    this.kinds[row] = kind
    this.targets[row] = target
  }

  /** Marks the instructions at `lasts`, ascending, as the last of their runs; adds what is not here. */
  markLasts(lasts: readonly number[]): void {
    const others = new Ends(lasts.length)
    for (const start of lasts) {
      const row = lowerBound(this.starts, start)
      if (row < this.count && this.starts[row] === start) this.kinds[row] |= Ends.last
      else others.add(start, Flow.next | Ends.last, -1)
    }
    others.trim()
    const gaps = Array.from(others.starts, (start) => [start, start + 1]).flat()
    if (gaps.length > 0) this.replace(gaps, others)
  }

  override columns(): Column[] {
    return [this.starts, this.kinds, this.targets]
  }

  protected override use(columns: Column[]): void {
    super.use(columns)
    this.kinds = columns[1] as Uint8Array
    this.targets = columns[2] as Int32Array
  }
}

/** Instructions whose relative operand leaves the moved range. */
export class Outside extends Rows {
  /** Bits of `shapes`: bytes of the field; bytes between it and the instruction's end; a lea's. */
  static readonly size = 7
  static readonly tailShift = 3
  static readonly tailMask = 0x0f
  static readonly lea = 0x80
  /** Where they point, as distances from the blob's base. */
  distances: Float64Array
  /** Offsets of the fields; 0: the decoder is to say. */
  fields: Uint32Array
  shapes: Uint8Array

  constructor(room: number) {
    super(room)
    this.distances = new Float64Array(this.starts.length)
    this.fields = new Uint32Array(this.starts.length)
    this.shapes = new Uint8Array(this.starts.length)
  }

  add(start: number, distance: number, field: number, size: number, tail: number, isLea: boolean): void {
    const row = this.count++
    this.starts[row] = start
    this.distances[row] = distance
    this.fields[row] = field
    this.shapes[row] = outsideShape(size, tail, isLea)
  }

  /** The last row, if it is of the instruction at `start`, is left to the decoder. */
  leaveToDecoder(start: number): void {
    if (this.count > 0 && this.starts[this.count - 1] === start) this.fields[this.count - 1] = 0
  }

  override columns(): Column[] {
    return [this.starts, this.distances, this.fields, this.shapes]
  }

  protected override use(columns: Column[]): void {
    super.use(columns)
    this.distances = columns[1] as Float64Array
    this.fields = columns[2] as Uint32Array
    this.shapes = columns[3] as Uint8Array
  }
}

/**
 * Instructions that may join constants (of the one-byte map, a `JOINING` opcode that `joinsWith` what
 * follows), or have 4 bytes beside a base.
 */
export class Joins extends Rows {
  static readonly opcode = 0x0f
  static readonly joins = 0x10
  static readonly displaces = 0x20
  /** Bytes before the opcode, and which of both they are. */
  shapes: Uint8Array

  constructor(room: number) {
    super(room)
    this.shapes = new Uint8Array(this.starts.length)
  }

  add(start: number, opcode: number, joins: boolean, displaces: boolean): void {
    const row = this.count++
    this.starts[row] = start
    this.shapes[row] = joinShape(opcode - start, joins, displaces)
  }

  override columns(): Column[] {
    return [this.starts, this.shapes]
  }

  protected override use(columns: Column[]): void {
    super.use(columns)
    this.shapes = columns[1] as Uint8Array
  }
}

export const outsideShape = (size: number, tail: number, isLea: boolean): number =>
  size | (tail << Outside.tailShift) | (isLea ? Outside.lea : 0)

export const joinShape = (opcode: number, joins: boolean, displaces: boolean): number =>
  opcode | (joins ? Joins.joins : 0) | (displaces ? Joins.displaces : 0)
