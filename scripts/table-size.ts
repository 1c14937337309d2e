/**
 * How large tables are in binary form: npx tsx scripts/table-size.ts [CORPUS-DIR] [ELF-FILE]...
 *
 * For a corpus (see score.ts) the tables of the linker's records and those that analysis finds, summed over
 * all cases; for an ELF file the analysed table of its .text, with the file's ranges and entries as hints.
 * Prints the table of the README.
 */
import { readFileSync, statSync } from 'node:fs'
import { basename } from 'node:path'
import { analyze } from '../src/analyze/analyze.ts'
import { RelocError } from '../src/core/errors.ts'
import { blobFromElf } from '../src/elf/blob.ts'
import { readElf } from '../src/elf/file.ts'
import type { RelocationTable } from '../src/table/table.ts'
import { listCases, loadCase } from './corpus.ts'
import { type Mode, tableFor } from './score.ts'

/** Length, base, hash, checksum and the heads of a few streams: some 60 bytes, however few sites there are. */
const FIXED = 64

interface Size {
  sites: number
  table: number
  json: number
  code: number
  /** Blobs whose table is larger than 2 bytes a site or 5 % of the code, and than what every table costs. */
  over: string[]
}

function add(size: Size, name: string, table: RelocationTable, code: Uint8Array): void {
  const bytes = table.toBinary(code).length
  size.sites += table.size
  size.table += bytes
  size.json += JSON.stringify(table).length
  size.code += code.length
  if (bytes > FIXED && (bytes > 2 * table.size || bytes > 0.05 * code.length))
    size.over.push(`${name}: ${bytes} bytes, ${table.size} sites, ${code.length} of code`)
}

const row = (name: string, { sites, table, json, code }: Size): string =>
  `| ${name} | ${code} | ${sites} | ${table} | ${(table / sites).toFixed(2)} | ${((100 * table) / code).toFixed(2)} % | ${(json / table).toFixed(0)} x |`

const sizes: [string, Size][] = []
const empty = (): Size => ({ sites: 0, table: 0, json: 0, code: 0, over: [] })

function corpus(dir: string, mode: Mode): void {
  const size = empty()
  for (const name of listCases(dir))
    for (const pair of loadCase(`${dir}/${name}`).pairs) {
      try {
        add(size, pair.name, tableFor(pair, mode), pair.before)
      } catch (error) {
        if (!(error instanceof RelocError)) throw error
        console.error(`${pair.name}: ${error.message}`)
      }
    }
  sizes.push([`corpus, ${mode === 'table' ? "the linker's records" : 'analysed'}`, size])
}

for (const path of process.argv.slice(2)) {
  if (statSync(path).isDirectory()) {
    corpus(path, 'table')
    corpus(path, 'hinted')
    continue
  }
  const { bytes, base, span, ranges, entries } = blobFromElf(readElf(new Uint8Array(readFileSync(path))))
  const size = empty()
  add(size, path, analyze(bytes, { base, span, hints: { ranges, entries } }), bytes)
  sizes.push([`${basename(path)} .text, analysed`, size])
}
console.log('| code | bytes | sites | table, bytes | a site | of the code | JSON is larger by |')
console.log('|---|---|---|---|---|---|---|')
for (const [name, size] of sizes) console.log(row(name, size))
for (const [name, { over }] of sizes) {
  if (over.length === 0) continue
  console.log(`\n${name}: ${over.length} blobs above 2 bytes a site or 5 %`)
  for (const line of over.slice(0, 40)) console.log(`  ${line}`)
}
