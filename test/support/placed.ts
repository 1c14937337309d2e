/** The committed object, where the tests place it, and what it calls there. */
import { readFileSync } from 'node:fs'
import { type ObjectFile, readObject, recordsAbout } from '../../src/elf/object.ts'
import { recordName } from '../../src/elf/records.ts'
import { hasBytes } from '../../src/elf/sections.ts'

const FOLDER = new URL('../../fixtures/elf/', import.meta.url)

/** `ld -r` of place.c and place.s. */
export const objectBytes = (): Uint8Array => new Uint8Array(readFileSync(new URL('place.o', FOLDER)))
/** What ld made of it at `PLACE`. */
export const linkedBytes = (): Uint8Array =>
  new Uint8Array(readFileSync(new URL('place-10000000.elf', FOLDER)))

export const PLACE = { base: 0x1000_0000n, writable: 0x1010_0000n } as const
/** `outside_add` and `outside_values`. */
export const OUTSIDE = 0x1020_0000n
export const OUTSIDE_SYMBOLS: ReadonlyMap<string, bigint> = new Map([
  ['outside_add', OUTSIDE],
  ['outside_values', OUTSIDE + 0x100n],
])
/** `lea (%rdi,%rsi),%rax; ret`, and at 0x100 four words. */
export function outsideBytes(): Uint8Array {
  const bytes = new Uint8Array(0x120)
  bytes.set([0x48, 0x8d, 0x04, 0x37, 0xc3])
  new BigUint64Array(bytes.buffer, 0x100).set([100n, 200n, 300n, 400n])
  return bytes
}

/** What `choose(0)`, `choose(1)` ... return when they are called once each, in order. */
export const CHOICES: readonly bigint[] = [7n, 40n, 300n, 144n, 4n, 55n, 2n, 104n, 18n, 382n, 20n]

/** Where the first record of a type (by its name without R_X86_64_) is in the object file. */
export function recordPosition(name: string, object: ObjectFile = readObject(objectBytes())): number {
  for (const section of object.sections) {
    if (!hasBytes(section)) continue
    const records = [...recordsAbout(object, section)]
    const i = records.findIndex(({ type }) => recordName(type) === `R_X86_64_${name}`)
    if (i >= 0) return object.records.get(section.index)![0].offset + 24 * i
  }
  throw new Error(`The object has no ${name} record.`)
}
