/**
 * Values of 64 bits, each once, numbered as they come. A hash of their halves: a `Map` takes several times as
 * long for a bigint.
 */
export class Literals {
  #count = 0
  /** By number. */
  #values: BigUint64Array<ArrayBuffer> = new BigUint64Array(64)
  #halves: Uint32Array<ArrayBuffer> = new Uint32Array(this.#values.buffer)
  /** Number + 1 by hash, 0 where free: a power of two of them, at most half in use. */
  #slots: Uint32Array<ArrayBuffer> = new Uint32Array(128)

  get length(): number {
    return this.#count
  }
  valueOf(number: number): bigint {
    return this.#values[number]
  }

  /** The number of `value`, which is a new one where `length` has grown. */
  numberOf(value: bigint): number {
    if (this.#count === this.#values.length) this.#grow()
    const [halves, slots, next] = [this.#halves, this.#slots, this.#count]
    // Where the next one will stand the value is taken apart.
    this.#values[next] = value
    const [low, high] = [halves[2 * next], halves[2 * next + 1]]
    let slot = hash(low, high) & (slots.length - 1)
    for (let held = slots[slot]; held !== 0; held = slots[slot]) {
      if (halves[2 * held - 2] === low && halves[2 * held - 1] === high) return held - 1
      slot = (slot + 1) & (slots.length - 1)
    }
    slots[slot] = ++this.#count
    return next
  }

  #grow(): void {
    const values = new BigUint64Array(2 * this.#values.length)
    values.set(this.#values)
    const halves = new Uint32Array(values.buffer)
    const slots = new Uint32Array(2 * this.#slots.length)
    for (let i = 0; i < this.#count; i++) {
      let slot = hash(halves[2 * i], halves[2 * i + 1]) & (slots.length - 1)
      while (slots[slot] !== 0) slot = (slot + 1) & (slots.length - 1)
      slots[slot] = i + 1
    }
    this.#values = values
    this.#halves = halves
    this.#slots = slots
  }
}

/** Fibonacci hashing; the upper bits are the good ones. */
const hash = (low: number, high: number): number => {
  const mixed = Math.imul(low ^ Math.imul(high, 0x85eb_ca6b), 0x9e37_79b1)
  return mixed ^ (mixed >>> 15)
}
