/**
 * Builds fixtures/elf from its sources: npx tsx scripts/build-elf-fixtures.ts
 *
 * Every program is linked twice, at two addresses, so that the linker's own result at the second is the
 * answer to moving the first. The object place.o is linked where the tests place it. Beside each first file
 * goes what readelf says of it, so that the comparison runs on machines without it. Needs gcc and binutils
 * (built with gcc 12.2 and GNU ld 2.40; other versions give other bytes).
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { placeObject } from '../src/elf/place.ts'
import { linkAt } from '../test/support/linker.ts'
import { OUTSIDE_SYMBOLS, objectBytes, PLACE } from '../test/support/placed.ts'
import { runReadelf } from '../test/support/readelf.ts'

const FIXTURES = new URL('../fixtures/elf/', import.meta.url).pathname
const work = mkdtempSync(join(tmpdir(), 'elf-fixtures-'))
const run = (command: string, ...args: string[]): void => {
  execFileSync(command, args, { stdio: 'inherit' })
}
const object = (name: string): string => join(work, name)

const COMPILE = ['-O2', '-fno-stack-protector', '-fcf-protection=none', '-c', join(FIXTURES, 'program.c')]
run('gcc', ...COMPILE, '-fno-pic', '-fno-pie', '-DFIXED', '-o', object('fixed.o'))
run('gcc', ...COMPILE, '-fPIE', '-o', object('pie.o'))
run('as', '--defsym', 'FIXED=1', join(FIXTURES, 'operands.s'), '-o', object('fixed-operands.o'))
run('as', join(FIXTURES, 'operands.s'), '-o', object('pie-operands.o'))

const FIXED = [object('fixed.o'), object('fixed-operands.o')]
const PIE = [object('pie.o'), object('pie-operands.o')]
const LINK = ['--build-id=none', '-z', 'max-page-size=4096', '-z', 'noseparate-code']
/** How each program is linked; `at` says what to add for an address. */
const PROGRAMS: readonly { name: string; args: readonly string[]; at: (address: string) => string[] }[] = [
  {
    name: 'static',
    args: ['-static', '--emit-relocs', ...FIXED],
    at: (address) => [`-Ttext-segment=${address}`],
  },
  {
    name: 'text',
    args: ['-static', '--emit-relocs', '-T', join(FIXTURES, 'text-moves.ld'), ...FIXED],
    at: (address) => ['--defsym', `TEXT=${address}`],
  },
  {
    name: 'pie',
    args: ['-pie', '--no-dynamic-linker', '--strip-debug', ...PIE],
    at: (address) => [`-Ttext-segment=${address}`],
  },
  {
    name: 'packed',
    args: ['-pie', '--no-dynamic-linker', '-z', 'pack-relative-relocs', '-z', 'now', '--emit-relocs', ...PIE],
    at: (address) => [`-Ttext-segment=${address}`],
  },
]

for (const { name, args, at } of PROGRAMS) {
  for (const address of ['0x400000', '0x7000000'])
    run('ld', ...LINK, ...args, ...at(address), '-o', join(FIXTURES, `${name}-${address.slice(2)}.elf`))
  const said = runReadelf(join(FIXTURES, `${name}-400000.elf`))
  writeFileSync(join(FIXTURES, `${name}-400000.readelf.json`), `${JSON.stringify(said)}\n`)
}
const SHARED = ['-O2', '-fPIC', '-fcommon', '-fno-stack-protector', '-fcf-protection=none', '-c']
run('gcc', ...SHARED, join(FIXTURES, 'place.c'), '-o', object('place-c.o'))
run('as', join(FIXTURES, 'place.s'), '-o', object('place-s.o'))
run('ld', '-r', object('place-c.o'), object('place-s.o'), '-o', object('place.o'))
copyFileSync(object('place.o'), join(FIXTURES, 'place.o'))
const placed = placeObject(objectBytes(), { ...PLACE, symbols: OUTSIDE_SYMBOLS })
writeFileSync(join(FIXTURES, 'place-10000000.elf'), linkAt(objectBytes(), placed, OUTSIDE_SYMBOLS).bytes)
rmSync(work, { recursive: true })
