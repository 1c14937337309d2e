/** Chooses the functions of a one-function-out pack: no two may refer to each other, so each moves alone. */
import { type ElfSymbol, SHF } from './elf.ts'
import { classify, type InputObject, type MovedUnit } from './link.ts'

const SMALLEST = 24
const LARGEST = 12_000

/** The text section that a symbol of `object` lives in, as a key that is unique over all objects. */
function homeOf(
  object: InputObject,
  symbol: ElfSymbol,
  globals: ReadonlyMap<string, string>,
): string | undefined {
  if (symbol.section === 0) return globals.get(symbol.name)
  return symbol.bind === 0
    ? `${object.file} ${symbol.section}`
    : (globals.get(symbol.name) ?? `${object.file} ${symbol.section}`)
}

export function packUnits(
  objects: readonly InputObject[],
  from: bigint,
  to: bigint,
  count: number,
): MovedUnit[] {
  const globals = new Map<string, string>()
  for (const object of objects)
    for (const symbol of object.elf.symbols)
      if (symbol.bind !== 0 && symbol.section !== 0 && !globals.has(symbol.name))
        globals.set(symbol.name, `${object.file} ${symbol.section}`)
  const chosen = new Set<string>()
  const referred = new Set<string>()
  const units: MovedUnit[] = []
  let seed = 12345
  for (const object of objects) {
    const names = object.elf.sections.map((section) => section.name)
    for (const section of object.elf.sections) {
      if (classify(section) !== 'text' || section.size < SMALLEST || section.size > LARGEST) continue
      if (names.indexOf(section.name) !== names.lastIndexOf(section.name)) continue
      const key = `${object.file} ${section.index}`
      const records = object.elf.relocs.get(section.index) ?? []
      const targets = records.map((r) => homeOf(object, object.elf.symbols[r.symbol], globals))
      if (!records.length || !(section.flags & SHF.EXEC)) continue
      // A discarded twin of a COMDAT function has no bytes: the first definition is the one that stays.
      const own = object.elf.symbols.find((s) => s.section === section.index && s.bind !== 0)
      if (own && globals.get(own.name) !== key) continue
      if (referred.has(key) || targets.some((t) => t !== undefined && t !== key && chosen.has(t))) continue
      chosen.add(key)
      for (const target of targets) if (target !== undefined && target !== key) referred.add(target)
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
      const step = BigInt(units.length) * 0x8000n
      const skew = BigInt((seed >>> 16) & 0x1fff & -Math.max(16, section.align))
      units.push({ file: object.file, section, from: from + step, to: to + step + skew })
      if (units.length === count) return units
    }
  }
  return units
}
