/**
 * The machine code that breaks relocators: one line a case, bytes before, bytes after. Lines are `hex  text`; the text is held against iced at its
 * address, so an annotation cannot lie. The expected bytes are worked out by hand: a relative field to the outside loses delta, an absolute one into
 * the blob gains it, nothing else changes. Numbers in the names are those of the list of hard cases (branches 1-8, RIP-relative
 * 9-19, calls 20-21, absolute 24-26, shape 27-28).
 */
import { describe, expect, it } from 'vitest'
import { RelocError } from '../src/core/errors.ts'
import { type MoveOptions, move } from '../src/move.ts'
import { RelocationTable } from '../src/table/table.ts'
import { formatInstruction } from '../src/x86/iced.ts'

interface Case {
  readonly name: string
  /** `hex  text` a line; text that starts with `d` and a size (`dq 5`) is data and not looked at. */
  readonly before: readonly string[]
  /** Hex, or the code of the problem that refuses the move (of a warning, with `+` before it: bytes as before). */
  readonly after: string
  readonly options?: Partial<MoveOptions>
}

const FROM = 0x400000n
const TO = 0x500000n

const parse = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/[0-9a-f]{2}/g) ?? [], (byte) => Number.parseInt(byte, 16))

function assemble(lines: readonly string[], base: bigint): Uint8Array {
  const code = parse(lines.map((line) => line.split('  ')[0]).join(' '))
  let offset = 0
  for (const line of lines) {
    const [hex, text] = line.split('  ')
    if (text !== undefined && !/^d[bwdq] /.test(text))
      expect(
        formatInstruction(code, offset, base + BigInt(offset)).replace(/ (short|near)|rel |a32 /, ''),
      ).toBe(text)
    offset += parse(hex).length
  }
  return code
}

const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/(..)(?!$)/g, '$1 ')

function check({ before, after, options = {} }: Case): void {
  const settings = { from: FROM, to: TO, ...options }
  const code = assemble(before, BigInt(settings.from))
  const kept = hex(code)
  if (/^[a-z]+(-[a-z]+)+$/.test(after)) {
    let error: unknown
    try {
      move(code, settings)
    } catch (caught) {
      error = caught
    }
    expect(error).toBeInstanceOf(RelocError)
    const [problem] = (error as RelocError).problems
    expect(problem).toMatchObject({ severity: 'error', code: after })
    expect(problem.remedy).not.toBe('')
    expect(problem.address).toBe(BigInt.asUintN(64, BigInt(settings.from) + BigInt(problem.offset)))
    expect(hex(code).replaceAll(' ', '')).toContain(problem.bytes)
  } else {
    const [, warning, bytes] = /^(?:\+([a-z0-9-]+) ?)?(.*)$/.exec(after)!
    const result = move(code, settings)
    const expected = bytes === '' ? kept : bytes.replace(/ +/g, ' ')
    expect(hex(result.bytes)).toBe(expected)
    const codes = result.problems.map((problem) => problem.code)
    expect(codes).toEqual(warning === undefined ? [] : [warning])
    // And back.
    expect(
      hex(
        move(result.bytes, { ...settings, from: settings.to, to: settings.from, table: result.table }).bytes,
      ),
    ).toBe(kept)
  }
  expect(hex(code)).toBe(kept)
}

const run = (cases: readonly Case[]): void => {
  it.each(cases.map((one) => [one.name, one] as const))('%s', (_, one) => check(one))
}

const near = { to: FROM + 0x10n }

describe('branches', () => {
  run([
    {
      name: '1 jecxz keeps its 67 and its reach',
      before: ['67 e3 40  jecxz 0x400043', 'c3  ret'],
      after: '67 e3 30 c3',
      options: near,
    },
    { name: '1 jecxz too far', before: ['67 e3 40  jecxz 0x400043', 'c3  ret'], after: 'out-of-range' },
    {
      name: '2 loop, loope, loopne, jrcxz inside, with and without 67',
      before: ['e3 fe', '67 e3 fd', 'e2 f9', '67 e2 f6', 'e1 f4', '67 e1 f1', 'e0 00', '67 e0 ed', 'c3'],
      after: '',
    },
    {
      name: '2 loop, loope, loopne, jrcxz to the outside',
      before: ['e3 70', '67 e2 70', 'e1 70', '67 e1 70', 'e0 70', '67 e0 70', 'c3'],
      after: 'e3 60 67 e2 60 e1 60 67 e1 60 e0 60 67 e0 60 c3',
      options: near,
    },
    {
      name: '3 eb fe, e2 fe: to themselves',
      before: ['eb fe  jmp 0x400000', 'e2 fe  loop 0x400002', 'eb f0  jmp 0x3ffff6'],
      after: 'eb fe e2 fe eb e0',
      options: near,
    },
    {
      name: '4 rel8: +127 is reached',
      before: ['eb 70  jmp 0x400072'],
      after: 'eb 7f',
      options: { to: FROM - 0xfn },
    },
    { name: '4 rel8: +128 is not', before: ['eb 70'], after: 'out-of-range', options: { to: FROM - 0x10n } },
    { name: '4 rel8: -128 is reached', before: ['eb 08'], after: 'eb 80', options: { to: FROM + 0x88n } },
    { name: '4 rel8: -129 is not', before: ['eb 08'], after: 'out-of-range', options: { to: FROM + 0x89n } },
    {
      name: '4 rel32: 2^31-1 is reached',
      before: ['e9 00 00 00 00'],
      after: 'e9 ff ff ff 7f',
      options: { from: 2n ** 32n, to: 2n ** 31n + 1n },
    },
    {
      name: '4 rel32: 2^31 is not',
      before: ['e9 00 00 00 00'],
      after: 'out-of-range',
      options: { from: 2n ** 32n, to: 2n ** 31n },
    },
    {
      name: '4 rel32: -2^31 is reached',
      before: ['e9 00 00 00 00'],
      after: 'e9 00 00 00 80',
      options: { from: 2n ** 32n, to: 2n ** 32n + 2n ** 31n },
    },
    {
      name: '4 rel32: -2^31-1 is not',
      before: ['e9 00 00 00 00'],
      after: 'out-of-range',
      options: { from: 2n ** 32n, to: 2n ** 32n + 2n ** 31n + 1n },
    },
    {
      name: '5 over an opcode byte',
      before: ['eb 01  jmp 0x400003', 'b8 90 90 90 90  mov eax, 0x90909090', 'c3  ret'],
      after: '',
    },
    {
      name: '5 into its own second byte',
      before: ['eb ff  jmp 0x400001', 'c0 c3 90  rol bl, 0x90', 'c3  ret'],
      after: '',
    },
    {
      name: '5 over a lock prefix',
      before: ['74 01  je 0x400003', 'f0 0f b1 0e  lock cmpxchg [rsi], ecx', 'c3  ret'],
      after: '',
    },
    {
      name: '5 a call behind an opcode byte that is jumped over: the claimed code says so',
      before: ['eb 01  jmp 0x400003', 'b8  db 0xb8', 'e8 00 10 00 00  call 0x401008', 'c3  ret'],
      after: 'eb 01 b8 e8 f0 0f 00 00 c3',
      options: {
        ...near,
        table: RelocationTable.fromSites([{ offset: 4, kind: 'pc32' }], {
          code: parse('eb 01 b8 e8 00 10 00 00 c3'),
          base: FROM,
          runs: [
            { start: 0, end: 2 },
            { start: 3, end: 9 },
          ],
        }),
      },
    },
    {
      name: '5 the same, claimed as what a linear reading makes of it too: one of them is wrong',
      before: ['eb 01  jmp 0x400003', 'b8 e8 00 10 00  mov eax, 0x1000e8', '00 c3  add bl, al'],
      after: 'wrong-claim',
      options: {
        ...near,
        table: RelocationTable.fromSites([{ offset: 4, kind: 'pc32' }], {
          code: parse('eb 01 b8 e8 00 10 00 00 c3'),
          base: FROM,
          runs: [
            { start: 0, end: 9 },
            { start: 3, end: 9 },
          ],
        }),
      },
    },
    {
      name: '6 branch hints, BND, notrack, REX before jcc',
      before: [
        '3e 74 40  ds je 0x400043',
        '2e 75 40  cs jne 0x400046',
        'f2 e8 00 10 00 00  bnd call 0x40100c',
        'f2 74 40  bnd je 0x40004f',
        '48 74 40  je 0x400052',
        '3e ff e0  notrack jmp rax',
        'f2 e9 00 10 00 00  bnd jmp 0x40101b',
      ],
      after: '3e 74 30 2e 75 30 f2 e8 f0 0f 00 00 f2 74 30 48 74 30 3e ff e0 f2 e9 f0 0f 00 00',
      options: near,
    },
    {
      name: '6 66 e9, Intel: 32 bits, the prefix is nothing',
      before: ['66 e9 00 10 00 00  jmp 0x401006'],
      after: '+prefix-66-branch 66 e9 f0 0f 00 00',
      options: near,
    },
    {
      name: '6 66 eb, Intel',
      before: ['66 eb 40  jmp 0x400043'],
      after: '+prefix-66-branch 66 eb 30',
      options: near,
    },
    {
      name: '6 66 e9, AMD: 16 bits to a fixed place below 64 KB, kept while the low half of the base is',
      before: ['66 e9 00 10', 'c3'],
      after: '+prefix-66-branch',
      options: { cpu: 'amd', to: FROM + 0x10000n },
    },
    {
      name: '6 66 e9, AMD, to another place in 64 KB',
      before: ['66 e9 00 10', 'c3'],
      after: 'missing-site',
      options: { cpu: 'amd', ...near },
    },
    {
      name: '7 xbegin inside and outside',
      before: ['c7 f8 06 00 00 00  xbegin 0x40000c', 'c7 f8 00 10 00 00  xbegin 0x40100c', 'c3  ret'],
      after: 'c7 f8 06 00 00 00 c7 f8 f0 0f 00 00 c3',
      options: near,
    },
    {
      name: '7 xbegin rel16 is not shrunk, not grown',
      before: ['66 c7 f8 00 10  xbegin 0x401005', '66 c7 f8 fb ff  xbegin 0x400005', 'c3  ret'],
      after: '66 c7 f8 f0 0f 66 c7 f8 fb ff c3',
      options: near,
    },
    {
      name: '7 xbegin rel16 beyond 32 KB',
      before: ['66 c7 f8 00 10  xbegin 0x401005', 'c3'],
      after: 'out-of-range',
      options: { to: FROM - 0x7000n },
    },
    {
      name: '7 xbegin beyond 2 GB',
      before: ['c7 f8 00 10 00 00', 'c3'],
      after: 'out-of-range',
      options: { to: 0x7f00_0000_0000n },
    },
    {
      name: '8 jmp to the kernel half, from low addresses across 0',
      before: ['e9 fb ef ff ff  jmp 0xfffffffffffff000'],
      after: 'e9 fb df ff ff',
      options: { from: 0n, to: 0x1000n },
    },
    {
      name: '8 jmp across 2^64 to low addresses',
      before: ['e9 fb 1f 00 00  jmp 0x1000'],
      after: 'e9 fb 0f 00 00',
      options: { from: -0x1000n + 2n ** 64n, to: 0n },
    },
    {
      name: '8 kernel half to kernel half',
      before: ['e9 00 00 10 00  jmp 0xffffffff81100005'],
      after: 'e9 00 f0 0f 00',
      options: { from: 0xffffffff_81000000n, to: 0xffffffff_81001000n },
    },
    {
      name: '8 target with bit 63 set from below it',
      before: ['e9 0b 10 00 00  jmp 0x8000000000000010'],
      after: 'e9 0b 20 00 00',
      options: { from: 0x7fff_ffff_ffff_f000n, to: 0x7fff_ffff_ffff_e000n },
    },
  ])

  const conditions = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g']
  const digits = conditions.map((name, i) => [name, i.toString(16)] as const)
  run(
    digits
      .map(([name, digit]) => ({
        name: `3 j${name}: to itself, to the first byte, inside, to the end, to the outside; rel8 and rel32`,
        before: [
          `7${digit} fe  j${name} 0x400000`,
          `7${digit} fc  j${name} 0x400000`,
          `7${digit} 0c  j${name} 0x400012`,
          `7${digit} 10  j${name} 0x400018`,
          `7${digit} 60  j${name} 0x40006a`,
          `0f 8${digit} 78 56 34 12  j${name} 0x12745688`,
          `0f 8${digit} fa ff ff ff  j${name} 0x400010`,
          `7${digit} 00  j${name} 0x400018`,
        ],
        after: `7${digit} fe 7${digit} fc 7${digit} 0c 7${digit} 00 7${digit} 50 0f 8${digit} 68 56 34 12 0f 8${digit} fa ff ff ff 7${digit} f0`,
        options: near,
      }))
      .map((one) => ({ ...one, after: `+falls-through ${one.after}` })),
  )
})

/** A RIP-relative instruction with `d` for its displacement: to the outside, to itself, and to the blob's end. */
const ripCase = (number: string, pattern: string, text: string): Case => {
  const [head, tail = ''] = pattern.split(/ d ?/)
  const length = parse(head).length + 4 + parse(tail).length
  const self = hex(Uint8Array.of(-length & 0xff, 0xff, 0xff, 0xff))
  const outside = (0x400000 + length + 0x10_0000).toString(16)
  return {
    name: `${number} ${text}: displacement ${tail === '' ? 'last' : 'not last'}`,
    before: [
      `${`${head} 00 00 10 00 ${tail}`.trim()}  ${text.replace('@', `0x${outside}`)}`,
      `${`${head} ${self} ${tail}`.trim()}  ${text.replace('@', `0x${(0x400000 + length).toString(16)}`)}`,
      'c3  ret',
    ],
    after: `${head} f0 ff 0f 00 ${tail} ${head} ${self} ${tail} c3`,
    options: near,
  }
}

describe('RIP-relative', () => {
  run([
    ripCase('9', '83 3d d 07', 'cmp dword [@], 7'),
    ripCase('9', '81 3d d 01 02 03 04', 'cmp dword [@], 0x4030201'),
    ripCase('9', '48 81 3d d 01 02 03 04', 'cmp qword [@], 0x4030201'),
    ripCase('9', 'c7 05 d 01 02 03 04', 'mov dword [@], 0x4030201'),
    ripCase('9', '66 81 3d d 01 02', 'cmp word [@], 0x201'),
    ripCase('9', 'f6 05 d 20', 'test byte [@], 0x20'),
    ripCase('9', '48 69 05 d 01 02 03 04', 'imul rax, [@], 0x4030201'),
    ripCase('9', '0f ba 25 d 07', 'bt dword [@], 7'),
    ripCase('9', '66 0f 3a 63 05 d 0c', 'pcmpistri xmm0, [@], 0xc'),
    ripCase('9', 'c4 e3 79 63 05 d 0c', 'vpcmpistri xmm0, [@], 0xc'),
    ripCase('9', 'c4 e3 71 4a 05 d 20', 'vblendvps xmm0, xmm1, [@], xmm2'),
    ripCase('9', '62 f3 75 48 25 05 d 80', 'vpternlogd zmm0, zmm1, [@], 0x80'),
    ripCase('9', '8f ea 78 10 05 d 01 02 03 04', 'bextr eax, [@], 0x4030201'),
    ripCase('9', '0f 0f 05 d 9e', 'pfadd mm0, [@]'),
    ripCase('10', '49 8b 05 d', 'mov rax, [@]'),
    ripCase('10', 'c4 c1 7b 10 05 d', 'vmovsd xmm0, [@]'),
    ripCase('10', '62 91 7c 48 10 05 d', 'vmovups zmm0, [@]'),
    ripCase('13', 'f7 25 d', 'mul dword [@]'),
    ripCase('13', 'f7 35 d', 'div dword [@]'),
    ripCase('13', 'f0 0f b1 0d d', 'lock cmpxchg [@], ecx'),
    ripCase('13', 'f0 48 0f c7 0d d', 'lock cmpxchg16b [@]'),
    ripCase('13', '0f ae 05 d', 'fxsave [@]'),
    ripCase('13', '0f ae 25 d', 'xsave [@]'),
    ripCase('13', '0f 01 15 d', 'lgdt [@]'),
    ripCase('13', 'c4 e2 fb f6 05 d', 'mulx rax, rax, [@]'),
    ripCase('14', 'ff 35 d', 'push qword [@]'),
    ripCase('14', '8f 05 d', 'pop qword [@]'),
    ripCase('14', 'ff 15 d', 'call qword [@]'),
    ripCase('14', 'ff 25 d', 'jmp qword [@]'),
    ripCase('14', '48 8b 25 d', 'mov rsp, [@]'),
    ripCase('14', '48 8d 25 d', 'lea rsp, [@]'),
    ripCase('14', '48 03 25 d', 'add rsp, [@]'),
    ripCase('14', '66 ff 35 d', 'push word [@]'),
    ripCase('15', '48 8d 05 d', 'lea rax, [@]'),
    ripCase('15', '8d 05 d', 'lea eax, [@]'),
    ripCase('15', '66 8d 05 d', 'lea ax, [@]'),
    ripCase('15', '64 48 8d 05 d', 'lea rax, [@]'),
    ripCase('16', 'dd 05 d', 'fld qword [@]'),
    ripCase('16', 'f3 0f 58 05 d', 'addss xmm0, [@]'),
    ripCase('16', 'c5 fb 10 05 d', 'vmovsd xmm0, [@]'),
    ripCase('16', '62 f1 7c 49 10 05 d', 'vmovups zmm0{k1}, [@]'),
    ripCase('16', '62 f1 7c 58 58 05 d', 'vaddps zmm0, zmm0, [@]{1to16}'),
    ripCase('18', 'f0 48 0f c1 05 d', 'lock xadd [@], rax'),
    ripCase('18', '66 0f 38 f8 05 d', 'movdir64b rax, [@]'),
    ripCase('18', '0f 18 0d d', 'prefetcht0 [@]'),
    ripCase('18', '0f ae 3d d', 'clflush [@]'),
    ripCase('18', '0f 1f 05 d', 'nop dword [@]'),
    ripCase('19', 'c6 05 d 90', 'mov byte [@], 0x90'),
    ripCase('19', '80 05 d 01', 'add byte [@], 1'),
    {
      name: '11 EIP-relative below 4 GB: inside, outside',
      before: [
        '67 8b 05 00 00 10 00  mov eax, [dword 0x500007]',
        '67 48 8d 05 f0 ff ff ff  lea rax, [dword 0x3fffff]',
        '67 8b 05 ea ff ff ff  mov eax, [dword 0x400000]',
        'c3  ret',
      ],
      after: '67 8b 05 f0 ff 0f 00 67 48 8d 05 e0 ff ff ff 67 8b 05 ea ff ff ff c3',
      options: near,
    },
    {
      name: '11 EIP-relative above 4 GB: a fixed place below it, whatever the distance',
      before: ['67 8b 05 00 00 10 00  mov eax, [dword 0x100007]', 'c3  ret'],
      after: '67 8b 05 00 00 10 90 c3',
      options: { from: 0x7f00_0000_0000n, to: 0x7e00_7000_0000n },
    },
    {
      name: '11 EIP-relative to the outside: from below 4 GB to above',
      before: ['67 8b 05 00 00 10 00  mov eax, [dword 0x500007]', 'c3'],
      after: '67 8b 05 00 00 50 00 c3',
      options: { to: 0x7f00_0000_0000n },
    },
    {
      name: '11 EIP-relative to the inside: cannot leave the low 4 GB',
      before: ['67 8b 05 f9 ff ff ff  mov eax, [dword 0x400000]', 'c3'],
      after: 'out-of-range',
      options: { to: 2n ** 32n },
    },
    {
      name: '11 EIP-relative to the inside: the last page below 4 GB',
      before: ['67 8b 05 f9 ff ff ff', 'c3'],
      after: '',
      options: { to: 2n ** 32n - 8n },
    },
    {
      name: '12 fs: and gs: with RIP base: an offset, kept wherever it points',
      before: [
        '64 48 8b 05 00 00 10 00  mov rax, [fs:0x500008]',
        '65 48 8b 05 f0 ff ff ff  mov rax, [gs:0x400000]',
        '64 48 8b 05 00 00 00 00  mov rax, [fs:0x400018]',
        'c3  ret',
      ],
      after: '64 48 8b 05 f0 ff 0f 00 65 48 8b 05 e0 ff ff ff 64 48 8b 05 f0 ff ff ff c3',
      options: near,
    },
    {
      name: '12 fs: without base or with one: never a site',
      before: [
        '64 48 8b 04 25 00 00 40 00  mov rax, [fs:0x400000]',
        '65 48 a1 00 00 40 00 00 00 00 00  mov rax, [qword gs:0x400000]',
        '64 48 8b 80 00 00 40 00  mov rax, [fs:rax+0x400000]',
        'c3  ret',
      ],
      after: '',
    },
    {
      name: '17 lea: to itself, to the next instruction, into the middle of one, to the end',
      before: [
        '48 8d 05 f9 ff ff ff  lea rax, [0x400000]',
        '48 8d 05 00 00 00 00  lea rax, [0x40000e]',
        '48 8d 05 02 00 00 00  lea rax, [0x400017]',
        '48 8d 05 01 00 00 00  lea rax, [0x40001d]',
        'c3  ret',
      ],
      after: '',
    },
    {
      name: '17 the end: a load goes to what stays there, a lea along; the byte before goes along',
      before: [
        '48 8b 05 08 00 00 00  mov rax, [0x40000f]',
        '48 8b 05 00 00 00 00  mov rax, [0x40000e]',
        'c3  ret',
      ],
      after: '48 8b 05 f8 ff ff ff 48 8b 05 00 00 00 00 c3',
      options: near,
    },
    {
      name: '17 cmp that reads its own bytes',
      before: ['81 3d f6 ff ff ff 81 3d f6 ff  cmp dword [0x400000], 0xfff63d81', 'c3  ret'],
      after: '',
    },
    {
      name: '16 gathers: disp32 without base is a site like any other',
      before: ['c4 e2 6d 90 04 8d 00 00 40 00  vpgatherdd ymm0, [ymm1*4+0x400000], ymm2', 'c3  ret'],
      after: 'c4 e2 6d 90 04 8d 00 00 50 00 c3',
    },
    {
      name: 'beyond 2 GB',
      before: ['48 8b 05 00 00 10 00', 'c3'],
      after: 'out-of-range',
      options: { to: 0x7f00_0000_0000n },
    },
  ])
})

describe('calls', () => {
  run([
    {
      name: '20 call $+5; pop: the new place',
      before: ['e8 00 00 00 00  call 0x400005', '58  pop rax', 'c3  ret'],
      after: '',
    },
    {
      name: '20 call into add [rsp], n',
      before: ['e8 01 00 00 00  call 0x400006', '90  nop', '48 83 04 24 05  add qword [rsp], 5', 'c3  ret'],
      after: '',
    },
    {
      name: '20 call to a get-PC thunk',
      before: ['e8 01 00 00 00  call 0x400006', 'c3  ret', '48 8b 04 24  mov rax, [rsp]', 'c3  ret'],
      after: '',
    },
    {
      name: '21 calls by rsp and by memory at rsp',
      before: [
        'ff 14 24  call qword [rsp]',
        'ff 54 24 78  call qword [rsp+0x78]',
        'ff d4  call rsp',
        'c3  ret',
      ],
      after: '',
    },
    {
      name: '22 call to the outside',
      before: ['e8 fb ff 0f 00  call 0x500000', 'c3  ret'],
      after: 'e8 eb ff 0f 00 c3',
      options: near,
    },
  ])
})

describe('absolute values', () => {
  run([
    {
      name: '24 each instruction that carries an address, into the blob',
      before: [
        '48 b8 00 00 40 00 00 00 00 00  mov rax, 0x400000',
        'b8 00 00 40 00  mov eax, 0x400000',
        '68 00 00 40 00  push 0x400000',
        '48 c7 c0 00 00 40 00  mov rax, 0x400000',
        '48 c7 04 24 00 00 40 00  mov qword [rsp], 0x400000',
        '48 a1 00 00 40 00 00 00 00 00  mov rax, [qword 0x400000]',
        '48 a3 00 00 40 00 00 00 00 00  mov [qword 0x400000], rax',
        '67 a1 00 00 40 00  mov eax, [0x400000]',
        '8b 04 25 00 00 40 00  mov eax, [0x400000]',
        'ff 24 c5 00 00 40 00  jmp qword [rax*8+0x400000]',
        '8b 80 00 00 40 00  mov eax, [rax+0x400000]',
        'c3  ret',
      ],
      after:
        '48 b8 00 00 50 00 00 00 00 00 b8 00 00 50 00 68 00 00 50 00 48 c7 c0 00 00 50 00 ' +
        '48 c7 04 24 00 00 50 00 48 a1 00 00 50 00 00 00 00 00 ' +
        '48 a3 00 00 50 00 00 00 00 00 67 a1 00 00 50 00 8b 04 25 00 00 50 00 ff 24 c5 00 00 50 00 ' +
        '8b 80 00 00 50 00 c3',
    },
    {
      name: '24 cmp, add and sub, whose numbers may be lengths: by exact sites',
      before: [
        '81 f8 00 00 40 00  cmp eax, 0x400000',
        '48 81 c1 00 00 40 00  add rcx, 0x400000',
        '2d 00 00 40 00  sub eax, 0x400000',
        'c3  ret',
      ],
      after: '81 f8 00 00 50 00 48 81 c1 00 00 50 00 2d 00 00 50 00 c3',
      options: {
        table: RelocationTable.fromSites(
          [
            { offset: 2, kind: 'abs32' },
            { offset: 9, kind: 'abs32s' },
            { offset: 14, kind: 'abs32' },
          ],
          {
            code: parse('81 f8 00 00 40 00 48 81 c1 00 00 40 00 2d 00 00 40 00 c3'),
            base: FROM,
            runs: [{ start: 0, end: 19 }],
          },
        ),
      },
    },
    {
      name: '24 the same numbers outside the blob, and in operands that carry none',
      before: [
        '48 b8 00 00 30 00 00 00 00 00  mov rax, 0x300000',
        'b8 ff ff 3f 00  mov eax, 0x3fffff',
        '35 00 00 40 00  xor eax, 0x400000',
        'a9 00 00 40 00  test eax, 0x400000',
        '81 e1 00 00 40 00  and ecx, 0x400000',
        '81 c9 00 00 40 00  or ecx, 0x400000',
        '69 c0 00 00 40 00  imul eax, 0x400000',
        'c3  ret',
      ],
      after: '',
    },
    {
      name: '24 sign-extended: the kernel half',
      before: [
        '48 c7 c0 00 00 00 81  mov rax, 0xffffffff81000000',
        '68 00 00 00 81  push 0xffffffff81000000',
        '8b 04 25 04 00 00 81  mov eax, [0xffffffff81000004]',
        'c3  ret',
      ],
      after: '48 c7 c0 00 10 00 81 68 00 10 00 81 8b 04 25 04 10 00 81 c3',
      options: { from: 0xffffffff_81000000n, to: 0xffffffff_81001000n },
    },
    {
      name: '24 sign-extended: 2^31 is another address',
      before: ['48 c7 c0 00 00 40 00', 'c3'],
      after: 'out-of-range',
      options: { to: 2n ** 31n },
    },
    {
      name: '24 sign-extended: from the low half to the kernel half, by a move across 0',
      before: ['48 c7 c0 00 00 40 00', 'c3'],
      after: '48 c7 c0 00 00 00 81 c3',
      options: { to: 0xffffffff_81000000n },
    },
    {
      name: '24 zero-extended: up to 2^32-1',
      before: ['b8 00 00 40 00', 'c3'],
      after: 'b8 f0 ff ff ff c3',
      options: { to: 2n ** 32n - 16n },
    },
    {
      name: '24 zero-extended: 2^32 is not',
      before: ['b8 00 00 40 00', 'c3'],
      after: 'out-of-range',
      options: { to: 2n ** 32n },
    },
    {
      name: '24 moffs32 cannot leave the low 4 GB',
      before: ['67 a1 00 00 40 00', 'c3'],
      after: 'out-of-range',
      options: { to: 2n ** 32n },
    },
    {
      name: '24 imm64 to the end of the blob is an end pointer, one behind it a number',
      before: [
        '48 b8 15 00 40 00 00 00 00 00  mov rax, 0x400015',
        '48 b8 16 00 40 00 00 00 00 00  mov rax, 0x400016',
        'c3  ret',
      ],
      after: '48 b8 15 00 50 00 00 00 00 00 48 b8 16 00 40 00 00 00 00 00 c3',
    },
    {
      name: '24 moved by 2^63 and more: all 64 bits',
      before: ['48 b8 00 00 40 00 00 00 00 00', 'c3'],
      after: '48 b8 00 00 00 80 ff ff ff ff c3',
      options: { to: 0xffffffff_80000000n },
    },
    {
      name: '26 a jump table of 8-byte absolute entries, said to be data',
      before: [
        'ff 24 c5 08 00 40 00  jmp qword [rax*8+0x400008]',
        'c3  ret',
        '07 00 40 00 00 00 00 00  dq 0',
        '00 00 40 00 00 00 00 00  dq 0',
        '07 00 30 00 00 00 00 00  dq 0',
      ],
      after:
        'ff 24 c5 08 00 50 00 c3 07 00 50 00 00 00 00 00 00 00 50 00 00 00 00 00 07 00 30 00 00 00 00 00',
      options: {
        hints: {
          ranges: [
            { start: 0, end: 8, kind: 'code' },
            { start: 8, end: 32, kind: 'data' },
          ],
        },
      },
    },
  ])
})

describe('shape', () => {
  run([
    {
      name: '27 no control transfer at the end',
      before: ['90  nop', '48 89 c8  mov rax, rcx'],
      after: '+falls-through',
    },
    {
      name: '27 a conditional branch at the end',
      before: ['90', '74 fd  je 0x400000'],
      after: '+falls-through',
    },
    { name: '27 a call at the end', before: ['e8 fb ff ff ff  call 0x400000'], after: '+falls-through' },
    { name: '27 ud2, hlt and int3 at the end', before: ['0f 0b', 'f4', 'cc'], after: '' },
    { name: '27 begins with endbr64', before: ['f3 0f 1e fa  endbr64', 'c3'], after: '' },
    {
      name: '27 15 bytes',
      before: ['66 66 66 66 66 66 2e 0f 1f 84 00 00 00 00 00  nop word [rax+rax]', 'f3 c3  rep ret'],
      after: '',
    },
    { name: '27 nothing at all', before: [], after: '' },
    {
      name: '27 the destination overlaps the source, up',
      before: ['e8 00 10 00 00', '48 b8 08 00 40 00 00 00 00 00', 'c3'],
      after: 'e8 fc 0f 00 00 48 b8 0c 00 40 00 00 00 00 00 c3',
      options: { to: FROM + 4n },
    },
    {
      name: '27 the destination overlaps the source, down',
      before: ['e8 00 10 00 00', '48 b8 08 00 40 00 00 00 00 00', 'c3'],
      after: 'e8 04 10 00 00 48 b8 04 00 40 00 00 00 00 00 c3',
      options: { to: FROM - 4n },
    },
    {
      name: '27 to the last bytes below 2^64',
      before: ['eb fe  jmp 0x400000', '48 b8 00 00 40 00 00 00 00 00  mov rax, 0x400000'],
      after: '+falls-through eb fe 48 b8 f4 ff ff ff ff ff ff ff',
      options: { to: 2n ** 64n - 12n },
    },
    {
      name: '27 a non-canonical destination is an address like any other',
      before: ['48 b8 00 00 40 00 00 00 00 00', 'c3'],
      after: '48 b8 00 00 00 00 00 00 34 12 c3',
      options: { to: 0x1234_0000_0000_0000n },
    },
    {
      name: '27 an invalid byte between, and an instruction cut off at the end',
      before: ['c3', '06', 'e8 00 10 00 00  call 0x401007', 'c3', 'e8 00'],
      after: 'c3 06 e8 f0 0f 00 00 c3 e8 00',
      options: { ...near, hints: { entries: [0, 2] } },
    },
    {
      name: '28 encodings that others rewrite',
      before: [
        '40 89 c8  mov eax, ecx',
        'c4 e1 78 28 c1  vmovaps xmm0, xmm1',
        '8b 04 20  mov eax, [rax]',
        '48 8b 80 10 00 00 00  mov rax, [rax+0x10]',
        '83 c0 01  add eax, 1',
        '81 c0 01 00 00 00  add eax, 1',
        '88 c8  mov al, cl',
        '8a c1  mov al, cl',
        'f2 f0 0f b1 0e  xacquire lock cmpxchg [rsi], ecx',
        'f0 f2 0f b1 0e  xacquire lock cmpxchg [rsi], ecx',
        '66 66 2e 0f 1f 84 00 00 00 00 00  nop word [rax+rax]',
        'c3  ret',
      ],
      after: '',
    },
  ])
})
