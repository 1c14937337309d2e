/** The words of the command line as values. Each throws `RelocError` (`bad-argument`) with the option's name. */
import { ADDRESS_LIMIT, hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'

const NUMBER = /^(0x[0-9a-f]+(_[0-9a-f]+)*|[0-9]+(_[0-9]+)*)$/i

function parseNumber(text: string, what: string, example: string): bigint {
  if (!NUMBER.test(text))
    throw new RelocError(
      'bad-argument',
      `${what} is ${JSON.stringify(text)}: a number in hex or decimal is needed, such as ${example}.`,
    )
  return BigInt(text.replaceAll('_', ''))
}

/** An address in hex or decimal, `_` between digits allowed. */
export function parseAddress(text: string, what: string): bigint {
  const value = parseNumber(text, what, '0x7f00_0000_0000')
  if (value >= ADDRESS_LIMIT)
    throw new RelocError('bad-argument', `${what} is ${hex(value)}: an address has at most 64 bits.`)
  return value
}

/** A count of bytes. */
export function parseBytes(text: string, what: string): number {
  const value = parseNumber(text, what, '0x1000')
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new RelocError('bad-argument', `${what} is ${hex(value)}: more bytes than there can be.`)
  return Number(value)
}

/** `<from>..<end>=<to>`: the range [from, end) moves to `to`. */
export function parseAlso(text: string): { from: bigint; to: bigint; length: bigint } {
  const match = /^([^.=]+)\.\.([^.=]+)=([^.=]+)$/.exec(text)
  if (match === null)
    throw new RelocError(
      'bad-argument',
      `--also is ${JSON.stringify(text)}: it is <from>..<end>=<to>, such as 0x402000..0x403000=0x7f00_0000_2000.`,
    )
  const from = parseAddress(match[1], '--also: from')
  // One past the last address is an end, too.
  const end = parseNumber(match[2], '--also: end', '0x403000')
  if (end <= from || end > ADDRESS_LIMIT)
    throw new RelocError(
      'bad-argument',
      `--also is ${JSON.stringify(text)}: its end (exclusive) must lie above its start, and not above 2^64.`,
    )
  return { from, to: parseAddress(match[3], '--also: to'), length: end - from }
}
