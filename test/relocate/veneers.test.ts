/** What instructions become out of reach, byte for byte; what is refused; and that the way back restores every byte. */
import { describe, expect, it } from 'vitest'
import { hexBytes } from '../../src/core/bytes.ts'
import { RelocError } from '../../src/core/errors.ts'
import { type RelocateOptions, type Relocation, relocate } from '../../src/relocate/relocate.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'
import { formatInstruction } from '../../src/x86/iced.ts'

const BASE = 0x400000n
const FAR = 0x7f00_0000_0000n
const LOW = { start: 0x500000n, length: 0x1000 }
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))

function tableOf(code: Uint8Array, sites: readonly SiteInput[]): RelocationTable {
  return RelocationTable.fromSites(sites, {
    code,
    base: BASE,
    runs: [{ start: 0, end: code.length }],
    moved: [LOW],
  })
}

const FAR_LOW = { from: LOW.start, to: FAR + 0x100000n, length: LOW.length }

/** Moves one instruction with one site; `also` takes the low data along. */
function far(text: string, site: SiteInput, options: RelocateOptions = {}): Relocation {
  const code = bytes(text)
  const table = tableOf(code, [site])
  const moved = relocate(code, table, { to: FAR, also: [FAR_LOW], veneers: true, ...options })
  moved.table.check(moved.bytes)
  const home = relocate(moved.bytes, moved.table, {
    to: BASE,
    also: [{ from: FAR_LOW.to, to: LOW.start, length: LOW.length }],
  })
  expect(hexBytes(home.bytes)).toBe(hexBytes(code))
  home.table.check(home.bytes)
  return moved
}

/** Instructions of a move in their order of execution: the replaced one, then the veneer's until it leaves. */
function listing({ bytes: code, veneers, positions }: Relocation): string[] {
  const lines = [formatInstruction(code, 0, FAR)]
  if (veneers === undefined || !/call|jmp|xbegin/.test(lines[0])) return lines
  const at = Number(veneers.at - FAR)
  for (let i = 0; i < veneers.bytes.length; ) {
    const text = formatInstruction(veneers.bytes, i, veneers.at + BigInt(i))
    if (text.startsWith('int3')) break
    expect(positions.toOld(at + i)).toBe(0)
    lines.push(text)
    if (/\bjmp\b/.test(text)) break
    i += lengthAt(veneers.bytes, i)
  }
  return lines
}

function lengthAt(code: Uint8Array, at: number): number {
  for (let length = 1; length <= 15; length++)
    if (formatInstruction(code.slice(at, at + length), 0, 0n) !== '(bad)') return length
  return expect.unreachable()
}

function refusal(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof RelocError && error.code === 'refused')
      return error.problems.map(({ message }) => message).join('; ')
    throw error
  }
  return expect.unreachable()
}

const pc = (offset: number, end?: number): SiteInput => ({ offset, kind: 'pc32', end })

describe('a register that is dead behind what is out of reach', () => {
  it('is not the one that xbegin writes on one of its two ways', () => {
    const behind = 'c7 f8 00 00 00 00 c3'
    const [saved, lost] = [behind, `31 c0 ${behind}`].map((rest) =>
      far(`83 3d f9 0f 00 00 07 ${rest}`, pc(2, 7)),
    )
    expect(listing(saved)).toContain('push rax')
    expect(listing(lost)).not.toContain('push rax')
  })
})

describe('out of reach', () => {
  it('the target is in the veneers once, however many ask for it', () => {
    const code = bytes('e8 fb 0f 00 00  e9 f6 0f 00 00  48 8d 05 ef 0f 00 00  0f 84 e9 0f 00 00')
    const sites = [pc(1), pc(6), pc(13), pc(19)]
    const { veneers } = relocate(code, tableOf(code, sites), { to: FAR, veneers: true })
    // One stub of 7 bytes, padding, one literal.
    expect(hexBytes(veneers?.bytes ?? code)).toBe('3eff2501000000cc0010400000000000')
    expect(veneers?.at).toBe((FAR + BigInt(code.length) + 15n) & ~15n)
  })

  it.each<[string, SiteInput, readonly string[]]>([
    ['e8 00 00 20 00', pc(1), ['call 0x7f0000000010', 'notrack jmp qword [rel 0x7f0000000018]']],
    ['f2 e8 00 00 20 00', pc(2), ['bnd call 0x7f0000000010', 'notrack bnd jmp qword [rel 0x7f0000000018]']],
    ['c7 f8 00 00 20 00', pc(2), ['xbegin 0x7f0000000010', 'notrack jmp qword [rel 0x7f0000000018]']],
    ['64 48 8d 05 00 00 20 00', pc(4), ['mov rax, [rel 0x7f0000000010]']],
    ['66 8d 05 00 00 20 00', pc(3), ['mov ax, [rel 0x7f0000000010]']],
    ['0f 18 0d 00 00 20 00', pc(3), ['prefetcht0 [rel 0x7f0000200007]']],
  ])('%s', (text, site, expected) => {
    expect(listing(far(text, site))).toEqual(expected)
  })

  const low = (offset: number, kind: 'abs32' | 'abs32s'): SiteInput => ({ offset, kind })
  it.each<[string, string, SiteInput, string]>([
    ['mov eax, imm32', 'b8 10 00 50 00', low(1, 'abs32'), 'mov rax, 0x7f0000100010'],
    ['mov r9d, imm32', '41 b9 10 00 50 00', low(2, 'abs32'), 'mov r9, 0x7f0000100010'],
    ['mov ecx, imm32 (C7)', 'c7 c1 10 00 50 00', low(2, 'abs32'), 'mov rcx, 0x7f0000100010'],
    ['push imm32', '68 10 00 50 00', low(1, 'abs32s'), 'push qword [rel 0x7f0000000020]'],
    ['cmp rax, imm32', '48 3d 10 00 50 00', low(2, 'abs32s'), 'cmp rax, [rel 0x7f0000000020]'],
    ['test rax, imm32', '48 a9 10 00 50 00', low(2, 'abs32s'), 'test [rel 0x7f0000000020], rax'],
    ['mov [rsp+8], imm32', '48 c7 44 24 08 10 00 50 00', low(5, 'abs32s'), 'mov [rsp+0x90], rax'],
    ['mov eax, moffs32', '67 a1 10 00 50 00', low(2, 'abs32'), 'mov eax, [qword 0x7f0000100010]'],
    // A REX before other prefixes means nothing, and must not once 67h is gone.
    [
      'mov eax, moffs32 with REX.W',
      '48 67 a1 10 00 50 00',
      low(3, 'abs32'),
      'mov eax, [qword 0x7f0000100010]',
    ],
  ])('%s becomes %s', (_, text, site, expected) => {
    expect(listing(far(text, site))).toContain(expected)
  })

  it.each<[string, string]>([
    ['48 81 ff 10 00 50 00', 'cmp rdi, [rel 0x7f0000000010]'],
    ['49 c7 c5 10 00 50 00', 'mov r13, [rel 0x7f0000000010]'],
    ['49 f7 c5 10 00 50 00', 'test [rel 0x7f0000000010], r13'],
  ])('%s becomes %s, in its place', (text, expected) => {
    expect(listing(far(text, low(3, 'abs32s')))[0]).toBe(expected)
  })

  it.each<[string, SiteInput, RegExp]>([
    ['3d 10 00 50 00', low(1, 'abs32'), /keeps 32 bits/],
    ['c7 03 10 00 50 00', low(2, 'abs32'), /keeps 32 bits/],
    ['8d 04 25 10 00 50 00', low(3, 'abs32s'), /keeps 32 bits/],
    ['eb 10', { offset: 1, kind: 'pc8' }, /no spare bytes/],
  ])('%s is refused', (text, site, reason) => {
    expect(refusal(() => far(text, site))).toMatch(reason)
  })

  it.each<[string, string, SiteInput, RelocateOptions['veneers']?]>([
    ['66h before call [m]', '66 ff 15 00 00 20 00', pc(3)],
    ['vgatherdps with 67h', '67 c4 e2 6d 90 04 8d 10 00 50 00', low(7, 'abs32')],
    ['call [index] with 67h', '67 ff 14 c5 10 00 50 00', low(4, 'abs32')],
    [
      'jmp [r11+x] without another register',
      '41 ff a3 10 00 50 00',
      low(3, 'abs32s'),
      { redZone: false, scratch: 'r11' },
    ],
    ['jmp far without a red zone', '48 ff 2d 00 00 20 00', pc(3), { redZone: false, scratch: 'r11' }],
  ])('%s is refused', (_, text, site, veneers = true) => {
    expect(refusal(() => far(text, site, { veneers }))).toMatch(/makers|cuts|red zone|only register/)
  })

  it('r11 is not free for the address that it is a part of', () => {
    const lines = listing(far('43 ff a4 5d 10 00 50 00', low(4, 'abs32s'), { veneers: { scratch: 'r11' } }))
    expect(lines[1]).toBe('mov [rsp-0x10], rax')
    expect(lines).toContain('lea rax, [r13+rax]')
    expect(lines).toContain('mov rax, [rax+r11*2]')
  })

  it('a part of an address that is spread is not taken from its instruction', () => {
    // mov dword [rip+x], low half; mov dword [rip+x+4], high half
    const code = bytes('c7 05 00 00 20 00 10 00 40 00  c7 05 fa ff 1f 00 00 00 00 00')
    const pieces = [
      { offset: 6, width: 4, shift: 0, operation: 'or' },
      { offset: 16, width: 4, shift: 32, operation: 'or' },
    ] as const
    const table = tableOf(code, [pc(2, 10), pc(12, 20), { kind: 'split', pieces }])
    expect(refusal(() => relocate(code, table, { to: FAR, veneers: true }))).toMatch(/spread/)
  })

  it.each<[string, string, number | undefined]>([
    // mov eax, x; then: mov [rdi], eax; mov [rdi], rax; push rax, cmp eax, ebx; add rax, [rax], cmp ah, 0.
    ['a 4-byte store', '89 07', 5],
    ['an 8-byte store', '48 89 07', undefined],
    ['a comparison behind a push', '50 39 d8', 6],
    ['a byte behind an address', '48 03 18 80 fc 00', 8],
    ['a 4-byte use of what was written since', '31 c0 89 07', undefined],
    ['a jump first', 'eb 00 89 07', undefined],
  ])('mov eax, imm32 is widened; %s is told', (_, behind, at) => {
    const { problems } = far(`b8 10 00 50 00 ${behind}`, low(1, 'abs32'))
    expect(problems.map(({ code, offset }) => [code, offset])).toEqual(
      at === undefined ? [] : [['narrow-use', at]],
    )
  })

  it.each<[string, string, string]>([
    // What stands in for mov rcx, [rip+x] or add [rip+x], ecx, and what is behind.
    ['its own result', '48 8b 0d', 'mov rcx, 0x600007;mov rcx, [rcx]'],
    ['its own result, extended', '4c 8b 0d', 'mov r9, 0x600007;mov r9, [r9]'],
    ['a result that is no whole register', '66 8b 0d', 'lea rsp, [rsp-0x80];push rax'],
  ])('the scratch register is %s', (_, head, expected) => {
    const lines = listing(far(`${head} 00 00 20 00`, pc(3)))
    expect(lines.slice(1, 3).join(';')).toBe(expected)
  })

  it.each<[string, string, string]>([
    ['mov', 'b9 01 00 00 00', 'rcx'],
    ['xor', '31 d2', 'rdx'],
    ['pop', '5e', 'rsi'],
    ['two ways that both write it', '75 02 eb 00 31 ff', 'rdi'],
    ['one way that reads it', '75 02 ff e7 31 ff', ''],
    ['a part of it', 'b1 01', ''],
    ['a conditional mov', '0f 44 c8', ''],
    ['a read before', '89 c8 31 c9', 'rax'],
    ['a call before', 'e8 00 00 00 00 31 c9', ''],
  ])('a register is free where %s follows', (_, behind, register) => {
    const lines = listing(far(`01 1d 00 00 20 00 ${behind}`, pc(2)))
    expect(lines[1]).toBe(register === '' ? 'lea rsp, [rsp-0x80]' : `mov ${register}, 0x600006`)
  })

  it('without a red zone rsp goes no further down; indirect branches want a register', () => {
    expect(
      listing(far('81 0d 00 00 20 00 01 00 00 00', pc(2, 10), { veneers: { redZone: false } })).slice(1),
    ).toEqual(['push rax', 'mov rax, 0x60000a', 'or dword [rax], 1', 'pop rax', 'jmp 0x7f000000000a'])
    const call = (scratch?: 'r11'): Relocation =>
      far('ff 15 00 00 20 00', pc(2), { veneers: { redZone: false, scratch } })
    expect(refusal(() => call())).toMatch(/needs a register/)
    expect(listing(call('r11')).slice(1)).toEqual(['mov r11, 0x600006', 'mov r11, [r11]', 'jmp r11'])
  })

  it('refuses to replace what is entered in its middle', () => {
    // jmp into the immediate of cmp dword [rip+x], 0x90909090
    const code = bytes('eb 06 81 3d 00 00 20 00 90 90 90 90')
    const table = tableOf(code, [pc(4, 12)])
    expect(refusal(() => relocate(code, table, { to: FAR, veneers: true }))).toMatch(
      /inside the instruction at 0x2/,
    )
    const pointer = bytes('81 3d 00 00 20 00 90 90 90 90 06 00 40 00 00 00 00 00')
    const pointed = RelocationTable.fromSites([pc(2, 10), { offset: 10, kind: 'abs64' }], {
      code: pointer,
      base: BASE,
      runs: [{ start: 0, end: 10 }],
    })
    expect(refusal(() => relocate(pointer, pointed, { to: FAR, veneers: true }))).toMatch(
      /inside the instruction/,
    )
  })

  it('leaves a Buffer as it was, whose slices are no copies', () => {
    const code = Buffer.from('e8000020008b0d0000200090', 'hex')
    const moved = relocate(code, tableOf(code, [pc(1), pc(7)]), { to: FAR, veneers: true })
    expect(hexBytes(code)).toBe('e8000020008b0d0000200090')
    const home = relocate(Buffer.from(moved.bytes), moved.table, { to: BASE })
    expect(hexBytes(home.bytes)).toBe(hexBytes(code))
  })

  it('says where there is no room for veneers', () => {
    const code = bytes('8b 0d 00 00 20 00')
    const move = (veneers: RelocateOptions['veneers']): string =>
      refusal(() => relocate(code, tableOf(code, [pc(2)]), { to: FAR, veneers }))
    expect(move({ capacity: 8 })).toMatch(/need \d+ bytes, there are 8/)
    expect(move({ at: FAR + 0x1_0000_0000n })).toMatch(/out of the blob's reach/)
    expect(move({ at: FAR })).toMatch(/lie on/)
    const high = { to: 2n ** 64n - 0x8000_0000n, veneers: { at: 2n ** 64n - 16n } }
    expect(refusal(() => relocate(code, tableOf(code, [pc(2)]), high))).toMatch(
      /pass the end of the address space/,
    )
    expect(move(false)).toMatch(/pc32: the value/)
  })

  it('any number of moves, by way of veneers or not, ends with the same bytes as one', () => {
    const code = bytes(
      '48 8b 05 00 00 20 00  e8 00 00 20 00  48 8d 3d 00 00 30 00  81 3d 00 00 20 00 10 00 50 00',
    )
    const table = tableOf(code, [pc(3), pc(8), pc(15), pc(21, 29), low(25, 'abs32')])
    const to = [FAR, FAR + 0x1000n, BASE + 0x10000n, 0x1_0000_0000_0000n, BASE + 0x20000n]
    let now = { bytes: code, table }
    for (const place of to) {
      const { bytes, table } = relocate(now.bytes, now.table, { to: place, veneers: true })
      now = { bytes, table: RelocationTable.fromJSON(JSON.parse(JSON.stringify(table))) }
      now.table.check(bytes)
    }
    const once = relocate(code, table, { to: BASE + 0x20000n })
    expect(hexBytes(now.bytes)).toBe(hexBytes(once.bytes))
    expect(now.table.toJSON()).toEqual(once.table.toJSON())
  })
})
