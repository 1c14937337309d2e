/**
 * Links the same objects twice with GNU ld, the moved sections at one address and then at another.
 *
 * The linker script names every input section, so ld places nothing by itself (`--orphan-handling=error`), and
 * the two links differ by the moved base alone. Symbols that no object defines become 16-byte stubs in the
 * fixed part: calls and loads that leave the blob have a real, unmoving target.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Elf, readElf, type Section, SHF, SHT, STT } from './elf.ts'

/** What an input section holds, and thereby which output section it goes to. */
export type SectionClass =
  | 'text'
  | 'rodata'
  | 'data'
  | 'bss'
  | 'eh'
  | 'lrodata'
  | 'ldata'
  | 'lbss'
  | 'tdata'
  | 'tbss'

/** An output section of the blob: a class, linker-made code and GOT ("plt"), or rodata between the code. */
export type Part = Exclude<SectionClass, 'tdata' | 'tbss'> | 'plt' | 'textrodata'

/** One relocatable object; `file` is relative to the work directory and unique. */
export interface InputObject {
  readonly file: string
  readonly elf: Elf
}

/** One input section that moves by itself (one-function-out packs). */
export interface MovedUnit {
  readonly file: string
  readonly section: Section
  readonly from: bigint
  readonly to: bigint
}

export interface LinkPlan {
  readonly directory: string
  readonly objects: readonly InputObject[]
  /** Files whose sections move, the others staying whole; undefined: all. */
  readonly movedFiles: ReadonlySet<string> | undefined
  readonly layout: readonly Part[]
  readonly units: readonly MovedUnit[]
  readonly fixedBase: bigint
  /** Drop .eh_frame instead of keeping it in the fixed part (unwind data in 32 bits cannot reach far bases). */
  readonly dropUnwind: boolean
  readonly flags: readonly string[]
}

export interface Linked {
  readonly elf: Elf
  readonly map: string
}

const PATTERNS: Readonly<Record<SectionClass, readonly string[]>> = {
  text: ['.text', '.text.*', '.init', '.fini'],
  rodata: ['.rodata', '.rodata.*', '.gcc_except_table', '.gcc_except_table.*'],
  data: ['.data', '.data.*', '.init_array*', '.fini_array*', '.preinit_array', '.ctors*', '.dtors*'],
  bss: ['.bss', '.bss.*', 'COMMON'],
  eh: ['.eh_frame'],
  lrodata: ['.lrodata', '.lrodata.*'],
  ldata: ['.ldata', '.ldata.*'],
  lbss: ['.lbss', '.lbss.*', 'LARGE_COMMON'],
  tdata: ['.tdata', '.tdata.*'],
  tbss: ['.tbss', '.tbss.*'],
}
/** The stubs have their own place: they never belong to what moves. */
const STUBS = '.stubs'
const DISCARDED = /^\.(note|stapsdt|comment|debug|gnu|llvm|sframe|GCC|group)/

export function classify(section: Section): SectionClass | undefined {
  if (!(section.flags & SHF.ALLOC) || section.name === STUBS || DISCARDED.test(section.name)) return undefined
  const large = /^\.l(rodata|data|bss)/.exec(section.name)
  if (large) return `l${large[1]}` as SectionClass
  if (section.flags & SHF.TLS) return section.type === SHT.NOBITS ? 'tbss' : 'tdata'
  if (section.name === '.eh_frame') return 'eh'
  if (section.flags & SHF.EXEC) return 'text'
  if (section.type === SHT.NOBITS) return 'bss'
  return section.flags & SHF.WRITE ? 'data' : 'rodata'
}

/** The names of `kind`: its usual patterns and whatever else the objects use (quoted: names may hold `[` or `$`). */
function namesOf(kind: SectionClass, objects: readonly InputObject[]): string {
  const known = PATTERNS[kind].map(
    (p) => new RegExp('^' + p.replaceAll('.', '\\.').replaceAll('*', '.*') + '$'),
  )
  const extra = new Set<string>()
  for (const { elf } of objects)
    for (const section of elf.sections)
      if (classify(section) === kind && !known.some((p) => p.test(section.name))) extra.add(section.name)
  return [...PATTERNS[kind], ...[...extra].map((name) => `"${name}"`)].join(' ')
}

/** Sections that are not part of the program in memory, or only notes in it. Relocation and symbol tables stay ld's. */
function droppedNames(objects: readonly InputObject[]): ReadonlySet<string> {
  const dropped = objects.flatMap(({ elf }) =>
    elf.sections.filter(
      (s) =>
        classify(s) === undefined && s.name !== STUBS && (s.type === SHT.PROGBITS || s.type === SHT.NOTE),
    ),
  )
  return new Set(dropped.map((section) => section.name))
}

/** The symbols that some object wants and none defines, with whether they are thread-local. */
export function undefinedSymbols(objects: readonly InputObject[]): ReadonlyMap<string, boolean> {
  const defined = new Set<string>()
  const wanted = new Map<string, boolean>()
  for (const { elf } of objects)
    for (const symbol of elf.symbols) {
      if (symbol.bind === 0 || symbol.name === '') continue
      if (symbol.section !== 0) defined.add(symbol.name)
      else wanted.set(symbol.name, symbol.type === STT.TLS || wanted.get(symbol.name) === true)
    }
  for (const name of defined) wanted.delete(name)
  wanted.delete('_GLOBAL_OFFSET_TABLE_')
  return wanted
}

function assembleStubs(directory: string, symbols: ReadonlyMap<string, boolean>): InputObject {
  const lines = [...symbols].map(([name, thread]) =>
    thread
      ? `.section .tbss,"awT",@nobits\n.globl "${name}"\n.type "${name}",@tls_object\n"${name}": .skip 16`
      : `.section ${STUBS},"ax"\n.globl "${name}"\n"${name}": .skip 16,0xcc`,
  )
  writeFileSync(join(directory, 'stubs.s'), lines.join('\n') + '\n', 'latin1')
  execFileSync('as', ['stubs.s', '-o', 'stubs.o'], { cwd: directory })
  return { file: 'stubs.o', elf: readElf(readFileSync(join(directory, 'stubs.o'))) }
}

/** Hex as linker scripts want it: a high-half address is written as unsigned. */
function hex(address: bigint): string {
  return '0x' + BigInt.asUintN(64, address).toString(16)
}

const OUTPUT: Readonly<Record<Part, string>> = {
  text: '.text',
  textrodata: '.text',
  plt: '.plt',
  rodata: '.rodata',
  eh: '.eh_frame',
  data: '.data',
  bss: '.bss',
  lrodata: '.lrodata',
  ldata: '.ldata',
  lbss: '.lbss',
}
const CLASSES = Object.keys(PATTERNS) as SectionClass[]
const PLT = '.plt : { *(.plt .plt.got .plt.sec .iplt) }'
const GOT = '.got : { *(.got .got.plt .igot .igot.plt) }'
const DYNAMIC_RELOCS = '.rela.fixed : { *(.rela*) }'

/** The input sections of each class, as a linker script lists them. */
type Names = Readonly<Record<SectionClass, string>>

/** The output sections that move as one blob, in the order of the layout. */
function movedSections({ objects, movedFiles, layout }: LinkPlan, names: Names): string[] {
  const partial = movedFiles !== undefined
  const inputs = (kind: SectionClass): string =>
    partial ? [...movedFiles].map((file) => `"${file}"(${names[kind]})`).join('\n') : `*(${names[kind]})`
  return layout.flatMap((part) => {
    const output = OUTPUT[part].replace('.', partial ? '.m' : '.')
    if (part === 'plt') return [PLT]
    if (part === 'textrodata') {
      const pairs = objects.map(({ file }) => `"${file}"(${names.text})\n"${file}"(${names.rodata})`)
      return [`${output} : { ${pairs.join('\n')} }`]
    }
    // The GOT ends the initialised part: .bss must stay last, it is not in the file.
    return [...(part === 'bss' && layout.includes('plt') ? [GOT] : []), `${output} : { ${inputs(part)} }`]
  })
}

/** Everything else, behind the stubs. */
function fixedSections({ movedFiles, layout, dropUnwind }: LinkPlan, names: Names): string[] {
  const covered = new Set<string>(
    layout.flatMap((part) => (part === 'textrodata' ? ['text', 'rodata'] : [part])),
  )
  const rest = CLASSES.filter((kind) => (movedFiles || !covered.has(kind)) && !(kind === 'eh' && dropUnwind))
  const linkerMade = layout.includes('plt') ? [] : [PLT, GOT]
  return [...rest.map((kind) => `.f${kind} : { *(${names[kind]}) }`), ...linkerMade, DYNAMIC_RELOCS]
}

function script(plan: LinkPlan, end: 'from' | 'to', base: bigint): string {
  const names = Object.fromEntries(CLASSES.map((kind) => [kind, namesOf(kind, plan.objects)])) as Names
  const units = plan.units.map(
    (unit, n) => `. = ${hex(unit[end])};\n.u${n} : { "${unit.file}"("${unit.section.name}") }`,
  )
  const dropped = [...droppedNames(plan.objects), ...(plan.dropUnwind ? ['.eh_frame'] : [])]
  return `SECTIONS {
/DISCARD/ : { *(.comment ${dropped.map((name) => `"${name}"`).join(' ')}) }
. = ${hex(base)};
${[...movedSections(plan, names), ...units].join('\n')}
. = ${hex(plan.fixedBase)};
${STUBS} : { *(${STUBS}) }
${fixedSections(plan, names).join('\n')}
}`
}

/** Runs both links; throws with ld's own words when one fails. */
export function linkPair(
  plan: LinkPlan,
  from: bigint,
  to: bigint,
): { readonly from: Linked; readonly to: Linked; readonly stubs: number } {
  const symbols = undefinedSymbols(plan.objects)
  const stubs = assembleStubs(plan.directory, symbols)
  const all = { ...plan, objects: [...plan.objects, stubs] }
  return { from: linkOnce(all, 'from', from), to: linkOnce(all, 'to', to), stubs: symbols.size }
}

function linkOnce(plan: LinkPlan, end: 'from' | 'to', base: bigint): Linked {
  const { directory } = plan
  writeFileSync(join(directory, `${end}.ld`), script(plan, end, base), 'latin1')
  writeFileSync(join(directory, 'objects.rsp'), plan.objects.map((o) => `"${o.file}"`).join('\n'))
  const options = ['-static', '-nostdlib', '--emit-relocs', '--orphan-handling=error', '--strip-debug']
  const quiet = ['--no-warn-rwx-segments', '--no-warn-mismatch', '-z', 'muldefs', '-z', 'noexecstack']
  const shape = ['-n', '-e', '0', '-z', 'max-page-size=4096', '--build-id=none', '--no-eh-frame-hdr']
  const output = ['-T', `${end}.ld`, `-Map=${end}.map`, '-o', `${end}.elf`, '@objects.rsp']
  execFileSync('ld', [...options, ...quiet, ...shape, ...plan.flags, ...output], {
    cwd: directory,
    stdio: ['ignore', 'ignore', 'pipe'],
    maxBuffer: 1 << 28,
  })
  return {
    elf: readElf(readFileSync(join(directory, `${end}.elf`))),
    map: readFileSync(join(directory, `${end}.map`), 'latin1'),
  }
}
