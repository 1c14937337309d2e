/** What readelf says of a file, parsed from its text: the oracle of the ELF room. */
import { execFileSync } from 'node:child_process'

export interface ReadelfSection {
  readonly index: number
  readonly name: string
  /** As readelf abbreviates it: PROGBITS, NOBITS ... */
  readonly type: string
  readonly address: string
  readonly offset: number
  readonly size: number
  readonly entrySize: number
  readonly flags: string
  readonly link: number
  readonly info: number
}

export interface ReadelfSymbol {
  readonly index: number
  readonly value: string
  readonly size: number
  readonly type: string
  readonly bind: string
  /** Section index, UND or ABS. */
  readonly section: string
  readonly name: string
}

export interface ReadelfRecord {
  readonly address: string
  readonly type: string
  readonly symbol: number
  readonly addend: string
}

export interface ReadelfFile {
  readonly sections: readonly ReadelfSection[]
  /** By section name: .symtab, .dynsym. */
  readonly symbols: Readonly<{ [table: string]: readonly ReadelfSymbol[] }>
  /** By section name: .rela.text, .rela.dyn ... */
  readonly records: Readonly<{ [table: string]: readonly ReadelfRecord[] }>
}

const SECTION =
  /^ *\[ *(\d+)\] (.*?) +([A-Z_0-9]+) +([0-9a-f]{16}) ([0-9a-f]{6,}) ([0-9a-f]{6,}) ([0-9a-f]{2,}) +([A-Za-z]*) +(\d+) +(\d+) +\d+$/
const TABLE = /^(?:Symbol table|Relocation section) '(.*)'/
const SYMBOL =
  /^ *(\d+): ([0-9a-f]{16}) +(0x[0-9a-f]+|\d+) (\S+) +(\S+) +(?:DEFAULT|HIDDEN|PROTECTED|INTERNAL) +(?:\[[^\]]*\] +)?(\S+) ?(.*)$/
const RECORD = /^([0-9a-f]{16}) +([0-9a-f]{8,16}) (R_X86_64_\S+)(.*)$/

/** The addend stands alone, or behind the symbol as `name + 1f`. */
function addendOf(rest: string): string {
  const behind = / ([+-]) ([0-9a-f]+)$/.exec(rest)
  if (behind !== null) return `${behind[1] === '-' ? '-' : ''}0x${behind[2]}`
  const alone = /^ +(-?)([0-9a-f]+)$/.exec(rest)
  return alone === null ? '0x0' : `${alone[1]}0x${alone[2]}`
}

/** Reads the text of `readelf -SW -sW -rW`. */
export function parseReadelf(text: string): ReadelfFile {
  const sections: ReadelfSection[] = []
  const symbols: { [table: string]: ReadelfSymbol[] } = {}
  const records: { [table: string]: ReadelfRecord[] } = {}
  let table = ''
  for (const line of text.split('\n')) {
    table = TABLE.exec(line)?.[1] ?? table
    const section = SECTION.exec(line)
    const symbol = SYMBOL.exec(line)
    const record = RECORD.exec(line)
    if (section !== null && table === '') {
      const [, index, name, type, address, offset, size, entrySize, flags, link, info] = section
      sections.push({
        index: Number(index),
        name,
        type,
        address,
        offset: Number.parseInt(offset, 16),
        size: Number.parseInt(size, 16),
        entrySize: Number.parseInt(entrySize, 16),
        flags,
        link: Number(link),
        info: Number(info),
      })
    } else if (symbol !== null) {
      const [, index, value, size, type, bind, home, name] = symbol
      symbols[table] ??= []
      symbols[table].push({
        index: Number(index),
        value,
        size: Number(size),
        type,
        bind,
        section: home,
        name: name.replace(/ \(\d+\)$/, ''),
      })
    } else if (record !== null) {
      const [, address, info, type, rest] = record
      records[table] ??= []
      records[table].push({
        address,
        type,
        symbol: Number(BigInt(`0x${info}`) >> 32n),
        addend: addendOf(rest),
      })
    }
  }
  return { sections, symbols, records }
}

/** Runs readelf, or undefined where the machine has none. */
export function runReadelf(path: string): ReadelfFile | undefined {
  try {
    const text = execFileSync('readelf', ['-SW', '-sW', '-rW', path], {
      encoding: 'utf8',
      maxBuffer: 2 ** 30,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return parseReadelf(text)
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  }
}
