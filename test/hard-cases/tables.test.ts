/** Hard case 26: jump tables between the code, in ranges that are said to be code. */
import { describe, expect, it } from 'vitest'
import { analyze, withAnalysis } from '../../src/analyze/analyze.ts'
import { loadFixture } from '../support/fixtures.ts'
import { FROM, parse, runCases } from '../support/hard-case.ts'

const code = (end: number) => ({
  hints: { ranges: [{ start: 0, end, kind: 'code' as const }], entries: [0] },
})

/** Their targets: three blocks of `mov eax, n; ret`. */
const BLOCKS = ['b8 01 00 00 00', 'c3', 'b8 02 00 00 00', 'c3', 'b8 03 00 00 00', 'c3']
const blocks = BLOCKS.join(' ')

describe('jump tables', () => {
  runCases([
    {
      name: '26 addresses of 8 bytes behind the jump, as many as the comparison says; the word behind is a number',
      before: [
        '83 ff 02  cmp edi, 2',
        '77 2a  ja 0x40002f',
        '89 f8  mov eax, edi',
        'ff 24 c5 0e 00 40 00  jmp qword [rax*8+0x40000e]',
        '2e 00 40 00 00 00 00 00  dq 0',
        '34 00 40 00 00 00 00 00  dq 0',
        '3a 00 40 00 00 00 00 00  dq 0',
        '01 02 03 04 05 06 07 08  dq 0',
        ...BLOCKS,
      ],
      after: `83 ff 02 77 2a 89 f8 ff 24 c5 0e 00 50 00 2e 00 50 00 00 00 00 00 34 00 50 00 00 00 00 00 3a 00 50 00 00 00 00 00 01 02 03 04 05 06 07 08 ${blocks}`,
      options: code(64),
    },
    {
      name: '26 addresses of 4 bytes',
      before: [
        '83 e7 03  and edi, 3',
        '8b 04 bd 0c 00 40 00  mov eax, [rdi*4+0x40000c]',
        'ff e0  jmp rax',
        '1c 00 40 00  dd 0',
        '22 00 40 00  dd 0',
        '28 00 40 00  dd 0',
        '1c 00 40 00  dd 0',
        ...BLOCKS,
      ],
      after: `83 e7 03 8b 04 bd 0c 00 50 00 ff e0 1c 00 50 00 22 00 50 00 28 00 50 00 1c 00 50 00 ${blocks}`,
      options: code(46),
    },
    {
      name: '26 distances of 4 bytes: the one to the outside changes',
      before: [
        'e8 fb ff ff 0f  call 0x10400000',
        '48 8d 15 09 00 00 00  lea rdx, [0x400015]',
        '48 63 04 ba  movsxd rax, [rdx+rdi*4]',
        '48 01 d0  add rax, rdx',
        'ff e0  jmp rax',
        '10 00 00 00  dd 0',
        '16 00 00 00  dd 0',
        '1c 00 00 00  dd 0',
        'eb ff ff 0f  dd 0',
        ...BLOCKS,
      ],
      after: `e8 fb ff ef 0f 48 8d 15 09 00 00 00 48 63 04 ba 48 01 d0 ff e0 10 00 00 00 16 00 00 00 1c 00 00 00 eb ff ef 0f ${blocks}`,
      options: code(55),
    },
  ])

  it('26 the evidence of an entry is the jump through it', () => {
    const blob = parse(
      `83 e7 03 8b 04 bd 0c 00 40 00 ff e0 1c 00 40 00 22 00 40 00 28 00 40 00 1c 00 40 00 ${blocks}`,
    )
    const sites = analyze(blob, { base: FROM, ...code(46) }).sites()
    expect(sites.map(({ offset, kind, target }) => [offset, kind, target])).toEqual([
      [6, 'abs32s', FROM + 12n],
      [12, 'abs32', FROM + 28n],
      [16, 'abs32', FROM + 34n],
      [20, 'abs32', FROM + 40n],
      [24, 'abs32', FROM + 28n],
    ])
    expect(sites.slice(1).every(({ evidence }) => evidence.address === 'flow')).toBe(true)
  })

  it('26 what is no table of the jump is left alone: an index that is only added, entries that lead into instructions', () => {
    // As above, but the sum is returned; and with distances that lead into the middle of the blocks.
    const added = parse(
      `e8 fb ff ff 0f 48 8d 15 09 00 00 00 48 63 04 ba 48 01 d0 c3 90 10 00 00 00 16 00 00 00 1c 00 00 00 eb ff ff 0f ${blocks}`,
    )
    const inside = parse(
      `e8 fb ff ff 0f 48 8d 15 09 00 00 00 48 63 04 ba 48 01 d0 ff e0 12 00 00 00 18 00 00 00 1e 00 00 00 eb ff ff 0f ${blocks}`,
    )
    for (const blob of [added, inside]) {
      const sites = analyze(blob, { base: FROM, ...code(55) }).sites()
      expect(sites.filter(({ kind }) => kind === 'diff32')).toEqual([])
      expect(sites.map(({ offset }) => offset)).toContain(1)
    }
  })
})

it.each(['tables-text', 'literals-text'])(
  '26 the tables in the code of %s are found, whatever their shape',
  (name) => {
    const { links, span, objectsInCode } = loadFixture(name)
    const [{ bytes, base }] = links
    const hints = { ranges: [{ start: 0, end: bytes.length, kind: 'code' as const }] }
    const tables = objectsInCode.filter((object) => /entries|index|first|second/.test(object.name))
    expect(tables.length).toBeGreaterThan(2)
    for (const told of [undefined, hints])
      withAnalysis(bytes, { base, span, hints: told }, ({ map }) => {
        for (const { name, offset, size } of tables)
          for (let at = offset; at < offset + size; at++) {
            expect([name, map.bits.has(at)]).toEqual([name, false])
            expect([name, map.tables.some(({ start, end }) => at >= start && at < end)]).toEqual([name, true])
          }
      })
  },
)
