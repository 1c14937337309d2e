/** Hard cases: operands relative to RIP and EIP (9 to 19). See test/support/hard-case.ts. */
import { describe } from 'vitest'
import { type HardCase, hex, near, parse, runCases } from '../support/hard-case.ts'

/** A RIP-relative instruction with `d` for its displacement: to the outside, to itself, and to the blob's end. */
const ripCase = (number: string, pattern: string, text: string): HardCase => {
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
  runCases([
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
