/** Hard cases: branches (1 to 8) and calls (20 to 22). See test/support/hard-case.ts. */
import { describe } from 'vitest'
import { RelocationTable } from '../../src/table/table.ts'
import { FROM, near, parse, runCases } from '../support/hard-case.ts'

describe('branches', () => {
  runCases([
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
      after: '',
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
  runCases(
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

describe('calls', () => {
  runCases([
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
