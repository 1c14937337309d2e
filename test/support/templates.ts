/**
 * Instructions and data words with the places of their address fields: every class of branch, of operand, of encoding.
 */
import type { SiteKind } from '../../src/table/kinds.ts'

/** `<kind>` stands for a field; `lea`, `fs`: what the target's end, what the target itself moves with. */
const CODE: readonly string[] = [
  ...'0123456789abcdef'.split('').flatMap((cc) => [`7${cc} <pc8>`, `0f 8${cc} <pc32>`]),
  ...['e0', 'e1', 'e2', 'e3', '67 e3', '67 e2', 'eb', '48 74', '3e 75', '2e 7f'].map((op) => `${op} <pc8>`),
  ...['e8', 'e9', 'f2 e8', '2e e9', 'c7 f8', '40 e8'].map((op) => `${op} <pc32>`),
  '66 c7 f8 <pc16>',
  // RIP-relative, with nothing or an immediate behind.
  ...['8b 05', '48 89 0d', 'ff 15', 'ff 25', 'ff 35', '8f 05', '0f b6 05', 'dd 05', '49 8b 05'].map(
    (op) => `${op} <pc32>`,
  ),
  ...['48 8d 05', '8d 0d', '66 8d 05', '4c 8d 3d', '64 48 8d 05'].map((op) => `lea ${op} <pc32>`),
  ...['64 48 8b 05', '65 8b 0d', '65 ff 35'].map((op) => `fs ${op} <pc32>`),
  '83 3d <pc32> 07',
  '66 81 3d <pc32> 01 02',
  'f6 05 <pc32> 20',
  '48 69 05 <pc32> 01 02 03 04',
  '0f ba 25 <pc32> 07',
  '81 3d <pc32> <abs32>',
  '48 81 05 <pc32> <abs32s>',
  'c7 05 <pc32> <abs32>',
  '48 c7 05 <pc32> <abs32s>',
  // VEX, EVEX, XOP, 3DNow!.
  'c5 fb 10 05 <pc32>',
  'c4 c1 7b 10 05 <pc32>',
  'c4 e3 79 63 05 <pc32> 0c',
  '62 f1 7c 49 10 05 <pc32>',
  '62 f1 7c 58 58 05 <pc32>',
  '62 f3 75 48 25 05 <pc32> 80',
  '8f ea 78 10 05 <pc32> 01 02 03 04',
  '8f e8 78 a2 05 <pc32> 10',
  '0f 0f 05 <pc32> 9e',
  // EIP-relative.
  '67 8b 05 <eip32>',
  '67 83 3d <eip32> 07',
  '67 c5 fb 10 05 <eip32>',
  'lea 67 48 8d 05 <eip32>',
  'fs 64 67 8b 05 <eip32>',
  // Absolute.
  '48 b8 <abs64>',
  '49 bf <abs64>',
  '48 a1 <abs64>',
  'a0 <abs64>',
  '48 a3 <abs64>',
  '67 a1 <abs32>',
  'b8 <abs32>',
  '41 bf <abs32>',
  '3d <abs32>',
  '81 f9 <abs32>',
  '81 e9 <abs32>',
  'c7 04 24 <abs32>',
  '68 <abs32s>',
  '48 c7 c0 <abs32s>',
  '48 05 <abs32s>',
  '48 81 f8 <abs32s>',
  '8b 04 25 <abs32s>',
  '67 8b 04 25 <abs32>',
  'ff 24 c5 <abs32s>',
  '8b 80 <abs32s>',
  '67 8b 80 <abs32>',
  '48 63 84 8b <abs32s>',
  'c4 e2 6d 90 04 8d <abs32s>',
  '62 f1 7c 48 10 80 <abs32s>',
  '80 3c 25 <abs32s> 01',
  'c7 04 25 <abs32s> <abs32>',
  // Nothing in them.
  ...[
    '90',
    'c3',
    'cc',
    '55',
    '48 89 e5',
    '0f 05',
    '0f 0b',
    'f3 0f 1e fa',
    '66 66 2e 0f 1f 84 00 00 00 00 00',
  ],
  ...['64 48 8b 04 25 28 00 00 00', 'ff e0', '83 c0 01', '48 83 c4 08', 'c8 10 00 01', 'c2 08 00', 'f3 a4'],
  ...['f0 48 0f b1 0e', 'c5 f8 77', '62 f1 7c 48 28 c1', '8b 40 08', '48 8b 44 24 10', '0f 77', 'd9 ee'],
]
const DATA: readonly string[] = ['<abs64>', '<abs64>', '01 02 03 04 05 06 07 08', 'ff ff ff ff ff ff ff ff']
const DIFFERENCES: readonly string[] = [
  '<diff32> 00 00 00 00',
  '<diff32> <diff32>',
  '<diff64>',
  '<diff32u> 01 02 03 04',
]

/** One instruction or data word, its fields zero. */
export interface Template {
  readonly isLea: boolean
  readonly isOffset: boolean
  readonly isData: boolean
  readonly length: number
  readonly bytes: readonly number[]
  readonly fields: readonly { readonly at: number; readonly kind: SiteKind; readonly width: number }[]
}

const WIDTHS = {
  pc8: 1,
  pc16: 2,
  pc32: 4,
  eip32: 4,
  abs32: 4,
  abs32s: 4,
  abs64: 8,
  diff32: 4,
  diff32u: 4,
  diff64: 8,
} as const

function parseTemplate(text: string, isData: boolean): Template {
  const bytes: number[] = []
  const fields: { at: number; kind: SiteKind; width: number }[] = []
  const words = text.split(' ')
  for (const word of words) {
    const kind = /^<(\w+)>$/.exec(word)?.[1] as keyof typeof WIDTHS | undefined
    if (kind !== undefined) {
      fields.push({ at: bytes.length, kind, width: WIDTHS[kind] })
      bytes.push(...new Array<number>(WIDTHS[kind]).fill(0))
    } else if (/^[0-9a-f]{2}$/.test(word)) bytes.push(Number.parseInt(word, 16))
  }
  const [isLea, isOffset] = [words[0] === 'lea', words[0] === 'fs']
  return { isLea, isOffset, isData, length: bytes.length, bytes, fields }
}

export const CODE_TEMPLATES: readonly Template[] = CODE.map((text) => parseTemplate(text, false))
export const DATA_TEMPLATES: readonly Template[] = DATA.map((text) => parseTemplate(text, true))
export const DIFFERENCE_TEMPLATES: readonly Template[] = DIFFERENCES.map((text) => parseTemplate(text, true))
