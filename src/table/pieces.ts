/**
 * Runs of bytes at offsets of a blob, in columns: a large blob has tens of thousands of instructions that a
 * veneer stands in for.
 */

/** Bytes at an offset. */
export interface Piece {
  /** Of the first byte, in bytes from the blob's start. */
  readonly offset: number
  readonly bytes: Uint8Array
}

/** Pieces, ascending by offset, that do not overlap. */
export class Pieces implements Iterable<Piece> {
  readonly #offsets: Uint32Array
  /** Where each piece's bytes begin in `#bytes`, and behind the last where they end. */
  readonly #starts: Uint32Array
  readonly #bytes: Uint8Array

  /** @internal See `PieceBuilder` */
  constructor(offsets: Uint32Array, starts: Uint32Array, bytes: Uint8Array) {
    this.#offsets = offsets
    this.#starts = starts
    this.#bytes = bytes
  }

  static from(pieces: Iterable<Piece>): Pieces {
    const builder = new PieceBuilder()
    for (const { offset, bytes } of pieces) builder.add(offset, bytes)
    return builder.finish()
  }

  get length(): number {
    return this.#offsets.length
  }
  /** Of piece `i`: its first offset, and the one behind its last. */
  start(i: number): number {
    return this.#offsets[i]
  }
  end(i: number): number {
    return this.#offsets[i] + this.#starts[i + 1] - this.#starts[i]
  }

  *[Symbol.iterator](): Generator<Piece> {
    for (let i = 0; i < this.length; i++)
      yield { offset: this.#offsets[i], bytes: this.#bytes.subarray(this.#starts[i], this.#starts[i + 1]) }
  }

  /** Writes every piece to its place in a blob. */
  writeTo(blob: Uint8Array): void {
    const [offsets, starts, bytes] = [this.#offsets, this.#starts, this.#bytes]
    for (let i = 0, k = 0; i < offsets.length; i++)
      for (let at = offsets[i], end = starts[i + 1]; k < end; k++) blob[at++] = bytes[k]
  }

  /** What `blob` has in their places. */
  readFrom(blob: Uint8Array): Pieces {
    const [offsets, starts, bytes] = [this.#offsets, this.#starts, new Uint8Array(this.#bytes.length)]
    for (let i = 0, k = 0; i < offsets.length; i++)
      for (let at = offsets[i], end = starts[i + 1]; k < end; k++) bytes[k] = blob[at++]
    return new Pieces(offsets, starts, bytes)
  }
}

/** Collects pieces in any order. */
export class PieceBuilder {
  #count = 0
  #offsets = new Uint32Array(64)
  #starts = new Uint32Array(65)
  #bytes = new Uint8Array(256)
  #size = 0
  #last = 0
  #isAscending = true

  get length(): number {
    return this.#count
  }
  /** Of the piece that was added as number `i`: its first offset, and the one behind its last. */
  start(i: number): number {
    return this.#offsets[i]
  }
  end(i: number): number {
    return this.#offsets[i] + this.#starts[i + 1] - this.#starts[i]
  }

  /** Bytes so far: where those of the next piece begin. */
  get size(): number {
    return this.#size
  }

  /** The bytes so far, to be changed in place; not to be kept, as they move when more come. */
  get bytes(): Uint8Array {
    return this.#bytes
  }

  /** Adds `bytes` at `offset` of the blob. */
  add(offset: number, bytes: Uint8Array): void {
    this.#append(offset, bytes, 0, bytes.length)
  }

  /** Adds [start, end) of a blob, at that offset. */
  copy(blob: Uint8Array, start: number, end: number): void {
    this.#append(start, blob, start, end)
  }

  #append(offset: number, from: Uint8Array, first: number, last: number): void {
    const start = this.#size - first
    const end = start + last
    if (end > this.#bytes.length) this.#grow(end)
    const into = this.#bytes
    for (let i = first; i < last; i++) into[start + i] = from[i]
    if (offset < this.#last) this.#isAscending = false
    this.#last = offset
    this.#size = end
    if (this.#count === this.#offsets.length) this.#growColumns()
    this.#offsets[this.#count++] = offset
    this.#starts[this.#count] = end
  }

  #grow(least: number): void {
    const larger = new Uint8Array(2 * least)
    larger.set(this.#bytes)
    this.#bytes = larger
  }

  #growColumns(): void {
    const offsets = new Uint32Array(2 * this.#offsets.length)
    offsets.set(this.#offsets)
    const starts = new Uint32Array(offsets.length + 1)
    starts.set(this.#starts)
    this.#offsets = offsets
    this.#starts = starts
  }

  finish(): Pieces {
    const bytes = this.#bytes.slice(0, this.#size)
    const pieces = new Pieces(
      this.#offsets.slice(0, this.#count),
      this.#starts.slice(0, this.#count + 1),
      bytes,
    )
    if (this.#isAscending) return pieces
    return Pieces.from([...pieces].sort((a, b) => a.offset - b.offset))
  }
}
