/** Chooses the functions of a one-function-out pack: no two may refer to each other, so each moves alone. */
import type { Section } from './elf.ts'
import { classify, type InputObject, type MovedUnit } from './link.ts'

const SMALLEST = 24
const LARGEST = 12_000
const SPACING = 0x8000

/** Where each global symbol is defined, as `file section-index`; of several definitions ld takes the first. */
function definitions(objects: readonly InputObject[]): ReadonlyMap<string, string> {
  const homes = new Map<string, string>()
  for (const { file, elf } of objects)
    for (const symbol of elf.symbols)
      if (symbol.bind !== 0 && symbol.section !== 0 && !homes.has(symbol.name))
        homes.set(symbol.name, `${file} ${symbol.section}`)
  return homes
}

/** The sections that `section` refers to; itself is left out. */
function referencesOf(
  { file, elf }: InputObject,
  section: Section,
  homes: ReadonlyMap<string, string>,
): ReadonlySet<string> {
  const targets = new Set<string>()
  for (const record of elf.relocs.get(section.index) ?? []) {
    const symbol = elf.symbols[record.symbol]
    const home = symbol.bind === 0 ? `${file} ${symbol.section}` : homes.get(symbol.name)
    if (home !== undefined) targets.add(home)
  }
  targets.delete(`${file} ${section.index}`)
  return targets
}

/** A text section of useful size, alone under its name, that refers to something and is not a discarded COMDAT twin. */
function isCandidate(
  { file, elf }: InputObject,
  section: Section,
  homes: ReadonlyMap<string, string>,
): boolean {
  if (classify(section) !== 'text' || section.size < SMALLEST || section.size > LARGEST) return false
  if (elf.sections.filter((other) => other.name === section.name).length > 1) return false
  const own = elf.symbols.find((symbol) => symbol.section === section.index && symbol.bind !== 0)
  return elf.relocs.has(section.index) && (!own || homes.get(own.name) === `${file} ${section.index}`)
}

export function packUnits(
  objects: readonly InputObject[],
  from: bigint,
  to: bigint,
  count: number,
): MovedUnit[] {
  const homes = definitions(objects)
  const chosen = new Set<string>()
  const referred = new Set<string>()
  const units: MovedUnit[] = []
  for (const object of objects)
    for (const section of object.elf.sections) {
      if (units.length === count) return units
      if (!isCandidate(object, section, homes)) continue
      const key = `${object.file} ${section.index}`
      const references = referencesOf(object, section, homes)
      if (referred.has(key) || [...references].some((target) => chosen.has(target))) continue
      chosen.add(key)
      for (const target of references) referred.add(target)
      const step = BigInt(units.length * SPACING)
      // Deltas that differ between functions and are not whole pages.
      const skew = BigInt((units.length * 0x9e370) & 0x1fff & -Math.max(16, section.align))
      units.push({ file: object.file, section, from: from + step, to: to + step + skew })
    }
  return units
}
