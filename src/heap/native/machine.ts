/**
 * The machine as native memory sees it: its name, koffi (an optional dependency, loaded on first use), and
 * the system calls as a table, so that a test can be on another platform, or on one where any of them is
 * refused.
 */
import { loadPackage } from '../../core/package.ts'

/**
 * The few functions of libc in use. Each returns a negative number where it fails, `mmap` one whose top bit
 * is set; then `errno` says why.
 */
export interface Libc {
  mmap(
    address: bigint,
    length: number,
    protection: number,
    flags: number,
    file: number,
    offset: number,
  ): bigint
  munmap(address: bigint, length: number): number
  mprotect(address: bigint, length: number, protection: number): number
  madvise(address: bigint, length: number, advice: number): number
  memfd_create(name: string, flags: number): number
  ftruncate(file: number, length: number): number
  close(file: number): number
  membarrier(command: number): number
  /** Of the call that failed last. */
  errno(): number
}

export type Koffi = typeof import('koffi')

export interface Machine {
  readonly platform: string
  readonly arch: string
  /** Throws where koffi is missing. */
  koffi(): Koffi
  libc(koffi: Koffi): Libc
  /** The text of /proc/self/status; throws where there is none. */
  status(): string
}

/** memcpy, out of any memory of the process and into it. */
export interface Copying {
  out(to: BigUint64Array, from: bigint, length: number): void
  into(to: bigint, from: BigUint64Array, length: number): void
}

const SYS_MEMBARRIER = 324

// Koffi keeps every declaration for ever: each is made once.
let loaded: Libc | undefined
let copies: Copying | undefined
const functionTypes: ReturnType<Koffi['proto']>[] = []

export function copying(koffi: Koffi): Copying {
  if (copies !== undefined) return copies
  const libc = koffi.load(null)
  copies = {
    out: libc.func('memcpy', 'void', ['void *', 'uint64_t', 'size_t']),
    into: libc.func('memcpy', 'void', ['uint64_t', 'void *', 'size_t']),
  }
  return copies
}

/** The type of functions of `arity` integers. */
export const functionType = (koffi: Koffi, arity: number): ReturnType<Koffi['proto']> =>
  (functionTypes[arity] ??= koffi.proto('uint64_t', new Array<string>(arity).fill('uint64_t')))

/** The machine that this runs on. */
export const THIS_MACHINE: Machine = {
  // Read wherever the library is imported.
  platform: globalThis.process?.platform ?? 'a runtime',
  arch: globalThis.process?.arch ?? 'other than Node',
  koffi: () => loadPackage('koffi') as Koffi,
  libc(koffi) {
    if (loaded !== undefined) return loaded
    const libc = koffi.load(null)
    const syscall = libc.func('int64_t syscall(int64_t, int64_t, int64_t, int64_t)')
    loaded = {
      mmap: libc.func('uint64_t mmap(uint64_t, size_t, int, int, int, int64_t)'),
      munmap: libc.func('int munmap(uint64_t, size_t)'),
      mprotect: libc.func('int mprotect(uint64_t, size_t, int)'),
      madvise: libc.func('int madvise(uint64_t, size_t, int)'),
      memfd_create: libc.func('int memfd_create(const char *, unsigned int)'),
      ftruncate: libc.func('int ftruncate(int, int64_t)'),
      close: libc.func('int close(int)'),
      membarrier: (command) => syscall(SYS_MEMBARRIER, command, 0, 0),
      errno: () => koffi.errno(),
    }
    return loaded
  },
  status: () => process.getBuiltinModule('fs').readFileSync('/proc/self/status', 'utf8'),
}

/** Why a machine has no native memory, or `undefined` where it has. */
export function nativeUnavailable(machine: Machine = THIS_MACHINE): string | undefined {
  const { platform, arch } = machine
  if (platform !== 'linux' || arch !== 'x64')
    return `native execution needs Linux on x86-64; this is ${platform} ${arch}`
  try {
    machine.koffi()
    return undefined
  } catch (error) {
    return `the optional dependency koffi does not load (${error instanceof Error ? error.message.split('\n')[0] : String(error)})`
  }
}
