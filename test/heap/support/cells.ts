/**
 * Managed memory of cells of 8 bytes, in two halves: a collection copies all cells to the other half and
 * leaves the old ones useless.
 */
export const CELLS = 16

/** Bytes of managed memory that are needed. */
export const CELL_BYTES: number = 16 * CELLS

const GONE = 0xdead_0000_0000n

export class Cells {
  readonly #address: bigint
  readonly #view: DataView
  #half = 0

  /** @param bytes the memory at `address` */
  constructor(address: bigint, bytes: Uint8Array) {
    this.#address = address
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, CELL_BYTES)
  }

  address(cell: number): bigint {
    return this.#address + BigInt(8 * (CELLS * this.#half + cell))
  }

  get(cell: number): bigint {
    return this.#view.getBigUint64(8 * (CELLS * this.#half + cell), true)
  }

  set(cell: number, value: bigint): void {
    this.#view.setBigUint64(8 * (CELLS * this.#half + cell), value, true)
  }

  /** Where a cell at `address` goes with the next `collect`. Throws where none is. */
  forward(address: bigint): bigint {
    if (address < this.address(0) || address >= this.address(CELLS))
      throw new Error('a root that was never made')
    return address + BigInt((this.#half === 0 ? 8 : -8) * CELLS)
  }

  collect(): void {
    const values = Array.from({ length: CELLS }, (_, i) => this.get(i))
    values.forEach((_, i) => {
      this.set(i, GONE)
    })
    this.#half = 1 - this.#half
    values.forEach((value, i) => {
      this.set(i, value)
    })
  }
}
