/** Asks iced about many short encodings at once. */
import { Decoder, type DecoderOptions, Instruction } from 'iced-x86'

/** Bytes a probe may have. */
export const SLOT = 16

/** Collects encodings and decodes them all in one go: a Decoder per probe would cost ten times as much. */
export class Prober {
  readonly #options: DecoderOptions
  #bytes = new Uint8Array(1 << 16)
  #count = 0
  readonly #instruction = new Instruction()

  constructor(options: DecoderOptions) {
    this.#options = options
  }

  /** Adds an encoding; the slot's remaining bytes are zeros. */
  add(...parts: readonly (readonly number[])[]): void {
    if ((this.#count + 1) * SLOT > this.#bytes.length) {
      const larger = new Uint8Array(this.#bytes.length * 2)
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    let at = this.#count++ * SLOT
    const end = at + SLOT
    for (const part of parts) for (const byte of part) this.#bytes[at++] = byte
    this.#bytes.fill(0, at, end)
  }

  /** iced's code of each encoding added since the last call, 0 (`Code.INVALID`) where it is none. */
  run(): Uint16Array {
    const codes = new Uint16Array(this.#count)
    const decoder = new Decoder(64, this.#bytes.subarray(0, this.#count * SLOT), this.#options)
    for (let i = 0; i < codes.length; i++) {
      decoder.position = i * SLOT
      decoder.decodeOut(this.#instruction)
      codes[i] = this.#instruction.code
    }
    decoder.free()
    this.#count = 0
    return codes
  }

  /** Decodes one encoding and hands it over; nothing of it may be kept. */
  look<T>(bytes: readonly number[], use: (instruction: Instruction, decoder: Decoder) => T): T {
    const slot = new Uint8Array(SLOT)
    slot.set(bytes)
    const decoder = new Decoder(64, slot, this.#options)
    try {
      decoder.decodeOut(this.#instruction)
      return use(this.#instruction, decoder)
    } finally {
      decoder.free()
    }
  }

  free(): void {
    this.#instruction.free()
  }
}
