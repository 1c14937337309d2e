/** The blob that a command works on: raw bytes, or a part of an ELF file, which knows where it is. */
import { hex } from '../core/address.ts'
import { RelocError } from '../core/errors.ts'
import type { ElfBlob } from '../elf/blob.ts'
import { type Arguments, type OptionRow, UsageError } from './command.ts'
import { otherFormat } from './formats.ts'
import type { Inputs } from './input.ts'

/** Which part of an ELF file is meant: shared by all commands. */
export const ELF_OPTIONS: readonly OptionRow[] = [
  { name: 'section', value: '<name>', help: 'ELF file: the section, .text by default.' },
  { name: 'symbol', value: '<name>', help: 'ELF file: one function or object.' },
  { name: 'image', help: 'ELF file: everything that is loaded, as one blob.' },
  {
    name: 'symbols',
    value: '<file>',
    help: 'ELF object file: addresses of what it does not define, one a line as nm prints them.',
  },
  { name: 'raw', help: 'Raw bytes, even where they begin like a file of some format (a memory dump).' },
]

export const ELF_NOTE =
  'An ELF file is recognised. It says where the blob is, where code and data are and, where it keeps relocation\nrecords (ld --emit-relocs; loader records for --image), exactly which fields are addresses.\nAn object file (.o) has no address yet: it is placed at the one that is given, whole, with its records as the exact table.'

export interface InputBlob {
  /** For messages: the path, and which part. */
  readonly name: string
  readonly code: Uint8Array
  /** Of ELF files. */
  readonly elf?: ElfBlob
}

const ELF_MAGIC = [0x7f, 0x45, 0x4c, 0x46]

/**
 * Reads `path`, and takes the part of it that the options choose where it is an ELF file. What `isBlob` knows
 * is the blob itself, even if it begins like such a file, as an image does.
 */
export async function readBlob(
  path: string,
  what: string,
  args: Arguments,
  inputs: Inputs,
  isBlob?: (bytes: Uint8Array) => boolean,
): Promise<InputBlob> {
  const [section, symbol, image] = [args.text('section'), args.text('symbol'), args.has('image')]
  const bytes = await inputs.bytes(path, what)
  const name = path === '-' ? 'standard input' : path
  if (args.has('raw') || isBlob?.(bytes) === true) return { name, code: bytes }
  if (!ELF_MAGIC.every((byte, i) => bytes[i] === byte)) {
    const other = otherFormat(bytes)
    if (other !== undefined) throw new RelocError('bad-input', `${name} is ${other}`)
    return { name, code: bytes }
  }
  const [{ isObjectFile, readElf }, { blobFromElf }] = await Promise.all([
    import('../elf/file.ts'),
    import('../elf/blob.ts'),
  ])
  if (isObjectFile(bytes)) return placedBlob(name, bytes, args, inputs)
  if (args.has('symbols'))
    throw new UsageError(`--symbols is for object files, and ${name} is linked: nothing in it is undefined.`)
  const elf = blobFromElf(readElf(bytes), { section, symbol, image })
  return { name: `${name} (${elf.what})`, code: elf.bytes, elf }
}

/** An object file, placed where it is said to be, or else shall be. */
async function placedBlob(
  name: string,
  bytes: Uint8Array,
  args: Arguments,
  inputs: Inputs,
): Promise<InputBlob> {
  const part = ['section', 'symbol'].find((one) => args.has(one))
  if (part !== undefined)
    throw new UsageError(`--${part} is for files that are linked; the object file ${name} is placed whole.`)
  const { placeObject } = await import('../elf/place.ts')
  const path = args.text('symbols')
  const symbols = path === undefined ? undefined : parseSymbols(await inputs.bytes(path, 'the symbols'), path)
  const base = args.address('from') ?? args.address('base') ?? args.address('to') ?? 0n
  const elf = placeObject(bytes, { base, symbols }).code
  return { name: `${name} (${elf.what})`, code: elf.bytes, elf }
}

/** nm's letter of a symbol that other files do not see: lower case, but for ifuncs, unique and weak symbols. */
const isLocal = (letter: string | undefined): boolean => /^[a-hj-tx-z]$/.test(letter ?? '')

/**
 * `address letter name`, as nm prints it; lines without an address are symbols that another file defines. Of
 * a name that global and local symbols have, the global one counts, as for a linker; what several local ones
 * share is nobody's.
 */
function parseSymbols(bytes: Uint8Array, path: string): Map<string, bigint> {
  const globals = new Map<string, bigint>()
  const locals = new Map<string, bigint | undefined>()
  for (const [i, line] of new TextDecoder().decode(bytes).split('\n').entries()) {
    const wrong = (what: string): RelocError => new RelocError('bad-input', `${path}, line ${i + 1} ${what}`)
    const [, digits, letter, name] = /^(?:0x)?([0-9a-f]{1,16})\s+(?:(\S)\s+)?(\S+)$/i.exec(line.trim()) ?? []
    if (digits === undefined) {
      if (/^([Uwv]\s+\S+)?$/.test(line.trim())) continue
      const shown = JSON.stringify(line.slice(0, 60))
      throw wrong(`is ${shown}: an address in hex and a name are needed, as nm prints them.`)
    }
    const address = BigInt(`0x${digits}`)
    const other = globals.get(name) ?? address
    if (isLocal(letter))
      locals.set(name, locals.has(name) && locals.get(name) !== address ? undefined : address)
    else if (other === address) globals.set(name, address)
    else
      throw wrong(`puts ${name} at ${hex(address)}, a line before at ${hex(other)}. Leave the wrong one out.`)
  }
  const own = [...locals].filter((one): one is [string, bigint] => one[1] !== undefined)
  return new Map([...own, ...globals])
}

/** For `readBlob`: another state of a blob has its length. */
export const sameLength =
  (code: Uint8Array): ((bytes: Uint8Array) => boolean) =>
  (bytes) =>
    bytes.length === code.length

/** Throws where an option for ELF files is given, and the input is none. */
export function checkElfOptions({ name, elf }: InputBlob, args: Arguments): void {
  const option = ['section', 'symbol', 'image', 'symbols', 'write-symbols'].find((one) => args.has(one))
  if (option !== undefined && elf === undefined)
    throw new UsageError(`--${option} is for ELF files, and ${name} is taken as raw bytes.`)
}

/** The address that `--option` gives; an ELF file knows it itself. Throws where neither says it, or they differ. */
export function addressOf({ name, elf }: InputBlob, option: string, args: Arguments): bigint {
  const given = args.address(option)
  if (elf === undefined) return args.needAddress(option)
  if (given !== undefined && given !== elf.base)
    throw new RelocError(
      'bad-argument',
      `${name} is at ${hex(elf.base)}, --${option} says ${hex(given)}. Leave --${option} out; or take the file as raw bytes with --raw, if it is a memory dump.`,
    )
  return elf.base
}
