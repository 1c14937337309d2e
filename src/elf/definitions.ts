/** What the symbols of an object file stand for: something of its own, what the caller says, or nothing. */
import { type AddressLike, toAddress } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import { NameReader } from './names.ts'
import { isPlaced, type ObjectFile } from './object.ts'
import { describe } from './sections.ts'
import {
  isCommon,
  SHN_ABS,
  STB_LOCAL,
  STB_WEAK,
  STT_GNU_IFUNC,
  STT_SECTION,
  STT_TLS,
  type SymbolTable,
} from './symbols.ts'

/** Addresses of what an object does not define, by name. */
export type SymbolAddresses =
  | { get(name: string): AddressLike | undefined }
  | ((name: string) => AddressLike | undefined)

export type Definition =
  /** `offset` bytes from the start of one of the object's sections. */
  | { readonly is: 'section'; readonly section: number; readonly offset: bigint }
  /** Zeros that the object asks for without a section of its own. */
  | { readonly is: 'common'; readonly size: bigint; readonly align: bigint }
  | { readonly is: 'got' }
  /** Where the sections of one name begin or end (`__start_name`, `__stop_name`). */
  | { readonly is: 'edge'; readonly section: number; readonly end: boolean }
  /** The caller's. */
  | { readonly is: 'outside'; readonly address: bigint }
  /** A number that is the same wherever anything is. */
  | { readonly is: 'constant'; readonly address: bigint }
  | { readonly is: 'missing'; readonly why: string; readonly remedy: string }

/** The symbols of an object, each looked at once. */
export class Definitions {
  readonly #object: ObjectFile
  readonly #symbols: SymbolTable | undefined
  readonly #given: (name: string) => AddressLike | undefined
  readonly #names: NameReader
  readonly #known: Definition[] = []
  #edges: ReadonlyMap<string, { readonly first: number; readonly last: number }> | undefined

  constructor(object: ObjectFile, given: SymbolAddresses | undefined) {
    if (given !== undefined && typeof given !== 'function' && typeof given?.get !== 'function')
      throw new RelocError('bad-argument', 'symbols is to be a Map of names to addresses, or a function.')
    this.#object = object
    this.#symbols = object.symbols
    this.#given = typeof given === 'function' ? given : (name) => given?.get(name)
    this.#names = new NameReader(object.bytes)
  }

  of(symbol: number): Definition {
    return (this.#known[symbol] ??= this.#define(symbol))
  }

  /** For messages: its name, or of a section symbol that of the section. */
  describe(symbol: number): string {
    const symbols = this.#symbols
    if (symbol === 0 || symbols === undefined) return 'no symbol'
    const home = symbols.home(symbol)
    if (symbols.type(symbol) === STT_SECTION && home !== undefined)
      return `section ${describe(this.#object.sections[home] ?? this.#object.sections[0])}`
    return `symbol ${nameOf(this.#object, symbol, new NameReader(this.#object.bytes)) || symbol}`
  }

  #define(symbol: number): Definition {
    const symbols = this.#symbols
    if (symbol === 0 || symbols === undefined) return { is: 'constant', address: 0n }
    if (symbols.type(symbol) === STT_TLS)
      return {
        is: 'missing',
        why: 'is thread-local: every thread has another one, at an address that only the thread library knows.',
        remedy: 'Compile with -femulated-tls, or take the address of the variable as an argument.',
      }
    if (!symbols.isDefined(symbol)) return this.#undefined(symbols, symbol)
    const index = symbols.index(symbol)
    const home = symbols.home(symbol)
    const value = symbols.value(symbol)
    if (index === SHN_ABS) return { is: 'constant', address: value }
    if (isCommon(index)) return { is: 'common', size: symbols.size(symbol), align: value }
    const section = home === undefined ? undefined : this.#object.sections[home]
    if (section === undefined || !isPlaced(section))
      return {
        is: 'missing',
        why: `is in section ${section === undefined ? (home ?? index) : describe(section)}, which is not loaded.`,
        remedy: 'Nothing that is loaded can refer to it: leave out what does.',
      }
    if (symbols.type(symbol) === STT_GNU_IFUNC)
      return {
        is: 'missing',
        why: 'is an indirect function: which one it is must be asked by calling its resolver.',
        remedy: 'Compile without ifunc and target_clones, or call a function that it may stand for.',
      }
    return { is: 'section', section: section.index, offset: value }
  }

  #edge(name: string): Definition | undefined {
    const [, edge, named] = EDGE.exec(name) ?? []
    const edges = named === undefined ? undefined : this.#placedNames().get(named)
    return edges && { is: 'edge', section: edge === 'start' ? edges.first : edges.last, end: edge === 'stop' }
  }

  /** The first and the last section of each name. */
  #placedNames(): ReadonlyMap<string, { readonly first: number; readonly last: number }> {
    if (this.#edges !== undefined) return this.#edges
    const edges = new Map<string, { readonly first: number; readonly last: number }>()
    for (const section of this.#object.sections)
      if (isPlaced(section))
        edges.set(section.name, {
          first: edges.get(section.name)?.first ?? section.index,
          last: section.index,
        })
    this.#edges = edges
    return edges
  }

  #undefined(symbols: SymbolTable, symbol: number): Definition {
    const name = nameOf(this.#object, symbol, this.#names)
    const local = symbols.binding(symbol) === STB_LOCAL
    const given = local ? undefined : this.#given(name)
    if (given !== undefined) return { is: 'outside', address: toAddress(given, `the address of ${name}`) }
    if (name === '_GLOBAL_OFFSET_TABLE_') return { is: 'got' }
    const edge = local ? undefined : this.#edge(name)
    if (edge !== undefined) return edge
    if (symbols.binding(symbol) === STB_WEAK) return { is: 'constant', address: 0n }
    return {
      is: 'missing',
      why: 'is not defined in the object, and no address is given for it.',
      remedy:
        'Give its address in `symbols` (command: --symbols <file>, with lines as nm prints them), or link the object with the one that defines it (`ld -r`).',
    }
  }
}

/** What linkers define by themselves for sections whose name is an identifier of C. */
const EDGE = /^__(start|stop)_([A-Za-z_][A-Za-z0-9_]*)$/

/** The name of a symbol; empty where it has none. Throws `bad-input`. */
export function nameOf({ symbols }: ObjectFile, symbol: number, names: NameReader): string {
  const strings = symbols?.strings
  if (symbols === undefined || strings === undefined) return ''
  const end = strings.offset + strings.size
  return names.at(strings.offset, end, symbols.nameOffset(symbol), `symbol ${symbol}`)
}
