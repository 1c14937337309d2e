/** What a word of data looks like beside what stands before it. */
import { describe, expect, it } from 'vitest'
import { wordLooks } from '../../src/analyze/looks.ts'

/** Evidence of the word `low` behind `before`. */
function looks(before: readonly number[], low: number): number {
  const view = new DataView(new ArrayBuffer(before.length + 8))
  for (const [i, byte] of before.entries()) view.setUint8(i, byte)
  view.setUint32(before.length, low, true)
  return wordLooks(view, before.length, low, 0, true)
}

const bytes = (text: string): number[] => Array.from(text, (letter) => letter.charCodeAt(0))

describe('a word behind text', () => {
  const NAME = 'EInvalidName'

  it('is the end of a text that ends with a zero', () => {
    expect(looks([0, ...bytes(NAME)], 0x49_3158)).toBe(-10)
  })

  it('is no text where the text before is counted and complete', () => {
    expect(looks([NAME.length, ...bytes(NAME)], 0x49_3158)).toBe(0)
  })

  it('is text where the count says that it goes on', () => {
    expect(looks([NAME.length + 3, ...bytes(NAME)], 0x49_3158)).toBe(-10)
  })
})

describe('a word of two small 16-bit numbers', () => {
  it('is the end of a text in UTF-16, and of a table of such numbers', () => {
    expect(looks(bytes('T\0E\0X\0T\0'), 0x43_0053)).toBe(-10)
    expect(looks([0x62, 0, 4, 0, 5, 0, 0x20, 0], 0x48_0040)).toBe(-10)
    expect(looks([0, 0, 0, 0, 0x48, 0, 0x54, 0], 0x4c_004d)).toBe(-5)
  })

  it('may be an address behind another address', () => {
    expect(looks([0x40, 0, 0x48, 0, 0, 0, 0, 0], 0x48_0050)).toBe(0)
  })
})
