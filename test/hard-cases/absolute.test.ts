/** Hard cases: absolute values (24 to 26), and the shape of a blob (27, 28). See test/support/hard-case.ts. */
import { describe } from 'vitest'
import { RelocationTable } from '../../src/table/table.ts'
import { FROM, near, parse, runCases } from '../support/hard-case.ts'

describe('absolute values', () => {
  runCases([
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
  runCases([
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
