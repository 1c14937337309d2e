/**
 * Asks iced for every opcode of every map under every prefix class, and writes down each answer as a leaf.
 *
 * Nothing here knows an instruction. What is assumed, and checked by `fuzz-decoder.ts`: validity depends on
 * opcode, key, and context (see src/x86/layout.ts), for VEX and EVEX also on vvvv and on the register bits, each
 * on its own; layout depends on the opcode and on memory or register alone; register numbers that must
 * differ are those that iced's opcode information names.
 */
import { evexPage, Layout, legacyPage, ROW_KEYS, Unique, vexPage, xopPage } from '../../src/x86/layout.ts'
import { describe, uniqueOf } from './describe.ts'
import { bits, FORM_KEYS, isMemory, KEYS, modrmOf, otherVvvv, regOf, sibOf } from './keys.ts'
import { Prober } from './probe.ts'

/** One behaviour; equal leaves are one. */
export interface Leaf {
  readonly layout: number
  /** Valid contexts, one bit each. */
  readonly contexts: number
  /** Valid values of V'vvvv (VEX and XOP: 16, EVEX: 32), one bit each. */
  readonly vvvv: number
  /** EVEX: valid values of R' R X B as a number of 4 bits (B is bit 0). */
  readonly registers: number
}

/** Pages of 256 x 72 leaf numbers; a page that is not there has no instruction. */
export type Grid = ReadonlyMap<number, Uint16Array>

/** Numbers equal leaves once, for every grid. */
export class LeafStore {
  readonly leaves: Leaf[] = []
  readonly #ids = new Map<string, number>()

  constructor() {
    this.add({ layout: 0, contexts: 0, vvvv: 0, registers: 0 })
  }

  add(leaf: Leaf): number {
    const key = `${leaf.layout},${leaf.contexts},${leaf.vvvv},${leaf.registers}`
    let id = this.#ids.get(key)
    if (id === undefined) {
      id = this.leaves.push(leaf) - 1
      this.#ids.set(key, id)
    }
    return id
  }
}

const LEGACY_MAPS: readonly (readonly number[])[] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]]
/** Bits p66, f3, f2 and the prefixes that set them. */
const PREFIX_CLASSES: readonly (readonly [number, readonly number[]])[] = [
  [0, []],
  [1, [0x66]],
  [2, [0xf3]],
  [4, [0xf2]],
  [3, [0x66, 0xf3]],
  [5, [0x66, 0xf2]],
]
/** One-byte opcodes that are prefixes, escapes or begin another encoding. */
const NOT_OPCODES = new Set([
  0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x62, 0x64, 0x65, 0x66, 0x67, 0xc4, 0xc5, 0xf0, 0xf2, 0xf3,
])
for (let rex = 0x40; rex < 0x50; rex++) NOT_OPCODES.add(rex)
const isOpcode = (map: number, opcode: number): boolean =>
  map === 0 ? !NOT_OPCODES.has(opcode) : map !== 1 || (opcode !== 0x38 && opcode !== 0x3a)

export class GridBuilder {
  /** Bit n: n is a 3DNow! opcode. */
  suffixes = new Uint8Array(32)
  readonly #store: LeafStore
  readonly #prober: Prober
  readonly #layouts = new Map<string, number>()
  readonly #contexts = new Map<number, number>()
  readonly #parts = new Map<string, Leaf>()

  /** `options`: iced's DecoderOptions. */
  constructor(store: LeafStore, options: number) {
    this.#store = store
    this.#prober = new Prober(options)
  }

  legacyPages(): Grid {
    const pages = new Map<number, Uint16Array>()
    for (let map = 0; map < 4; map++)
      for (const [bit, prefixes] of PREFIX_CLASSES)
        for (const w of [0, 1]) pages.set(legacyPage(map, w, bit), this.#legacyPage(map, prefixes, w))
    return pages
  }

  vectorPages(): Grid {
    const pages = new Map<number, Uint16Array>()
    for (let pp = 0; pp < 4; pp++) {
      for (const map of [1, 2, 3]) pages.set(vexPage(map, pp), this.#vexPage(0xc4, map, pp))
      for (const map of [8, 9, 10]) pages.set(xopPage(map, pp), this.#vexPage(0x8f, map, pp))
      for (let map = 0; map < 8; map++)
        for (const w of [0, 1]) pages.set(evexPage(map, pp, w), this.#evexPage(map, pp, w))
    }
    return pages
  }

  free(): void {
    this.#prober.free()
  }

  #layout(code: number, memory: boolean, opcodeEnd: number, bytes: readonly number[], sib: boolean): number {
    const key = `${code},${memory}`
    let layout = this.#layouts.get(key)
    if (layout === undefined) {
      layout = this.#prober.look(bytes, (instruction, decoder) => {
        if (instruction.code !== code)
          throw new Error(`witness of code ${code} decodes as ${instruction.code}`)
        return describe(instruction, decoder, opcodeEnd, memory, sib)
      })
      this.#layouts.set(key, layout)
    }
    return layout
  }

  #legacyPage(map: number, prefixes: readonly number[], w: number): Uint16Array {
    const page = new Uint16Array(256 * ROW_KEYS)
    const rex = w === 1 ? [0x48] : []
    const encode = (opcode: number, key: number): readonly number[] => [
      opcode,
      modrmOf(key, false),
      ...(map === 1 && opcode === 0x0f ? [THREE_D_NOW] : []),
    ]
    const cells = bits(256 * ROW_KEYS).filter((i) => isOpcode(map, (i / ROW_KEYS) | 0))
    for (const i of cells)
      this.#prober.add(prefixes, rex, LEGACY_MAPS[map], encode((i / ROW_KEYS) | 0, i % ROW_KEYS))
    const codes = this.#prober.run()
    // A few are valid with 67h alone (montmul).
    const narrow = cells.filter((_, n) => codes[n] === 0)
    for (const i of narrow)
      this.#prober.add([0x67], prefixes, rex, LEGACY_MAPS[map], encode((i / ROW_KEYS) | 0, i % ROW_KEYS))
    const narrowCodes = this.#prober.run()
    const found = [
      ...cells.map((i, n) => ({ i, code: codes[n], address: [] as number[] })),
      ...narrow.map((i, n) => ({ i, code: narrowCodes[n], address: [0x67] })),
    ].filter(({ code }) => code !== 0)
    const contexts = this.#legacyContexts(found, map, prefixes, w, encode)
    for (const { i, code, address } of found) {
      const opcode = (i / ROW_KEYS) | 0
      const key = i % ROW_KEYS
      // With a ModRM byte of 8 or more in its low five bits, 8F begins an XOP encoding.
      if (map === 0 && opcode === 0x8f && (modrmOf(key, false) & 0x1f) >= 8) continue
      const before = [...address, ...prefixes, ...rex, ...LEGACY_MAPS[map]]
      const bytes = [...before, ...encode(opcode, key)]
      const opcodeEnd = before.length + 1
      let layout = this.#layout(code, isMemory(key), opcodeEnd, bytes, false)
      if (map === 1 && opcode === 0x0f) {
        layout |= Layout.suffix
        this.#probeSuffixes(prefixes, rex)
      }
      page[i] = this.#store.add({
        layout,
        contexts: contexts.get(contextKey(code, key))!,
        vvvv: 0,
        registers: 0,
      })
    }
    return page
  }

  /** Contexts of every code and reg in which it is valid; found once a code. */
  #legacyContexts(
    found: readonly { readonly i: number; readonly code: number }[],
    map: number,
    prefixes: readonly number[],
    w: number,
    encode: (opcode: number, key: number) => readonly number[],
  ): ReadonlyMap<number, number> {
    const asked: number[] = []
    for (const { i, code } of found) {
      const id = contextKey(code, i % ROW_KEYS)
      if (this.#contexts.has(id)) continue
      this.#contexts.set(id, 0)
      asked.push(id)
      for (const context of bits(32)) {
        const rex = ((context & 2) << 1) | ((context & 4) >> 1) | ((context & 8) >> 3) | (w << 3)
        this.#prober.add(
          (context & 1) !== 0 ? [0xf0] : [],
          (context & 16) !== 0 ? [0x67] : [],
          prefixes,
          rex === 0 ? [] : [0x40 | rex],
          LEGACY_MAPS[map],
          encode((i / ROW_KEYS) | 0, i % ROW_KEYS),
        )
      }
    }
    const valid = this.#prober.run()
    asked.forEach((id, n) => {
      this.#contexts.set(id, maskOf(valid.subarray(n * 32, n * 32 + 32)))
    })
    return this.#contexts
  }

  #probeSuffixes(prefixes: readonly number[], rex: readonly number[]): void {
    for (const suffix of bits(256)) this.#prober.add(prefixes, rex, [0x0f, 0x0f, 0xc0, suffix])
    const codes = this.#prober.run()
    const found = new Uint8Array(32)
    for (const suffix of bits(256)) if (codes[suffix] !== 0) found[suffix >> 3] |= 1 << (suffix & 7)
    this.suffixes = found
  }

  /** VEX (escape c4) and XOP (8f). */
  #vexPage(lead: number, map: number, pp: number): Uint16Array {
    const page = new Uint16Array(256 * ROW_KEYS)
    const encode = (opcode: number, key: number, context: number, vvvv: number, sib: boolean): number[] => [
      lead,
      map | ((~context & 4) << 5) | ((~context & 8) << 3) | ((~context & 16) << 1),
      ((context & 2) << 6) | ((~vvvv & 15) << 3) | ((context & 1) << 2) | pp,
      opcode,
      modrmOf(key, sib),
      ...(sib && isMemory(key) ? [sibOf(key)] : []),
    ]
    const probe = (opcode: number, key: number): void => {
      for (const vvvv of [0, otherVvvv(key)])
        for (const lw of bits(4)) this.#prober.add(encode(opcode, key, lw, vvvv, true))
    }
    const cells = this.#opcodes(probe).flatMap((opcode) => KEYS.map((key) => opcode * ROW_KEYS + key))
    for (const i of cells) probe((i / ROW_KEYS) | 0, i % ROW_KEYS)
    const codes = this.#prober.run()
    for (const [at, i] of cells.entries()) {
      const opcode = (i / ROW_KEYS) | 0
      const key = i % ROW_KEYS
      const witnesses = bits(8)
        .map((n) => ({ code: codes[at * 8 + n], lw: n & 3, vvvv: n < 4 ? 0 : otherVvvv(key) }))
        .filter(
          ({ code, lw }, n, all) => code !== 0 && all.findIndex((w) => w.code !== 0 && w.lw === lw) === n,
        )
      if (witnesses.length === 0) continue
      const parts = witnesses.map(({ code, lw, vvvv }) => ({
        ...this.#part(`${code},${isMemory(key) ? key : 8 + regOf(key)}`, () =>
          this.#vexPart(code, key, vvvv, (rxb, v, sib) => encode(opcode, key, lw | (rxb << 2), v, sib)),
        ),
        lw,
      }))
      const { layout, vvvv } = parts[0]
      let contexts = 0
      for (const part of parts) {
        if (part.layout !== layout || part.vvvv !== vvvv)
          throw new Error(`VEX/XOP ${lead} map ${map} pp ${pp} opcode ${opcode} key ${key}: contexts differ`)
        contexts |= part.contexts << part.lw
      }
      page[i] = this.#store.add({ layout, contexts, vvvv, registers: 0 })
    }
    return page
  }

  /** The opcodes of which some probe is valid, for one key of each memory and register form. */
  #opcodes(probe: (opcode: number, key: number) => void): readonly number[] {
    for (const opcode of bits(256)) for (const key of FORM_KEYS) probe(opcode, key)
    const codes = this.#prober.run()
    const each = codes.length / 256
    return bits(256).filter((opcode) =>
      codes.subarray(opcode * each, (opcode + 1) * each).some((code) => code !== 0),
    )
  }

  /** A leaf that is found once and kept. */
  #part(id: string, find: () => Leaf): Leaf {
    let part = this.#parts.get(id)
    if (part === undefined) {
      part = find()
      this.#parts.set(id, part)
    }
    return part
  }

  /** One VEX or XOP code: its valid R, X, B (as contexts with L = W = 0) and vvvv. */
  #vexPart(
    code: number,
    key: number,
    vvvv: number,
    encode: (rxb: number, vvvv: number, sib: boolean) => number[],
  ): Leaf {
    for (const rxb of bits(8)) this.#prober.add(encode(rxb, vvvv, true))
    for (const v of bits(16)) this.#prober.add(encode(0, v, true))
    this.#prober.add(encode(0, vvvv, false))
    const answers = this.#prober.run()
    let contexts = 0
    for (const rxb of bits(8)) if (answers[rxb] !== 0) contexts |= 1 << (rxb << 2)
    const mask = maskOf(answers.subarray(8, 24))
    let layout = this.#layout(code, isMemory(key), 4, encode(0, vvvv, true), isMemory(key))
    if (isMemory(key) && answers[24] === 0) layout |= Layout.needsSib
    return { layout, contexts, vvvv: withoutConflicts(code, mask, 0xffff), registers: 0 }
  }

  #evexPage(map: number, pp: number, w: number): Uint16Array {
    const page = new Uint16Array(256 * ROW_KEYS)
    const encode = (
      opcode: number,
      key: number,
      context: number,
      vvvv: number,
      registers: number,
      sib: boolean,
    ): number[] => [
      0x62,
      map |
        ((~registers & 8) << 1) |
        ((~registers & 4) << 5) |
        ((~registers & 2) << 5) |
        ((~registers & 1) << 5),
      (w << 7) | ((~vvvv & 15) << 3) | 4 | pp,
      ((context & 8) << 4) |
        ((context & 3) << 5) |
        ((context & 4) << 2) |
        ((~vvvv & 16) >> 1) |
        ((context & 16) >> 4),
      opcode,
      modrmOf(key, sib),
      ...(sib && isMemory(key) ? [sibOf(key)] : []),
    ]
    const opcodes = this.#opcodes((opcode, key) => {
      // Without mask, and the widest form with one.
      for (const context of [0, 2, 18])
        for (const vvvv of [0, otherVvvv(key)]) this.#prober.add(encode(opcode, key, context, vvvv, 0, true))
    })
    for (const i of opcodes.flatMap((opcode) => FORM_KEYS.map((key) => opcode * ROW_KEYS + key))) {
      const opcode = (i / ROW_KEYS) | 0
      const key = i % ROW_KEYS
      const memory = isMemory(key)
      for (const vvvv of [0, otherVvvv(key)])
        for (const context of bits(32)) this.#prober.add(encode(opcode, key, context, vvvv, 0, true))
      const codes = this.#prober.run()
      let contexts = 0
      let leaf: Leaf | undefined
      for (const context of bits(32)) {
        const at = codes[context] !== 0 ? context : context + 32
        const code = codes[at]
        if (code === 0) continue
        contexts |= 1 << context
        const vvvv = at < 32 ? 0 : otherVvvv(key)
        const part = this.#part(`${code},${memory ? key : 8 + regOf(key)}`, () =>
          this.#evexPart(code, key, vvvv, (v, registers, sib) =>
            encode(opcode, key, context, v, registers, sib),
          ),
        )
        if (leaf !== undefined && part.layout !== leaf.layout)
          throw new Error(`EVEX map ${map} pp ${pp} W ${w} opcode ${opcode} key ${key}: layouts differ`)
        if (leaf !== undefined && (part.vvvv !== leaf.vvvv || part.registers !== leaf.registers))
          throw new Error(`EVEX map ${map} pp ${pp} W ${w} opcode ${opcode} key ${key}: registers differ`)
        leaf = part
      }
      if (leaf === undefined) continue
      const number = this.#store.add({ ...leaf, contexts })
      const row = opcode * ROW_KEYS
      if (memory) page[row + key] = number
      // No EVEX instruction depends on the register in rm, so one key stands for eight.
      else page.fill(number, row + 8 + regOf(key) * 8, row + 16 + regOf(key) * 8)
    }
    return page
  }

  /** One EVEX code: its valid V'vvvv and R' R X B. */
  #evexPart(
    code: number,
    key: number,
    vvvv: number,
    encode: (vvvv: number, registers: number, sib: boolean) => number[],
  ): Leaf {
    for (const v of bits(32)) this.#prober.add(encode(v, 0, true))
    for (const registers of bits(16)) this.#prober.add(encode(vvvv, registers, true))
    this.#prober.add(encode(vvvv, 0, false))
    const answers = this.#prober.run()
    let layout = this.#layout(code, isMemory(key), 5, encode(vvvv, 0, true), isMemory(key))
    if (isMemory(key) && answers[48] === 0) layout |= Layout.needsSib
    const mask = withoutConflicts(code, maskOf(answers.subarray(0, 32)), -1)
    return { layout, contexts: 0, vvvv: mask, registers: maskOf(answers.subarray(32, 48)) }
  }
}

/** One bit for each code that is valid. */
function maskOf(codes: Uint16Array): number {
  let mask = 0
  codes.forEach((code, i) => {
    if (code !== 0) mask |= 1 << i
  })
  return mask
}

/** pfadd: a 3DNow! opcode to find the cells with. */
const THREE_D_NOW = 0x9e

/** Codes and reg fields: what the legacy contexts depend on. */
const contextKey = (code: number, key: number): number => code * 16 + (isMemory(key) ? key : 8 + regOf(key))

/**
 * Where registers must differ and vvvv is one of them, the values that the probe's own registers forbid are valid
 * too: the rule says so, not the mask. (A gather without vvvv allows two values, V' being a bit of the index;
 * there are 8 tile registers.)
 */
function withoutConflicts(code: number, mask: number, all: number): number {
  if (uniqueOf(code) === Unique.none || bits(32).filter((bit) => ((mask >>> bit) & 1) !== 0).length <= 2)
    return mask
  return mask >>> 8 === 0 ? 0xff : all
}
