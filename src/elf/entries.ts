/** Addresses where the file says that execution starts: each is certain, none is needed. */
import { readField } from '../core/bytes.ts'
import { type FrameEntry, frameAddress, frameEntries } from '../core/unwind.ts'
import {
  DT_FINI,
  DT_FINI_ARRAY,
  DT_FINI_ARRAYSZ,
  DT_INIT,
  DT_INIT_ARRAY,
  DT_INIT_ARRAYSZ,
  DT_PREINIT_ARRAY,
  DT_PREINIT_ARRAYSZ,
  type DynamicTable,
} from './dynamic.ts'
import { type ElfFile, recordsOf } from './file.ts'
import { PT_GNU_EH_FRAME } from './header.ts'
import { readRecords } from './records.ts'
import { hasBytes, SHT_FINI_ARRAY, SHT_INIT_ARRAY, SHT_PREINIT_ARRAY } from './sections.ts'
import { loaderRecords } from './structures.ts'
import { STT_FUNC, STT_GNU_IFUNC, STT_SECTION } from './symbols.ts'

/** R_X86_64_PLT32: the target of a call or a jump, and never of anything else. */
const PLT32 = 4
const IRELATIVE = 37

/** The entries of the unwind tables, found by section or, in a stripped file, by program header. */
export function* unwindEntries(elf: ElfFile): Generator<FrameEntry> {
  const { view } = elf
  const sections = elf.loadedSections.filter((section) => section.name === '.eh_frame' && hasBytes(section))
  for (const { offset, size, address } of sections) yield* frameEntries(view, offset, offset + size, address)
  if (sections.length > 0) return
  const header = elf.segments.find(({ type }) => type === PT_GNU_EH_FRAME)
  if (header === undefined) return
  const { offset, fileSize, address } = header
  const frames = frameAddress(view, offset, offset + fileSize, address)
  const start = frames === undefined ? undefined : elf.loaded.position(frames, 4)
  const segment = elf.loaded.segments.find(
    (load) => start !== undefined && start >= load.offset && start < load.offset + load.fileSize,
  )
  if (frames === undefined || start === undefined || segment === undefined) return
  yield* frameEntries(view, start, segment.offset + segment.fileSize, frames)
}

/** Every address where execution is known to start, in no order, some more than once. */
export function* entryAddresses(elf: ElfFile): Generator<bigint> {
  if (elf.header.entry !== 0n) yield elf.header.entry
  yield* functionSymbols(elf)
  for (const { range, isSignal } of unwindEntries(elf))
    if (range !== undefined && !isSignal) yield range.start
  yield* startAndStop(elf)
  for (const { start, end } of loaderRecords(elf))
    for (const { type, addend } of readRecords(elf.view, start, end))
      if (type === IRELATIVE) yield BigInt.asUintN(64, addend)
  yield* callTargets(elf)
}

function* functionSymbols({ symbols }: ElfFile): Generator<bigint> {
  for (let i = 0; i < (symbols?.count ?? 0); i++) {
    const type = symbols!.type(i)
    if ((type === STT_FUNC || type === STT_GNU_IFUNC) && symbols!.isDefined(i)) yield symbols!.value(i)
  }
}

const ARRAYS = [
  [DT_PREINIT_ARRAY, DT_PREINIT_ARRAYSZ],
  [DT_INIT_ARRAY, DT_INIT_ARRAYSZ],
  [DT_FINI_ARRAY, DT_FINI_ARRAYSZ],
] as const

/** DT_INIT, DT_FINI and what the init and fini arrays hold; words that the loader fills in are 0 and of no use. */
function* startAndStop(elf: ElfFile): Generator<bigint> {
  for (const tag of [DT_INIT, DT_FINI]) {
    const value = elf.dynamic.value(tag)
    if (value !== undefined) yield value
  }
  const arrays: (DynamicTable | undefined)[] = ARRAYS.map(([at, size]) => elf.dynamic.table(at, size))
  for (const { type, offset, size, address } of elf.loadedSections)
    if (type === SHT_INIT_ARRAY || type === SHT_FINI_ARRAY || type === SHT_PREINIT_ARRAY)
      arrays.push({ start: offset, end: offset + size, address })
  for (const array of arrays)
    for (let at = array?.start ?? 0; at + 8 <= (array?.end ?? 0); at += 8) {
      const value = elf.view.getBigUint64(at, true)
      if (value !== 0n && value !== NONE) yield value
    }
}

/** What old linkers put first in an array. */
const NONE: bigint = (1n << 64n) - 1n

/** What the linker's kept records call; labels without a type are found by nothing else. */
function* callTargets(elf: ElfFile): Generator<bigint> {
  const { symbols, view } = elf
  if (symbols === undefined) return
  for (const section of elf.loadedSections) {
    if (!elf.kept.has(section.index)) continue
    const end = section.address + BigInt(section.size)
    for (const { type, address, symbol, addend } of recordsOf(elf, section)) {
      if (type !== PLT32 || address < section.address || address + 4n > end) continue
      const value = BigInt.asIntN(32, readField(view, section.offset + Number(address - section.address), 4))
      // Where the linker took the call away (__tls_get_addr), the field is something else.
      const called = symbols.value(symbol) + (symbols.type(symbol) === STT_SECTION ? addend + 4n : 0n)
      if (address + 4n + value === called) yield called
    }
  }
}
