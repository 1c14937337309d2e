/** Exception tables in raw bytes: the pointers in them are sites, each as wide and as relative as its table says. */
import { describe, expect, it } from 'vitest'
import { analyze } from '../../src/analyze/analyze.ts'
import { findFrames } from '../../src/analyze/frames.ts'

const BASE = 0x40_0000n
const SIZE = 0x1000
/** A function of 16 bytes, at the start. */
const CODE = [0x55, 0x48, 0x89, 0xe5, 0xe8, 0x00, 0x00, 0x00, 0x00, 0x31, 0xc0, 0x5d, 0xc3, 0xcc, 0xcc, 0xcc]

const CIE = 0x800
const FDE = CIE + 28
const LSDA = 0x840

/**
 * A blob with an .eh_frame whose code pointers are relative (1b), its personality and language data pointers
 * encoded as said.
 */
function blob(encoding: number, types: number): Uint8Array {
  const bytes = new Uint8Array(SIZE)
  const view = new DataView(bytes.buffer)
  for (let at = 0; at < CIE; at += 16) bytes.set(CODE, at)
  const pointer = (at: number, how: number, target: bigint): void => {
    view.setUint32(at, Number(how & 0x10 ? BigInt.asUintN(32, target - BASE - BigInt(at)) : target), true)
  }
  // length, id, version, "zPLR", factors, register, 7 bytes of augmentation
  view.setUint32(CIE, 24, true)
  bytes.set([1, 0x7a, 0x50, 0x4c, 0x52, 0, 1, 0x78, 16, 7, encoding], CIE + 8)
  pointer(CIE + 19, encoding, BASE + 0x10n)
  bytes.set([encoding, 0x1b], CIE + 23)
  view.setUint32(FDE, 24, true)
  view.setUint32(FDE + 4, FDE + 4 - CIE, true)
  pointer(FDE + 8, 0x1b, BASE)
  view.setUint32(FDE + 12, 16, true)
  bytes[FDE + 16] = 4
  pointer(FDE + 17, encoding, BASE + BigInt(LSDA))
  // no landing pad base; types, 14 bytes to their end; one call site: 4, 5, 9, action 1; that is filter 1
  bytes.set([0xff, types, 14, 0x01, 4, 4, 5, 9, 1, 1, 0], LSDA)
  pointer(LSDA + 13, types, 0x5000_0000n)
  return bytes
}

/** Offset, kind and target of what analysis finds in the tables. */
const found = (bytes: Uint8Array): unknown[] =>
  analyze(bytes, { base: BASE })
    .sites()
    .filter(({ offset }) => offset >= CIE)
    .map(({ offset, kind, target }) => [offset, kind, target])

describe('exception tables', () => {
  it('relative pointers: only the type that lies outside changes', () => {
    expect(found(blob(0x1b, 0x9b))).toEqual([[LSDA + 13, 'diff32', 0x5000_0000n]])
  })

  it('absolute pointers of 4 bytes, unaligned ones: personality and language data', () => {
    expect(found(blob(0x03, 0x03))).toEqual([
      [CIE + 19, 'abs32', BASE + 0x10n],
      [FDE + 17, 'abs32', BASE + BigInt(LSDA)],
    ])
  })

  it("a signal's frame says nothing about where code starts: its range has the byte before", () => {
    const functionsOf = (letters: string): readonly number[] => {
      const bytes = new Uint8Array(0x100)
      const view = new DataView(bytes.buffer)
      const cie = [1, ...Buffer.from(letters), 0, 1, 0x78, 16, 1, 0x1b]
      view.setUint32(0x80, 20, true)
      bytes.set(cie, 0x88)
      const fde = 0x80 + 24
      view.setUint32(fde, 16, true)
      view.setUint32(fde + 4, fde + 4 - 0x80, true)
      view.setInt32(fde + 8, 0x0f - (fde + 8), true)
      view.setUint32(fde + 12, 0x11, true)
      return findFrames(bytes, BASE).flatMap(({ functions }) => functions)
    }
    expect(functionsOf('zR')).toEqual([0x0f])
    expect(functionsOf('zRS')).toEqual([])
  })

  it('a damaged entry says nothing', () => {
    const bytes = blob(0x03, 0x03)
    new DataView(bytes.buffer).setUint32(FDE + 4, 0x5555, true)
    expect(found(bytes)).toEqual([])
  })

  it('language data that no entry leads to', () => {
    const bytes = blob(0x1b, 0x9b)
    bytes.fill(0, CIE, LSDA)
    expect(found(bytes)).toEqual([[LSDA + 13, 'diff32', 0x5000_0000n]])
    bytes[LSDA + 3] = 7 // a call site encoding that there is not
    expect(found(bytes)).toEqual([])
  })

  it('language data whose types would end behind the blob', () => {
    // Types of 2, 4 and 8 bytes, and their end as a number of bytes from there.
    for (const types of [0x02, 0x03, 0x04])
      for (const distance of [[0x7f], [0xff, 0x7f], [0xff, 0xff, 0xff, 0xff, 0x0f]]) {
        const bytes = new Uint8Array(64)
        bytes.set([0xff, types, ...distance, 1, 4, 0, 1, 0, 0])
        const ranges = [{ start: 0, end: bytes.length, kind: 'data' as const }]
        expect(analyze(bytes, { base: BASE, hints: { ranges } }).size).toBe(0)
      }
  })
})
