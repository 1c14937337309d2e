/**
 * The machine code that breaks relocators, one line a case: bytes before, bytes after. The cases are in test/hard-cases. Lines are `hex  text`; the text is held against iced at its
 * address, so an annotation cannot lie. The expected bytes are worked out by hand: a relative field to the
 * outside loses delta, an absolute one into the blob gains it, nothing else changes. Numbers in the names are
 * those of the list of hard cases (branches 1-8, RIP-relative 9-19, calls 20-23, absolute 24-26, shape
 * 27-29). run-programs.test.ts and run-operands.test.ts run 1 to 23, 28 and 29 where they were and out of
 * reach.
 */
import { expect, it } from 'vitest'
import { RelocError } from '../../src/core/errors.ts'
import { type MoveOptions, move } from '../../src/move.ts'
import { formatInstruction } from '../../src/x86/iced.ts'

export interface HardCase {
  readonly name: string
  /** `hex  text` a line; text that starts with `d` and a size (`dq 5`) is data and not looked at. */
  readonly before: readonly string[]
  /** Hex, or the code of the problem that refuses the move (of a warning, with `+` before it: bytes as before). */
  readonly after: string
  readonly options?: Partial<MoveOptions>
}

/** Where a case is unless it says otherwise, and where it goes. */
export const FROM: bigint = 0x400000n
export const TO: bigint = 0x500000n

/** Bytes of hex text. */
export const parse = (text: string): Uint8Array =>
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

/** Hex text of bytes, a blank between. */
export const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/(..)(?!$)/g, '$1 ')

function check({ before, after, options = {} }: HardCase): void {
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

/** A test for each case. */
export const runCases = (cases: readonly HardCase[]): void => {
  it.each(cases.map((one) => [one.name, one] as const))('%s', (_, one) => check(one))
}

/** A move that rel8 survives. */
export const near: { readonly to: bigint } = { to: FROM + 0x10n }
