/**
 * Places object files, and compares with what GNU ld writes at the same addresses: npx tsx
 * scripts/check-objects.ts FILE...
 *
 * Files are objects (.o) or archives of them (.a, .rlib). What an object does not define gets addresses of
 * its own. Each is placed twice, with what it writes behind the rest or apart in turns; the first, moved by
 * its tables, must be the second. Prints what differs, what ld and what we refuse, and a summary as JSON;
 * exit code 1 where something differs.
 */
import { readFileSync } from 'node:fs'
import { RelocError } from '../src/core/errors.ts'
import { isObjectFile } from '../src/elf/file.ts'
import { type PlacedObject, type PlacedPart, placeObject } from '../src/elf/place.ts'
import { relocate } from '../src/relocate/relocate.ts'
import { compareLinked, linkAt } from '../test/support/linker.ts'

const HERE = { base: 0x2000_0000n, writable: 0x3000_0000n }
const THERE = { base: 0x2800_0000n, writable: 0x3080_0000n }
const OUTSIDE = 0x1000_0000n

/**
 * The objects in a file. Archives: "!<arch>\n", then members of 60 bytes of header (name 16, ..., size 10
 * decimal) and contents, evenly aligned.
 */
function* objectsIn(path: string): Generator<{ readonly name: string; readonly bytes: Uint8Array }> {
  const file = readFileSync(path)
  if (file.toString('latin1', 0, 8) !== '!<arch>\n') {
    yield { name: path, bytes: new Uint8Array(file) }
    return
  }
  for (let at = 8; at + 60 <= file.length; ) {
    const size = Number(file.toString('latin1', at + 48, at + 58))
    const bytes = new Uint8Array(file.subarray(at + 60, at + 60 + size))
    const name = file.toString('latin1', at, at + 16).trim()
    if (bytes[0] === 0x7f && isObjectFile(bytes)) yield { name: `${path}(${name} at ${at})`, bytes }
    at += 60 + size + (size % 2)
  }
}

const moveOf = (part: PlacedPart, to: PlacedPart): { from: bigint; to: bigint; length: number } => ({
  from: part.base,
  to: to.base,
  length: Math.max(part.span, 1),
})

/** Whether `part`, moved by its table while `other` moves, too, is what it is where it was placed. */
function followsTable(here: PlacedObject, there: PlacedObject, which: 'code' | 'data'): boolean {
  const [part, to] = [here[which], there[which]]
  const [other, otherTo] = which === 'code' ? [here.data, there.data] : [here.code, there.code]
  if (part === undefined || to === undefined || part.bytes.length === 0) return true
  const also = other === undefined || otherTo === undefined ? [] : [moveOf(other, otherTo)]
  const table = part.table(also.map(({ from, length }) => ({ start: from, length })))
  return Buffer.compare(relocate(part.bytes, table, { to: to.base, also }).bytes, to.bytes) === 0
}

function check(bytes: Uint8Array, apart: boolean): string[] {
  const outside = new Map<string, bigint>()
  const symbols = (name: string): bigint | undefined => {
    // These are the linker's own.
    if (/^__(start|stop)_|^_GLOBAL_OFFSET_TABLE_$/.test(name)) return undefined
    if (!outside.has(name)) outside.set(name, OUTSIDE + BigInt(0x1010 * outside.size))
    return outside.get(name)
  }
  const placed = [HERE, THERE].map(({ base, writable }) =>
    placeObject(bytes, { base, symbols, writable: apart ? writable : undefined }),
  )
  const [here, there] = placed
  // ld drops sections without bytes, and with them the place of their labels.
  if (apart && here.data === undefined) return check(bytes, false)
  const wrong = compareLinked(here, linkAt(bytes, here, outside))
  for (const part of ['code', 'data'] as const)
    if (!followsTable(here, there, part)) wrong.push(`${part}, moved by its table, is something else`)
  return wrong
}

const results = { objects: 0, equal: 0, different: 0, refused: 0, refusedByLd: 0 }
const reasons = new Map<string, number>()
for (const path of process.argv.slice(2))
  for (const { name, bytes } of objectsIn(path)) {
    results.objects++
    try {
      const wrong = check(bytes, results.objects % 2 === 0)
      results[wrong.length === 0 ? 'equal' : 'different']++
      if (wrong.length > 0)
        console.log(`${name}: ${wrong.length} differences, ${wrong.slice(0, 3).join('; ')}`)
    } catch (error) {
      if (error instanceof RelocError) {
        results.refused++
        const said = error.problems.length === 0 ? [error] : error.problems
        // Without the place and the symbol, which are different each time.
        for (const reason of new Set(
          said.map(({ message }) => message.replace(/^\S+, (\S+), [^:]*: /, '$1: ')),
        ))
          reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
      } else {
        const message = String((error as { stderr?: unknown }).stderr ?? '').split('\n')[0]
        if (message === '') throw error
        results.refusedByLd++
        console.log(name, message)
      }
    }
  }
console.log(JSON.stringify({ ...results, reasons: Object.fromEntries(reasons) }, null, 2))
process.exitCode = results.different === 0 ? 0 : 1
