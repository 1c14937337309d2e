/** Which libraries and programs become cases, how they are laid out, and where they move. */
import type { CaseFacts } from './case.ts'
import type { Part } from './link.ts'

export interface Style {
  readonly kind: CaseFacts['kind']
  readonly layout: readonly Part[]
}

/** Layouts by name; the names end the case names. */
export const STYLES = {
  text: { kind: 'text-only', layout: ['text'] },
  modtext: { kind: 'text-only', layout: ['text'] },
  img: { kind: 'image', layout: ['text', 'plt', 'rodata', 'data', 'bss'] },
  imgall: {
    kind: 'image',
    layout: ['text', 'plt', 'rodata', 'lrodata', 'data', 'ldata', 'bss', 'lbss'],
  },
  imgeh: { kind: 'image', layout: ['text', 'plt', 'rodata', 'eh', 'data', 'bss'] },
  rdimg: { kind: 'image', layout: ['rodata', 'text', 'plt', 'data', 'bss'] },
  modimg: { kind: 'image', layout: ['text', 'rodata', 'data', 'bss'] },
  textro: { kind: 'data-in-text', layout: ['text', 'rodata'] },
  rotext: { kind: 'data-in-text', layout: ['rodata', 'text'] },
  mixed: { kind: 'data-in-text', layout: ['textrodata'] },
  onefn: { kind: 'one-function-out', layout: [] },
} as const satisfies Readonly<Record<string, Style>>

/** [from, to, where the rest stays]. */
export const PLACES = {
  low: [0x400000n, 0x7000000n, 0x10000000n],
  lowUp: [0x400000n, 0x31400000n, 0x20000000n],
  tiny: [0x10000n, 0x20010000n, 0x40000000n],
  down: [0x7ff00000n, 0x1000000n, 0x40000000n],
  overlap: [0x400000n, 0x401000n, 0x10000000n],
  nudge: [0x401000n, 0x401040n, 0x8000000n],
  pe: [0x140000000n, 0x190000000n, 0x170000000n],
  pe1: [0x140001000n, 0x1a0001000n, 0x170000000n],
  peDown: [0x180000000n, 0x140001000n, 0x160000000n],
  peNudge: [0x140001000n, 0x140000fc0n, 0x160000000n],
  pie: [0x555555555000n, 0x5555a0000000n, 0x555580000000n],
  lib: [0x7ffff6c00000n, 0x7fff88000000n, 0x7fffc0000000n],
  libUp: [0x7f5a3c200000n, 0x7f5a5d371240n, 0x7f5a70000000n],
  kernel: [0xffffffff81000000n, 0xffffffff92200000n, 0xffffffffa0000000n],
  module: [0xffffffffc0100000n, 0xffffffffa0345000n, 0xffffffffe0000000n],
  far: [0x7f1234560000n, 0x10000n, 0x300000000000n],
  farUp: [0x700000000n, 0x800001000n, 0x300000000000n],
  pack: [0x7f0050000000n, 0x7f0079500000n, 0x7f0040000000n],
  packLow: [0x8000000n, 0x41000000n, 0x20000000n],
  packFar: [0x700000000n, 0x6f0000000000n, 0x300000000000n],
} as const satisfies Readonly<Record<string, readonly [bigint, bigint, bigint]>>

export interface CaseRecipe {
  readonly style: keyof typeof STYLES
  readonly place: keyof typeof PLACES
  readonly suffix?: string
  /** Only objects whose file name matches move; the others are the rest of the program and stay. */
  readonly moving?: RegExp
  readonly ldFlags?: readonly string[]
  /** Functions of a pack. */
  readonly count?: number
  readonly notes?: string
}

export interface Origin {
  readonly id: string
  readonly origin: string
  readonly language: string
  readonly license: string
  readonly compiler: string
  readonly codeModel: string
  /** Shell patterns of archives; `members` filters by member name. */
  readonly archives?: readonly string[]
  readonly members?: RegExp
  /** Objects are taken in order while their code fits. */
  readonly maxCode?: number
  /** A bash script that leaves objects (`*.o`) or archives in its directory; `$SRC` is pairs/programs. */
  readonly build?: string
  readonly notes?: string
  readonly cases: readonly CaseRecipe[]
}

/** A case of an origin: style, place and what is special. */
export function at(
  style: CaseRecipe['style'],
  place: CaseRecipe['place'],
  more: Omit<CaseRecipe, 'style' | 'place'> = {},
): CaseRecipe {
  return { style, place, ...more }
}
