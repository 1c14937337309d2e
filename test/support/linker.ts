/** What GNU ld makes of an object at the addresses where we placed its sections: the answer to `placeObject`. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hex } from '../../src/core/address.ts'
import { readField, viewOf } from '../../src/core/bytes.ts'
import { type ElfFile, readElf } from '../../src/elf/file.ts'
import { readObject, recordsAbout } from '../../src/elf/object.ts'
import type { PlacedObject, PlacedPart } from '../../src/elf/place.ts'
import { RECORD_TYPES } from '../../src/elf/records.ts'
import { hasBytes, SHT_PROGBITS, sectionAt } from '../../src/elf/sections.ts'

/** Empty where GNU ld is here, else why the comparison with it is skipped. */
export const noLinker: string = spawnSync('ld', ['--version'], { encoding: 'utf8' }).stdout?.startsWith(
  'GNU ld',
)
  ? ''
  : 'there is no GNU ld'

export type Outside = ReadonlyMap<string, bigint>

const partsOf = ({ code, data }: PlacedObject): PlacedPart[] => (data === undefined ? [code] : [code, data])
/** Made by the linker anew, whatever the object has. */
const MADE_BY_LINKER = /^\.note\.gnu\.property$/

const EH_FRAME = '.eh_frame'
/** No linker's own name, and as long. */
const PLAIN_FRAME = '.eh_framE'

/**
 * The object without what tells ld to rewrite sections as it lays them out: strings that it may merge, unwind
 * entries that it may leave out. Only its headers change.
 */
function withoutEditing(object: Uint8Array): Uint8Array {
  const bytes = Buffer.from(object)
  const { sections } = readObject(object)
  const headers = Number(bytes.readBigUInt64LE(40))
  for (const { index, name, flags } of sections) {
    bytes.writeUInt32LE((flags & ~SHF_MERGE) >>> 0, headers + 64 * index + 8)
    if (name !== EH_FRAME) continue
    bytes.writeUInt32LE(SHT_PROGBITS, headers + 64 * index + 4)
    const names = sections[bytes.readUInt16LE(62)]
    const at = names.offset + bytes.readUInt32LE(headers + 64 * index)
    bytes.write(PLAIN_FRAME, at, 'latin1')
  }
  return bytes
}
const SHF_MERGE = 0x10

/** The name that a section has in what `linkAt` links. */
const linkedName = (name: string): string => LINKED_NAMES[name] ?? name
const LINKED_NAMES: Readonly<Record<string, string>> = { [EH_FRAME]: PLAIN_FRAME, COMMON: '.common' }
/** What goes into sections that no object has. */
const LINKER_INPUTS: Readonly<Record<string, string>> = {
  '.got': '*(.got) *(.igot)',
  COMMON: '*(COMMON) *(LARGE_COMMON)',
}

/** Links the object with each section where it was placed. Throws what ld says. */
export function linkAt(object: Uint8Array, placed: PlacedObject, outside: Outside): ElfFile {
  const directory = mkdtempSync(join(tmpdir(), 'place-'))
  const path = (name: string): string => join(directory, name)
  try {
    const places = new Map<string, bigint>()
    for (const { base, sections } of partsOf(placed))
      for (const { name, offset } of sections) if (!places.has(name)) places.set(name, base + BigInt(offset))
    // ld's GOT has other slots and three more words, so it lies apart; but offsets count from where ours is.
    const away = (placed.code.base + BigInt(placed.code.span) + 0x80_0000n) & ~0xfffn
    const origin = countsFromGot(object) ? places.get('.got')! : away + 0x1_0000n
    places.set('.got', away)
    const lines = [
      ...[...outside].map(([name, address]) => `${JSON.stringify(name)} = ${hex(address)};`),
      'SECTIONS {',
      ...[...places].map(
        ([name, address]) =>
          `${linkedName(name)} ${hex(address)} : { ${LINKER_INPUTS[name] ?? `*(${linkedName(name)})`} }`,
      ),
      `.got.plt ${hex(origin)} : { *(.got.plt) }`,
      '}',
    ]
    writeFileSync(path('script'), lines.join('\n'))
    writeFileSync(path('object.o'), withoutEditing(object))
    const options = '-static --no-relax --build-id=none -z norelro -z noexecstack -e 0'.split(' ')
    execFileSync('ld', [...options, '-T', path('script'), path('object.o'), '-o', path('linked')], {
      stdio: 'pipe',
    })
    return readElf(new Uint8Array(readFileSync(path('linked'))))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const countsFromGot = (object: Uint8Array): boolean => {
  const file = readObject(object)
  return file.sections.some((section) =>
    [...recordsAbout(file, section)].some(({ type }) => RECORD_TYPES[type]?.formula.includes('GOT') === true),
  )
}

/**
 * Bytes that differ from what ld wrote, as sentences. The order of the slots in a GOT is free: a field that
 * leads to one must lead to a slot with the same content.
 */
export function compareLinked(placed: PlacedObject, linked: ElfFile): string[] {
  return partsOf(placed).flatMap((part) => {
    const slots = slotFields(placed, part)
    return part.sections.flatMap(({ name, offset, size }) => {
      const isOurs = part.bytes.length >= offset + size && size > 0
      if (MADE_BY_LINKER.test(name) || name === '.got' || !isOurs) return []
      const there = linked.sections.find((section) => section.name === linkedName(name))
      if (there === undefined || there.size < size) return [`${name}: ld has no such section`]
      const theirs = linked.bytes.subarray(there.offset, there.offset + size)
      return compareBytes(part.bytes.subarray(offset, offset + size), theirs, (at, view) => {
        if (slots.get(offset + at + 3)?.content === 0n && isZeroInstead(theirs.subarray(at, at + 7))) return 7
        const slot = slots.get(offset + at)
        if (slot === undefined) return undefined
        const value = BigInt.asIntN(8 * slot.width, readField(view, at, slot.width))
        const [ours, content] = [slot.content, wordOf(linked, slot.anchor + value - slot.addend)]
        return ours === content ? slot.width : undefined
      }).map((difference) => `${name}${difference}`)
    })
  })
}

/**
 * ld writes `mov $0`, `cmp $0`, `test $0` for a weak symbol that nobody defines, where the object has its
 * slot: REX, opcode, ModRM, immediate.
 */
const isZeroInstead = (bytes: Uint8Array): boolean =>
  [0xc7, 0x81, 0xf7].includes(bytes[1]) && bytes.subarray(3).every((byte) => byte === 0)

/** Differences between two sections; `skip` says how many bytes a field has that leads to the same slot. */
function compareBytes(
  ours: Uint8Array,
  theirs: Uint8Array,
  skip: (at: number, theirs: DataView) => number | undefined,
): string[] {
  const wrong: string[] = []
  const view = viewOf(theirs)
  let end = 0
  for (let at = 0; at < ours.length; at++) {
    end = Math.max(end, at + (skip(at, view) ?? 0))
    if (ours[at] !== theirs[at] && at >= end) wrong.push(`+${hex(at)}: ${ours[at]}, ld writes ${theirs[at]}`)
  }
  return wrong
}

interface SlotField {
  readonly width: number
  readonly content: bigint
  /** What the value counts from: the field, or the GOT. */
  readonly anchor: bigint
  /** Value - (slot - anchor). */
  readonly addend: bigint
}

/** Fields of a part that lead to a slot of the GOT, by offset. */
function slotFields({ code }: PlacedObject, part: PlacedPart): Map<number, SlotField> {
  const fields = new Map<number, SlotField>()
  const got = code.sections.find(({ name }) => name === '.got')
  if (got === undefined) return fields
  const [view, own] = [viewOf(code.bytes), viewOf(part.bytes)]
  for (const { offset, kind, target, anchor: from } of part.sites()) {
    // An immediate behind the field makes it point a few bytes before the slot.
    const at = 8 * Math.ceil((Number(BigInt(target!) - code.base) - got.offset) / 8)
    if (at < 0 || at >= got.size || kind === 'abs64') continue
    const width = kind === 'diff64' ? 8 : 4
    const value = BigInt.asIntN(8 * width, readField(own, offset!, width))
    const anchor = from === undefined ? part.base + BigInt(offset!) : BigInt(from)
    const addend = value - (code.base + BigInt(got.offset + at) - anchor)
    fields.set(offset!, { width, content: view.getBigUint64(got.offset + at, true), anchor, addend })
  }
  return fields
}

function wordOf(linked: ElfFile, address: bigint): bigint | undefined {
  const section = sectionAt(linked.loadedSections, address)
  if (section === undefined || !hasBytes(section)) return undefined
  return linked.view.getBigUint64(section.offset + Number(address - section.address), true)
}
