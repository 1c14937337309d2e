/**
 * elfy, under supervision. It reads the same headers with other code, so where it sees another section list
 * than ours, one of
 * two readers is wrong and the file is refused.  of its fields, alignment and entry size are misread (offsets 46 and 54 instead of 48 and 56) and the names of
 * types and flags ambiguous, so none of these is looked at, and its 64-bit numbers are exact below 2^53 only.
 */
import type Elfy from 'elfy'
import { RelocError } from '../core/errors.ts'
import { loadPackage } from '../core/package.ts'
import { badElf, type ElfHeader, type Segment } from './header.ts'
import { hasBytes, type Section } from './sections.ts'

/** Its objects are some ten times as large as the headers; tables of more of them than this are read by us alone. */
const MOST_HEADERS = 4096

let loaded: typeof Elfy | undefined

/** elfy needs Node's Buffer; elsewhere our own reader is alone. */
function loadElfy(): typeof Elfy | undefined {
  if (loaded !== undefined || globalThis.process === undefined) return loaded
  try {
    loaded = loadPackage('elfy') as typeof Elfy
    return loaded
  } catch (error) {
    throw new RelocError(
      'unsupported',
      `elfy cannot be loaded (${String(error).split('\n')[0]}): install it where this runs, a bundle does not hold it.`,
    )
  }
}

const disagree = (what: string, ours: bigint | number | string, theirs: number | string): RelocError =>
  badElf(
    `is ambiguous: ${what} is ${ours} by its raw header, ${theirs} by elfy. Write it again with objcopy.`,
  )

/** Numbers that elfy holds as floating point: equal, or as near as it can come. */
function same(what: string, ours: bigint | number, theirs: number): void {
  if (Number(ours) !== theirs) throw disagree(what, ours, theirs)
}

/** Compares every header value that is used with elfy's. Throws `bad-input` naming the first that differs. */
export function superviseElfy(
  bytes: Uint8Array,
  header: ElfHeader,
  segments: readonly Segment[],
  sections: readonly Section[],
): void {
  if (header.nameSection === 0 || sections.length + segments.length > MOST_HEADERS) return
  // elfy knows no section numbers outside their 16-bit fields.
  if (header.extended) return
  const elfy = loadElfy()
  if (elfy === undefined) return
  const file = elfy.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
  same('e_entry', header.entry, file.entry)
  same('e_phnum', header.programCount, file.phnum)
  same('e_shnum', header.sectionCount, file.shnum)
  same('e_shoff', header.sectionOffset, file.shoff)
  same('e_shstrndx', header.nameSection, file.shstrndx)
  segments.forEach((segment, i) => {
    const theirs = file.body.programs[i]
    same(`p_vaddr of segment ${i}`, segment.address, theirs.vaddr)
    same(`p_memsz of segment ${i}`, segment.end - segment.address, theirs.memsz)
    if (segment.fileSize === 0) return
    same(`p_offset of segment ${i}`, segment.offset, theirs.offset)
    same(`p_filesz of segment ${i}`, segment.fileSize, theirs.filesz)
  })
  sections.forEach((section, i) => {
    const theirs = file.body.sections[i]
    if (section.name !== theirs.name) throw disagree(`the name of section ${i}`, section.name, theirs.name)
    same(`sh_addr of ${section.name}`, section.address, theirs.addr)
    same(`sh_link of ${section.name}`, section.link, theirs.link)
    same(`sh_info of ${section.name}`, section.info, theirs.info)
    if (section.size === 0 || !hasBytes(section)) return
    same(`sh_offset of ${section.name}`, section.offset, theirs.off)
    same(`sh_size of ${section.name}`, section.size, theirs.size)
  })
}
