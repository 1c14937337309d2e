/** Where a blob has code and data, and where execution starts in it. */
import { entryAddresses } from './entries.ts'
import type { ElfFile } from './file.ts'
import { EHDR_SIZE, PF_X, PHDR_SIZE } from './header.ts'
import { hasBytes, isCode, type Section } from './sections.ts'
import type { Extent } from './sites.ts'
import { objectRanges } from './symbol-list.ts'

/** Offsets in bytes from the blob's start. */
export interface BlobRange {
  readonly start: number
  readonly end: number
  /** `data` is never code; `code` may still hold tables. */
  readonly kind: 'code' | 'data'
}

/** Code and data: by section, less the objects that lie in code; by segment where the file has no sections. */
export function blobRanges(elf: ElfFile, { base, bytes, sections, image }: Extent): BlobRange[] {
  const pieces: { start: number; end: number; kind: BlobRange['kind'] }[] = []
  const add = (from: bigint, to: bigint, kind: BlobRange['kind']): void => {
    const start = Math.max(0, Number(from - base))
    const end = Math.min(bytes.length, Number(to - base))
    const before = pieces[pieces.length - 1]
    if (before?.kind === kind && before.end === start) before.end = Math.max(start, end)
    else if (start < end) pieces.push({ start, end, kind })
  }
  const first = image
    ? elf.loaded.segments.find(({ offset, fileSize }) => offset === 0 && fileSize > 0)
    : undefined
  const headers = BigInt(EHDR_SIZE + PHDR_SIZE * elf.header.programCount)
  if (first !== undefined) add(first.address, first.address + headers, 'data')
  if (elf.sections.length === 0)
    for (const segment of elf.loaded.segments) {
      const start = segment.address + (segment === first ? headers : 0n)
      add(start, segment.address + BigInt(segment.fileSize), (segment.flags & PF_X) === 0 ? 'data' : 'code')
    }
  else addSections(elf, base, sections, add)
  pieces.sort((a, b) => a.start - b.start)
  return merge(pieces)
}

function addSections(
  elf: ElfFile,
  base: bigint,
  sections: ReadonlySet<Section>,
  add: (from: bigint, to: bigint, kind: BlobRange['kind']) => void,
): void {
  const objects = objectRanges(elf, base, sections)
  let object = objects.next()
  for (const section of elf.loadedSections) {
    if (!sections.has(section) || !hasBytes(section)) continue
    const end = section.address + BigInt(section.size)
    let at = section.address
    for (; !object.done && object.value.start < end; object = objects.next()) {
      if (object.value.end > end || object.value.start < at) continue
      add(at, object.value.start, 'code')
      add(object.value.start, object.value.end, 'data')
      at = object.value.end
    }
    add(at, end, isCode(section) ? 'code' : 'data')
  }
}

/**
 * Sorted pieces as disjoint ranges: neighbours of one kind become one, and of two that overlap the first
 * keeps its bytes.
 */
function merge(pieces: readonly BlobRange[]): BlobRange[] {
  const ranges: BlobRange[] = []
  for (const { start, end, kind } of pieces) {
    const before = ranges[ranges.length - 1]
    if (before === undefined || start > before.end || kind !== before.kind) {
      const free = Math.max(start, before?.end ?? 0)
      if (free < end) ranges.push({ start: free, end, kind })
    } else if (end > before.end) ranges[ranges.length - 1] = { ...before, end }
  }
  return ranges
}

/** Entries that lie in code, each once: those that the file names, and `more`. */
export function blobEntries(
  elf: ElfFile,
  { base, bytes }: Extent,
  ranges: readonly BlobRange[],
  more: Iterable<bigint> = [],
): number[] {
  const limit = BigInt(bytes.length)
  let found = new Uint32Array(256)
  let count = 0
  const add = (address: bigint): void => {
    const offset = address - base
    if (offset < 0n || offset >= limit) return
    if (count === found.length) {
      const larger = new Uint32Array(2 * count)
      larger.set(found)
      found = larger
    }
    found[count++] = Number(offset)
  }
  for (const address of entryAddresses(elf)) add(address)
  for (const address of more) add(address)
  const sorted = found.subarray(0, count).sort()
  let range = 0
  const entries: number[] = []
  for (const offset of sorted) {
    while (range < ranges.length && ranges[range].end <= offset) range++
    if (range === ranges.length) break
    if (
      ranges[range].kind === 'code' &&
      offset >= ranges[range].start &&
      offset !== entries[entries.length - 1]
    )
      entries.push(offset)
  }
  return entries
}
