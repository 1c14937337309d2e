/**
 * Veneers broken on purpose, each as an emitter that forgets one thing would make them: the fuzzer has to
 * find every one.
 */
import { hexBytes } from '../../src/core/bytes.ts'
import type { Relocation } from '../../src/relocate/relocate.ts'
import { Encoding, Prefix } from '../../src/x86/instruction.ts'
import type { ReachCase } from './reach-case.ts'
import type { Tamper } from './reach-run.ts'

/** Changes the veneers' bytes as hex text; the length must stay. Undefined: there is nothing to break. */
type Break = (veneers: string, item: ReachCase) => string | undefined

/** Replaces the first `find`. */
const swap =
  (find: RegExp, by: string): Break =>
  (text) =>
    find.test(text) ? text.replace(find, by) : undefined

const LEAVE = '488d642480'
const RETURN = '488da42480000000'

/** Offset in the veneers' text of the instruction with the new operand: behind the movabs. */
function operationAt(text: string): number {
  const match = /^488d642480[0-9a-f]{2}48b[0-9a-f][0-9a-f]{16}/.exec(text)
  return match === null ? -1 : match[0].length
}

/** Changes the byte `byte` places behind the operation's start, if `applies`. */
const inOperation =
  (
    applies: (item: ReachCase) => boolean,
    byte: (item: ReachCase) => number,
    change: (old: number) => number,
  ): Break =>
  (text, item) => {
    const start = operationAt(text)
    // Without 67h, which the operation has not either.
    if (start < 0 || (item.template.instruction.prefixes & Prefix.p67) !== 0 || !applies(item))
      return undefined
    const at = start + 2 * byte(item)
    const value = change(Number.parseInt(text.slice(at, at + 2), 16)) & 0xff
    return text.slice(0, at) + value.toString(16).padStart(2, '0') + text.slice(at + 2)
  }

/** Index of the byte before the opcode of a legacy instruction, if it is REX. */
const rexAt = ({ template: { bytes, instruction } }: ReachCase): number => {
  const { modrmOffset, map } = instruction
  const before = modrmOffset - 2 - (map === 0 ? 0 : map === 1 ? 1 : 2)
  return before >= 0 && (bytes[before] & 0xf0) === 0x40 ? before : -1
}
const isLegacy = ({ template }: ReachCase): boolean =>
  template.instruction.encoding === Encoding.legacy && rexAt({ template } as ReachCase) >= 0
const leadAt = ({ template: { bytes } }: ReachCase): number =>
  bytes.findIndex((byte) => byte === 0xc4 || byte === 0x62)
const hasLead =
  (lead: number) =>
  (item: ReachCase): boolean =>
    item.template.bytes[leadAt(item)] === lead && leadAt(item) >= 0

/** What can be forgotten. */
export const SABOTAGES: Readonly<Record<string, Break>> = {
  // REX.B, VEX.B, EVEX.B and EVEX.X, left as if they still meant nothing.
  'rex-b': inOperation(isLegacy, rexAt, (rex) => rex | 1),
  'vex-b': inOperation(
    hasLead(0xc4),
    (item) => leadAt(item) + 1,
    (byte) => byte & ~0x20,
  ),
  'evex-b': inOperation(
    hasLead(0x62),
    (item) => leadAt(item) + 1,
    (byte) => byte & ~0x20,
  ),
  // rsp moved by no more than what is pushed: lea rsp, [rsp-0].
  'red-zone': (text) =>
    text.startsWith(LEAVE) && text.includes(RETURN)
      ? text.replace(LEAVE, '488d642400').replace(RETURN, '488da42400000000')
      : undefined,
  // pop [m]: rsp as it was.
  'pop-rsp': (text, { template }) =>
    template.caseClass === 'stack'
      ? swap(/488da424(82|88)000000e9/, '488da42480000000e9')(text, {} as ReachCase)
      : undefined,
  // sub rsp, -128; nop; in the place of lea.
  flags: swap(/488da42480000000/, '4883ec8090909090'),
  // The scratch register is not put back: nops for push and pop, lea by 8 less.
  register: (text) => {
    const match = /^488d642480(5[0-7])/.exec(text)
    if (match === null) return undefined
    const pop = (Number.parseInt(match[1], 16) | 8).toString(16)
    const at = text.indexOf(`${pop}${RETURN}`)
    return at < 0 ? undefined : `488d64248090${text.slice(12, at)}90${text.slice(at + 2)}`
  },
  // rax holds the address, whatever the instruction does with rax.
  implicit: (text, item) => {
    const match = /^488d6424805[0-7]48b([89a-f])/.exec(text)
    const start = operationAt(text)
    if (match === null || start < 0 || item.template.caseClass !== 'implicit') return undefined
    const old = Number.parseInt(match[1], 16) & 7
    const modrm = start + 2 * (item.template.at - 1)
    const byte = (Number.parseInt(text.slice(modrm, modrm + 2), 16) & 0xf8).toString(16).padStart(2, '0')
    const changed = `${text.slice(0, 10)}5048b8${text.slice(16, modrm)}${byte}${text.slice(modrm + 2)}`
    const pop = (0x58 | old).toString(16)
    return changed.replace(`${pop}${RETURN}`, `58${RETURN}`)
  },
  // A 4-byte operation where there was one of 8.
  'upper-half': inOperation(isLegacy, rexAt, (rex) => rex & ~8),
  // REX.X cleared although there is an index.
  'rex-x': inOperation(
    (item) => item.template.caseClass === 'index' && isLegacy(item),
    rexAt,
    (rex) => rex & ~2,
  ),
  // The base beside a far displacement: nops for lea.
  base: (text, { template }) =>
    template.caseClass === 'base'
      ? swap(/(48b[89a-f][0-9a-f]{16})4[89]8d(04..|4(?:[4c]).{4})/, '$190909090')(text, {} as ReachCase)
      : undefined,
  // fs: and gs:, 2e in their place.
  segment: (text, { template }) => {
    const start = operationAt(text)
    if (start < 0 || template.segment === undefined) return undefined
    return text.slice(0, start) + text.slice(start).replace(/^((?:..)*?)6[45]/, '$12e')
  },
  // A literal of 4 bytes where it takes 8.
  literal: (text, { template }) =>
    template.caseClass === 'immediate' && !/e9.{8}$/.test(text) ? `${text.slice(0, -8)}00000000` : undefined,
  // What the instruction made of rsp.
  'new-rsp': (text, { template }) =>
    template.caseClass === 'rsp' ? swap(/48894c2410/, '9090909090')(text, {} as ReachCase) : undefined,
  // The address of the data cut to 32 bits.
  address: (text) => {
    const start = operationAt(text)
    return start < 0 ? undefined : `${text.slice(0, start - 8)}00000000${text.slice(start)}`
  },
}

/** A tamper that breaks every veneer in that way. */
export const saboteur = (name: string): Tamper => {
  const change = SABOTAGES[name]
  return (moved: Relocation, item: ReachCase): Relocation => {
    if (moved.veneers === undefined) return moved
    const text = hexBytes(moved.veneers.bytes)
    const broken = change(text, item)
    if (broken === undefined) return moved
    if (broken.length !== text.length) throw new Error(`${name} changed the length of ${text} to ${broken}`)
    return { ...moved, veneers: { ...moved.veneers, bytes: new Uint8Array(Buffer.from(broken, 'hex')) } }
  }
}
