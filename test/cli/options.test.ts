import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseAddress, parseAlso, parseBytes } from '../../src/cli/options.ts'

describe('addresses', () => {
  it('are read in hex and in decimal over all 64 bits, with _ between digits', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 64n - 1n), (address) => {
        const hex = address.toString(16)
        expect(parseAddress(`0x${hex}`, 'a')).toBe(address)
        expect(parseAddress(`0X${hex.toUpperCase()}`, 'a')).toBe(address)
        expect(parseAddress(`0x${[...hex].join('_')}`, 'a')).toBe(address)
        expect(parseAddress([...address.toString()].join('_'), 'a')).toBe(address)
      }),
    )
  })

  it.each(['', '0x', '0x_1', '1__0', '_1', '1_', '0b1', '0o7', '1e3', '-1', '+1', ' 1', '400000h', '0x1g'])(
    '%j is none',
    (text) => {
      expect(() => parseAddress(text, '--from')).toThrow(
        `--from is ${JSON.stringify(text)}: a number in hex or decimal`,
      )
    },
  )

  it('end at 2^64', () => {
    expect(() => parseAddress('0x1_0000_0000_0000_0000', '--to')).toThrow('--to is 0x10000000000000000')
  })
})

it('byte counts are exact or refused', () => {
  expect(parseBytes('0x1000', '--span')).toBe(4096)
  expect(parseBytes('9007199254740991', '--span')).toBe(Number.MAX_SAFE_INTEGER)
  expect(() => parseBytes('9007199254740992', '--span')).toThrow('more bytes than there can be')
})

describe('--also', () => {
  it('is a range and where it goes; the range may end at 2^64', () => {
    expect(parseAlso('0x1000..0x1800=4_096')).toEqual({ from: 0x1000n, to: 4096n, length: 0x800n })
    expect(parseAlso('0xfffffffffffff000..0x10000000000000000=0').length).toBe(0x1000n)
  })

  it.each(['', '1..2', '1=2', '1..2=', '1..2=3=4', '1...2=3', '1-2=3'])('%j is none', (text) => {
    expect(() => parseAlso(text)).toThrow('--also is')
  })

  it('is not empty, and runs upwards', () => {
    expect(() => parseAlso('2..2=9')).toThrow('must lie above its start')
    expect(() => parseAlso('3..2=9')).toThrow('must lie above its start')
  })
})
