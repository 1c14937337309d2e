/**
 * Random encodings, built cell by cell: a cell is a page (map and prefix class), an opcode and a ModRM form, so
 * that every one of them is met however rare it is in random bytes.
 */

/** 32-bit generator (mulberry32 by Tommy Ettinger, public domain): the same numbers for the same seed. */
export function randomNumbers(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }
}

/** ModRM forms: memory by mod, with and without SIB, without base, RIP-relative; register. */
export const FORMS = [
  '[r]',
  '[sib]',
  '[sib no base]',
  '[rip]',
  '[r+8]',
  '[sib+8]',
  '[r+32]',
  '[sib+32]',
  'reg',
] as const

export interface PageSpec {
  readonly name: string
  readonly lead: 'legacy' | 'vex2' | 'vex3' | 'xop' | 'evex'
  readonly map: number
  /** Legacy: mandatory prefix bytes; else pp. */
  readonly prefixes: readonly number[]
  readonly pp: number
  readonly w: number
}

const PREFIXES: readonly (readonly number[])[] = [[], [0x66], [0xf3], [0xf2], [0x66, 0xf3], [0x66, 0xf2]]
const ESCAPES: readonly (readonly number[])[] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]]

/** Every map under every prefix class. */
export const PAGES: readonly PageSpec[] = [
  ...[0, 1, 2, 3].flatMap((map) =>
    PREFIXES.flatMap((prefixes) =>
      [0, 1].map(
        (w): PageSpec => ({
          name: `legacy ${map} [${prefixes}] W${w}`,
          lead: 'legacy',
          map,
          prefixes,
          pp: 0,
          w,
        }),
      ),
    ),
  ),
  ...[0, 1, 2, 3].flatMap((pp) => [
    { name: `vex2 1 pp${pp}`, lead: 'vex2', map: 1, prefixes: [], pp, w: 0 } as const,
    ...[0, 1].flatMap((w) => [
      ...[1, 2, 3].map(
        (map) => ({ name: `vex3 ${map} pp${pp} W${w}`, lead: 'vex3', map, prefixes: [], pp, w }) as const,
      ),
      ...[8, 9, 10].map(
        (map) => ({ name: `xop ${map} pp${pp} W${w}`, lead: 'xop', map, prefixes: [], pp, w }) as const,
      ),
      ...[1, 2, 3, 5, 6].map(
        (map) => ({ name: `evex ${map} pp${pp} W${w}`, lead: 'evex', map, prefixes: [], pp, w }) as const,
      ),
    ]),
  ]),
]

/** Cells in all: pages x opcodes x forms. */
export const CELL_COUNT: number = PAGES.length * 256 * FORMS.length

const modrmOf = (form: number, random: number): number => {
  const reg = random & 0x38
  const rm = random & 7
  const plain = rm === 4 || rm === 5 ? rm - 2 : rm
  switch (form) {
    case 0:
      return reg | plain
    case 1:
    case 2:
      return reg | 4
    case 3:
      return reg | 5
    case 4:
      return 0x40 | reg | (rm === 4 ? 5 : rm)
    case 5:
      return 0x40 | reg | 4
    case 6:
      return 0x80 | reg | (rm === 4 ? 5 : rm)
    case 7:
      return 0x80 | reg | 4
    default:
      return 0xc0 | reg | rm
  }
}

/**
 * Writes an encoding of cell `cell` into `into` at `at` (16 bytes), random where the cell leaves it open. `wild`:
 * with random bits also where they are likely to make it invalid, and with useless prefixes.
 */
export function writeEncoding(
  cell: number,
  wild: boolean,
  next: () => number,
  into: Uint8Array,
  at: number,
): void {
  const form = cell % FORMS.length
  const opcode = ((cell / FORMS.length) | 0) & 255
  const page = PAGES[(cell / FORMS.length / 256) | 0]
  for (let i = 0; i < 16; i += 4) {
    const r = next()
    into[at + i] = r
    into[at + i + 1] = r >>> 8
    into[at + i + 2] = r >>> 16
    into[at + i + 3] = r >>> 24
  }
  const r = next()
  const end = at + 16
  let p = at
  if (wild) {
    const extra = [0x2e, 0x64, 0x65, 0x67, 0xf0, 0x3e, 0x40 | (r & 15), 0x67]
    for (let n = r >>> 29; n > 3; n--) into[p++] = extra[next() & 7]
  } else if (r >>> 28 === 0) into[p++] = 0x67
  else if (r >>> 28 === 1) into[p++] = 0x64
  const modrm = modrmOf(form, r & 63)
  // Mostly no register extension, and L, vvvv, masks as most instructions want them.
  const rxb = ((r >>> 6) & 3) === 0 ? (r >>> 8) & 7 : 0
  const vvvv = ((r >>> 11) & 1) === 0 ? 0 : (r >>> 12) & 15
  const put = (byte: number): void => {
    if (p < end) into[p++] = byte
  }
  if (page.lead === 'legacy') {
    for (const byte of page.prefixes) put(byte)
    if (page.w === 1 || rxb !== 0 || ((r >>> 16) & 7) === 0) put(0x40 | (page.w << 3) | rxb)
    for (const byte of ESCAPES[page.map]) put(byte)
  } else if (page.lead === 'vex2') {
    put(0xc5)
    put(((~rxb & 4) << 5) | ((~vvvv & 15) << 3) | ((r >>> 16) & 4) | page.pp)
  } else if (page.lead === 'vex3' || page.lead === 'xop') {
    put(page.lead === 'xop' ? 0x8f : 0xc4)
    put(((~rxb & 7) << 5) | page.map)
    put((page.w << 7) | ((~vvvv & 15) << 3) | ((r >>> 16) & 4) | page.pp)
  } else {
    const high = ((r >>> 16) & 7) === 0
    const odd = wild && ((r >>> 19) & 15) === 0
    put(0x62)
    put(((~rxb & 7) << 5) | (high ? (r >>> 20) & 16 : 16) | (odd ? (r >>> 20) & 8 : 0) | page.map)
    put((page.w << 7) | ((~vvvv & 15) << 3) | (odd ? (r >>> 21) & 4 : 4) | page.pp)
    const masked = ((r >>> 22) & 1) === 0
    const b = ((r >>> 23) & 3) === 0 ? 16 : 0
    put(
      (masked && ((r >>> 25) & 1) === 0 ? 0x80 : 0) |
        (((r >>> 26) & 3) << 5) |
        b |
        (high ? (r >>> 25) & 8 : 8) |
        (masked ? (r >>> 28) & 7 : 0),
    )
  }
  put(opcode)
  if (page.lead === 'legacy' && page.map === 1 && opcode === 0x0f) {
    put(modrm | 0xc0)
    return
  }
  put(modrm)
  if ((form === 1 || form === 2 || form === 5 || form === 7) && p < end) {
    if (form === 2) into[p] = (into[p] & 0xf8) | 5
    else if (form === 1 && (into[p] & 7) === 5) into[p] ^= 1
  }
}
