/**
 * The dynamic table as the loader finds it: by its program header, whether or not there are sections. Tags
 * and their meaning: System V ABI, "Dynamic Section"; the GNU and x86-64 ranges from their own supplements.
 */
import { hex } from '../core/address.ts'
import { badElf, PT_DYNAMIC, PT_LOAD, type Segment } from './header.ts'

export const DYN_SIZE = 16

export const DT_RELA = 7n
export const DT_RELASZ = 8n
export const DT_INIT = 12n
export const DT_FINI = 13n
export const DT_PLTRELSZ = 2n
export const DT_PLTGOT = 3n
export const DT_HASH = 4n
export const DT_SYMTAB = 6n
export const DT_JMPREL = 23n
export const DT_INIT_ARRAY = 25n
export const DT_FINI_ARRAY = 26n
export const DT_INIT_ARRAYSZ = 27n
export const DT_FINI_ARRAYSZ = 28n
export const DT_PREINIT_ARRAY = 32n
export const DT_PREINIT_ARRAYSZ = 33n
export const DT_RELRSZ = 35n
export const DT_RELR = 36n
/** Tables of the loader's records in other forms than Elf64_Rela and Elf64_Relr. */
const OTHER_FORMS: ReadonlyMap<bigint, string> = new Map([
  [17n, 'DT_REL'],
  [0x4000_0026n, 'DT_CREL'],
  [0x6000_000fn, 'DT_ANDROID_REL'],
  [0x6000_0011n, 'DT_ANDROID_RELA'],
  [0x6fff_e000n, 'DT_ANDROID_RELR'],
])
const DT_FLAGS_1 = 0x6fff_fffbn
/** DF_1_PIE: what ld says of a position-independent executable that it placed at an address, and calls ET_EXEC. */
const PIE = 0x0800_0000n
export const DT_GNU_HASH = 0x6fff_fef5n

/** Tags whose value is an address; the GNU address range is 0x6ffffe00 to 0x6ffffeff. */
const POINTERS: ReadonlySet<bigint> = new Set([
  DT_PLTGOT,
  DT_HASH,
  5n, // STRTAB
  DT_SYMTAB,
  DT_RELA,
  DT_INIT,
  DT_FINI,
  17n, // REL
  DT_JMPREL,
  DT_INIT_ARRAY,
  DT_FINI_ARRAY,
  DT_PREINIT_ARRAY,
  34n, // SYMTAB_SHNDX
  DT_RELR,
  0x6fff_fff0n, // VERSYM
  0x6fff_fffcn, // VERDEF
  0x6fff_fffen, // VERNEED
  0x7000_0000n, // X86_64_PLT
])

export const isPointerTag = (tag: bigint): boolean =>
  POINTERS.has(tag) || (tag >= 0x6fff_fe00n && tag <= 0x6fff_feffn)

/** Loaded bytes by address. */
export interface Loaded {
  /** The `PT_LOAD` ones with memory, ascending by address, disjoint. */
  readonly segments: readonly Segment[]
  /** Position in the file of `[address, address + size)`; undefined where not all of it is loaded from the file. */
  position(address: bigint, size: number): number | undefined
}

/** What the loaded segments hold, by address. Throws `bad-input` where two of them claim the same address. */
export function loadedBytes(segments: readonly Segment[]): Loaded {
  const loads = segments
    .filter((segment) => segment.type === PT_LOAD && segment.end > segment.address)
    .sort((a, b) => (a.address < b.address ? -1 : 1))
  loads.forEach((segment, i) => {
    if (i > 0 && segment.address < loads[i - 1].end)
      throw badElf(
        `is damaged: its loaded segments at ${hex(loads[i - 1].address)} and ${hex(segment.address)} overlap in memory.`,
      )
  })
  const position = (address: bigint, size: number): number | undefined => {
    const segment = loads[findIndex(loads, address)]
    if (segment === undefined) return undefined
    const inside = address - segment.address
    return inside + BigInt(size) <= BigInt(segment.fileSize) ? segment.offset + Number(inside) : undefined
  }
  return { segments: loads, position }
}

/** Index of the segment that holds `address`, or -1. */
function findIndex(sorted: readonly Segment[], address: bigint): number {
  let low = 0
  let high = sorted.length - 1
  while (low <= high) {
    const middle = (low + high) >> 1
    if (address < sorted[middle].address) high = middle - 1
    else if (address >= sorted[middle].end) low = middle + 1
    else return middle
  }
  return -1
}

/** A table that the dynamic table names: `[start, end)` of the file, first byte at `address`. */
export interface DynamicTable {
  readonly start: number
  readonly end: number
  readonly address: bigint
}

export class DynamicInfo {
  readonly #values = new Map<bigint, bigint>()
  readonly #loaded: Loaded

  constructor(view: DataView, segments: readonly Segment[], loaded: Loaded) {
    this.#loaded = loaded
    const segment = segments.find((candidate) => candidate.type === PT_DYNAMIC)
    if (segment === undefined) return
    const end = segment.offset + segment.fileSize - DYN_SIZE
    for (let at = segment.offset; at <= end; at += DYN_SIZE) {
      const tag = view.getBigUint64(at, true)
      if (tag === 0n) break
      if (tag < 64n || tag === DT_GNU_HASH || tag === DT_FLAGS_1 || OTHER_FORMS.has(tag))
        this.#values.set(tag, view.getBigUint64(at + 8, true))
    }
  }

  get present(): boolean {
    return this.#values.size > 0
  }
  get positionIndependent(): boolean {
    return ((this.#values.get(DT_FLAGS_1) ?? 0n) & PIE) !== 0n
  }
  /** The name of a table of the loader's records that is in no form that is read here. */
  get otherForm(): string | undefined {
    for (const [tag, name] of OTHER_FORMS) if (this.#values.has(tag)) return name
    return undefined
  }
  value(tag: bigint): bigint | undefined {
    return this.#values.get(tag)
  }
  /**
   * The table at the address under `tag` with the size under `size`. Throws `bad-input` where it is not in
   * the loaded bytes.
   */
  table(tag: bigint, size: bigint): DynamicTable | undefined {
    const address = this.#values.get(tag)
    const bytes = this.#values.get(size) ?? 0n
    if (address === undefined || bytes === 0n) return undefined
    const length = bytes > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(bytes)
    const start = this.#loaded.position(address, length)
    if (start === undefined)
      throw badElf(
        `is damaged: its dynamic table puts ${bytes} bytes (tag ${tag}) at ${hex(address)}, where nothing is loaded.`,
      )
    return { start, end: start + length, address }
  }
}
