/**
 * Compares the ELF room with readelf and objcopy: npx tsx scripts/check-elf.ts [FILE | CORPUS-DIR]...
 *
 * For each file: sections, symbols and records against readelf; .text and the image against objcopy; ranges
 * and symbols of both blobs; the sites of the loader's records. A folder with from.elf, to.elf and case.json
 * is a case of a corpus: there, moving what case.json says must give the linker's own to.bin, and the sites
 * must be those that the corpus says change. Without arguments: six programs of this machine.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { blobFromElf, type ElfBlob, tableFromElf } from '../src/elf/blob.ts'
import { type ElfFile, readElf } from '../src/elf/file.ts'
import { relocate } from '../src/relocate/relocate.ts'
import { compareBlob, compareElf, compareLoaderSites } from '../test/support/compare-elf.ts'
import { type ReadelfFile, runReadelf } from '../test/support/readelf.ts'

const PROGRAMS = ['gdb', 'python3', 'node', 'bash', 'git'].map((name) => `/usr/bin/${name}`)
const work = mkdtempSync(join(tmpdir(), 'check-elf-'))
let failed = 0

const report = (name: string, what: string, differences: readonly string[]): void => {
  if (differences.length > 0) failed++
  console.log(`${differences.length === 0 ? 'same' : 'DIFFERENT'}  ${name}: ${what}`)
  for (const line of differences.slice(0, 5)) console.log(`    ${line}`)
}

const equal = (ours: Uint8Array, theirs: Uint8Array, what: string): string[] => {
  if (Buffer.compare(ours, theirs) === 0) return []
  const at = ours.findIndex((byte, i) => byte !== theirs[i])
  return [`${what}: ${ours.length} and ${theirs.length} bytes, first difference at 0x${at.toString(16)}`]
}

function objcopy(path: string, ...args: string[]): Uint8Array {
  const out = join(work, 'out.bin')
  execFileSync('objcopy', ['-O', 'binary', ...args, path, out])
  return readFileSync(out)
}

/** objcopy's image begins with the first loaded section, ours with the first segment. */
function compareImage(image: ElfBlob, path: string, said: ReadelfFile): string[] {
  const theirs = objcopy(path)
  const loaded = said.sections.filter(
    ({ flags, type, size }) => flags.includes('A') && type !== 'NOBITS' && size > 0,
  )
  const addresses = loaded.map(({ address }) => BigInt(`0x${address}`))
  const first = addresses.reduce((a, b) => (b < a ? b : a))
  const differences: string[] = []
  loaded.forEach(({ name, size }, i) => {
    const from = Number(addresses[i] - first)
    const ours = Number(addresses[i] - image.base)
    differences.push(
      ...equal(image.bytes.subarray(ours, ours + size), theirs.subarray(from, from + size), name),
    )
  })
  return differences
}

function checkFile(path: string): void {
  const elf = readElf(readFileSync(path))
  const said = runReadelf(path)
  if (said === undefined) throw new Error('This machine has no readelf.')
  const count = Object.values(said.records).reduce((sum, records) => sum + records.length, 0)
  const symbols = Object.values(said.symbols).reduce((sum, table) => sum + table.length, 0)
  report(
    path,
    `${said.sections.length} sections, ${symbols} symbols, ${count} records`,
    compareElf(elf, said),
  )
  const text = said.sections.filter(({ name }) => name === '.text')
  if (text.length === 1) {
    const blob = blobFromElf(elf)
    const same = equal(blob.bytes, objcopy(path, '--only-section=.text'), '.text')
    report(path, `.text, ${blob.bytes.length} bytes, ${blob.entries.length} entries`, [
      ...same,
      ...compareBlob(blob, said, text),
    ])
  }
  const loaded = elf.loaded.segments
  const size = Number(loaded[loaded.length - 1].end - loaded[0].address)
  if (size > 4 * elf.bytes.length) return
  const image = blobFromElf(elf, { image: true })
  const inMemory = said.sections.filter(({ flags }) => flags.includes('A'))
  report(path, `image, ${image.bytes.length} bytes`, [
    ...compareImage(image, path, said),
    ...compareBlob(image, said, inMemory),
    ...compareLoaderSites(image, said),
  ])
}

interface Case {
  readonly kind: string
  readonly from: string
  readonly to: string
  readonly memLength: number
  readonly relocs?: readonly CaseSite[]
  readonly relocsFile?: string
}
interface CaseSite {
  readonly offset: number
  readonly changes: boolean
}

function readCase(folder: string): { info: Case; changed: Set<number> } {
  const info = JSON.parse(readFileSync(join(folder, 'case.json'), 'utf8')) as Case
  let relocs = info.relocs
  if (info.relocsFile !== undefined) {
    const bytes = readFileSync(join(folder, info.relocsFile))
    relocs = JSON.parse(
      (info.relocsFile.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8'),
    ) as CaseSite[]
  }
  return {
    info,
    changed: new Set((relocs ?? []).filter(({ changes }) => changes).map(({ offset }) => offset)),
  }
}

function caseBlob(elf: ElfFile, info: Case, base: bigint): ElfBlob {
  if (info.kind === 'text-only') return blobFromElf(elf)
  return blobFromElf(elf, { image: { start: base, end: base + BigInt(info.memLength) } })
}

function checkCase(folder: string): void {
  const { info, changed } = readCase(folder)
  const blob = caseBlob(readElf(readFileSync(join(folder, 'from.elf'))), info, BigInt(info.from))
  const [before, after] = ['from.bin', 'to.bin'].map((name) => readFileSync(join(folder, name)))
  const { table, problems } = tableFromElf(blob)
  const moved = relocate(blob.bytes, table, { to: BigInt(info.to) })
  const found = new Set(table.sites().map(({ offset }) => offset))
  const differences = [
    ...equal(blob.bytes, before, 'from.bin'),
    ...equal(moved.bytes, after, 'to.bin'),
    ...problems.map(({ message }) => message),
    ...[...changed]
      .filter((offset) => !found.has(offset))
      .map((offset) => `the site at ${offset} is missing`),
    ...[...found].filter((offset) => !changed.has(offset)).map((offset) => `the site at ${offset} is none`),
  ]
  report(folder, `${table.size} sites, moved as the linker does`, differences)
}

const given = process.argv.slice(2)
const paths = given.length > 0 ? given : [...PROGRAMS, '/lib/x86_64-linux-gnu/libc.so.6']
for (const path of paths) {
  if (!statSync(path).isDirectory()) {
    checkFile(path)
    continue
  }
  for (const name of readdirSync(path).sort()) {
    const folder = join(path, name)
    if (!existsSync(join(folder, 'from.elf'))) continue
    checkFile(join(folder, 'from.elf'))
    checkCase(folder)
  }
}
rmSync(work, { recursive: true })
console.log(failed === 0 ? 'All the same.' : `${failed} comparisons differ.`)
process.exitCode = failed === 0 ? 0 : 1
