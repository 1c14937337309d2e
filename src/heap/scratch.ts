/**
 * Memory in which images are made before anybody else sees them; kept from one transaction to the next, since
 * fresh pages cost as much as a copy.
 */
export class Scratch {
  bytes: Uint8Array = new Uint8Array(0)
  view: DataView = new DataView(this.bytes.buffer)
  words: Int32Array = new Int32Array(0)

  /** Makes room for `size` bytes; what was there is gone. */
  reserve(size: number): void {
    if (size <= this.bytes.length) return
    const buffer = new ArrayBuffer(2 ** Math.ceil(Math.log2(size)))
    this.bytes = new Uint8Array(buffer)
    this.view = new DataView(buffer)
    this.words = new Int32Array(buffer)
  }
}
