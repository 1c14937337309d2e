import { describe, expect, it } from 'vitest'
import { analyze, withAnalysis } from '../../src/analyze/analyze.ts'

const BASE = 0x40_0000n
/** Distance of a section beside the blob, that its calls and loads refer to. */
const SECTION = 0x10_0000

class Writer {
  readonly bytes: number[] = []

  add(...bytes: number[]): this {
    this.bytes.push(...bytes)
    return this
  }

  /** A 32-bit field for `target`, a distance from the base, at the end of an instruction. */
  relative(target: number): this {
    return this.word(target - this.bytes.length - 4)
  }

  word(value: number): this {
    return this.add(value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24)
  }

  /** Code that a compiler could have made and that leaves rbx alone. */
  fill(bytes: number): this {
    for (const end = this.bytes.length + bytes; this.bytes.length < end; )
      this.add(0x48, 0x8b, 0x47, 0x08, 0x48, 0x01, 0xf0, 0x48, 0x89, 0x47, 0x08, 0xe8).relative(
        SECTION + (end & 0xff),
      )
    return this
  }
}

describe('a label that only the careful reading finds', () => {
  const code = new Writer().fill(1200)
  // jmp over the first byte of a call; lea rbx,[rip+label], which the linear reading takes for the rest of that.
  code.add(0xeb, 0x01, 0xe8, 0x48, 0x8d, 0x1d)
  const label = code.bytes.length + 4
  code.word(0).fill(3000)
  // movzx eax,byte [rbx+rcx+section-label]
  const use = code.add(0x0f, 0xb6, 0x84, 0x0b).bytes.length
  const bytes = Uint8Array.from(
    code
      .word(SECTION - label)
      .fill(600)
      .add(0xc3).bytes,
  )

  it.each(['tables', 'iced'] as const)('is used behind its zone (%s)', (decoder) => {
    withAnalysis(bytes, { base: BASE, decoder }, ({ map }) => {
      expect(map.bits.has(label - 7)).toBe(true)
      expect(map.zones.some((bound, i) => (i & 1) === 1 && bound > label && bound < use)).toBe(true)
    })
    const site = analyze(bytes, { base: BASE, decoder })
      .sites()
      .find(({ offset }) => offset === use)
    expect(site).toMatchObject({ kind: 'diff32', target: BASE + BigInt(SECTION) })
  })
})
