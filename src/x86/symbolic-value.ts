/** Values of symbolic execution: a symbol plus a number, and the parts of them that narrow registers and slots hold. */

/** A symbol and a number, modulo 2^64; the symbol `c` is none. */
export interface Value {
  readonly of: string
  readonly plus: bigint
}

/** Comparable text: the same exactly for equal values. */
export const text = ({ of, plus }: Value): string => `${of}${plus < 0n ? '' : '+'}${plus}`
/** A plain number. */
export const number = (plus: bigint): Value => ({ of: 'c', plus: BigInt.asIntN(64, plus) })

const BITS: Readonly<Record<string, number>> = { '1': 8, '2': 16, '4': 32 }

/** The low bytes of a value; `h`: its second byte. */
export function lowPart(value: Value, part: string): Value {
  if (part === '8') return value
  if (value.of === 'c' && part !== 'h') return number(BigInt.asUintN(BITS[part], value.plus))
  const extended = value.of.match(/^z\((.*)\)$/)
  if (extended !== null && part === '4' && value.plus === 0n) return parse(extended[1])
  const merged = value.of.match(/^\(.*\|(.):(.*)\)$/)
  if (merged !== null && merged[1] === part && value.plus === 0n) return parse(merged[2])
  // What was loaded or stored at this size has no more bytes.
  if (value.of.startsWith(`load ${part} `) || value.of.endsWith(`:${part}`)) return value
  return { of: `${part}(${text(value)})`, plus: 0n }
}

/** The value that `text` gave. */
function parse(written: string): Value {
  const [, of, plus] = written.match(/^(.*)([+-]\d+)$/) ?? ['', written, '0']
  return { of, plus: BigInt(plus) }
}

/** What a 4-byte write leaves in a register. */
export const zeroExtended = (value: Value): Value => {
  const low = lowPart(value, '4')
  return low.of === 'c' ? low : { of: `z(${text(low)})`, plus: 0n }
}

/** The low 4 bytes as a signed number of 8. */
export const signExtended = (value: Value): Value => {
  const low = lowPart(value, '4')
  return low.of === 'c' ? number(BigInt.asIntN(32, low.plus)) : { of: `x(${text(low)})`, plus: 0n }
}
