/** Collects the objects of an origin: members of an archive, or what its build command leaves as `*.o`. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { readArchive, readElf } from './elf.ts'
import { classify, type InputObject } from './link.ts'
import type { Origin } from './recipes.ts'

const PROGRAMS = join(import.meta.dirname, 'programs')

/** For build scripts: `fetch NAME` unpacks a Debian source package once and sets $DIR; `crate` builds Rust crates. */
const PRELUDE = `
fetch() {
  mkdir -p "$SOURCES"
  ls -d "$SOURCES/$1"-*/ >/dev/null 2>&1 || (cd "$SOURCES" && apt-get -qq source "$1" >/dev/null 2>&1)
  DIR=$(ls -d "$SOURCES/$1"-*/ | head -1)
}
crate() {
  mkdir -p src .cargo && echo 'pub use lib::*;' | sed "s/lib/$1/" > src/lib.rs
  printf '[package]\\nname="all"\\nversion="0.1.0"\\nedition="2021"\\n[dependencies]\\n%s="*"\\n' "$1" > Cargo.toml
  printf '[source.crates-io]\\nreplace-with="local"\\n[source.local]\\ndirectory="/usr/share/cargo/registry"\\n' > .cargo/config.toml
  RUSTFLAGS="$2" cargo build -q --release --offline
}
`

function codeSize(object: InputObject): number {
  return object.elf.sections.reduce((sum, s) => sum + (classify(s) === 'text' ? s.size : 0), 0)
}

/** Runs the build script and reads what the origin names: archive members first, then loose objects. */
function readMembers(origin: Origin, directory: string): { readonly name: string; readonly bytes: Buffer }[] {
  const env = { ...process.env, SRC: PROGRAMS, SOURCES: join(directory, '..', 'sources') }
  const bash = (script: string): string =>
    execFileSync('bash', ['-ec', script], {
      cwd: directory,
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  if (origin.build) bash(PRELUDE + origin.build)
  const archives = (origin.archives ?? []).flatMap((pattern) => bash(`ls -d ${pattern}`).trim().split('\n'))
  const objects = readdirSync(directory).filter((name) => name.endsWith('.o'))
  return [
    ...archives.flatMap((archive) => readArchive(readFileSync(resolve(directory, archive)))),
    ...objects.sort().map((name) => ({ name, bytes: readFileSync(join(directory, name)) })),
  ]
}

/** Writes the chosen objects to `directory/o` under unique names and reads them. */
export function gatherObjects(origin: Origin, directory: string): InputObject[] {
  const chosen: InputObject[] = []
  let size = 0
  for (const [n, { name, bytes }] of readMembers(origin, directory).entries()) {
    if (origin.members && !origin.members.test(name)) continue
    const file = `o/${String(n).padStart(4, '0')}-${name.replace(/[^\w.-]/g, '_').slice(-80)}`
    const object: InputObject = { file, elf: readElf(bytes) }
    const more = codeSize(object)
    if (object.elf.sections.every((section) => classify(section) === undefined)) continue
    if (size > 0 && size + more > (origin.maxCode ?? 400_000)) continue
    size += more
    writeFileSync(join(directory, file), bytes)
    chosen.push(object)
  }
  if (!chosen.length) throw new Error('no objects chosen')
  return chosen
}
