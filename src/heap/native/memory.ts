/**
 * Memory of this process at chosen addresses, through koffi (an optional dependency, loaded on first use).
 *
 * Invariants:
 * - No mapping is ever writable and executable at once: `Access` has no such value. Code is written while its
 *   pages are `rw` and then protected `rx`, or it lives in a shared file mapped twice (one `rw`, one `rx` view).
 * - Every address that is written, read, protected or unmapped lies in a mapping made here: a wrong address is a
 *   `RelocError`, not a crash, and nobody else's memory is touched. Only `call` runs what it is given.
 */
import { type AddressLike, hex, toAddress, toOffset } from '../../core/address.ts'
import { RelocError } from '../../core/errors.ts'
import { type AddressRange, findRange, formatRange } from '../../core/range.ts'
import {
  copying,
  functionType,
  type Koffi,
  type Libc,
  type Machine,
  nativeUnavailable,
  THIS_MACHINE,
} from './machine.ts'

export { nativeUnavailable }

/** What a page allows. */
export type Access = 'none' | 'r' | 'rw' | 'rx'

/** Bytes of a page on x86-64 Linux. */
export const PAGE_SIZE = 4096

/** Where a process's addresses end (4-level paging: 2^47 less a page). */
const USER_END = 0x7ffffffff000n

const PROTECTION: Readonly<Record<Access, number>> = { none: 0, r: 1, rw: 3, rx: 5 }
const MAP_SHARED = 0x01
const MAP_PRIVATE = 0x02
const MAP_FIXED = 0x10
const MAP_ANONYMOUS = 0x20
const MAP_NORESERVE = 0x4000
const MAP_FIXED_NOREPLACE = 0x100000
const MFD_CLOEXEC = 1
const MADV_DONTFORK = 10
const MEMBARRIER_SYNC_CORE = 1 << 5
const MEMBARRIER_REGISTER_SYNC_CORE = 1 << 6
/** Errors that say "this address is taken or not for you", not "this system refuses". */
const EPERM = 1
const EINVAL = 22
const EEXIST = 17

/** Pages that were mapped in one call and allow the same. */
interface Mapping extends AddressRange {
  readonly access: Access
  /** Start of what was mapped in that call. */
  readonly origin: bigint
}

/** The parts of a mapping when `[start, end)` of it allows `access`. */
function cut(mapping: Mapping, start: bigint, end: bigint, access: Access): Mapping[] {
  const from = start > mapping.start ? start : mapping.start
  const to = end < mapping.end ? end : mapping.end
  const parts = [
    { ...mapping, end: from },
    { ...mapping, start: from, end: to, access },
    { ...mapping, start: to },
  ]
  return parts.filter((part) => part.start < part.end)
}

const roundUp = (length: number): number => Math.ceil(length / PAGE_SIZE) * PAGE_SIZE

/** Mappings of this process, made and owned by one user. State: the list of what is mapped. */
export class NativeMemory {
  readonly #koffi: Koffi
  readonly #libc: Libc
  /** Sorted, disjoint. */
  readonly #mappings: Mapping[] = []
  /** Descriptors that are open. */
  readonly #files = new Set<number>()
  readonly #callbacks: ReturnType<Koffi['register']>[] = []
  /** Whether the process is known to membarrier. */
  #registered = false

  /** Throws `unsupported` where the platform is another one or koffi is missing. */
  constructor(machine: Machine = THIS_MACHINE) {
    const reason = nativeUnavailable(machine)
    if (reason !== undefined) throw new RelocError('unsupported', `No native memory: ${reason}.`)
    this.#koffi = machine.koffi()
    this.#libc = machine.libc(this.#koffi)
  }

  /**
   * Maps zeroed private memory of `length` bytes (rounded up to pages) at exactly `address` (a page's start),
   * or where the system likes it with `undefined`; nothing that is mapped there is replaced. Returns the
   * address. Throws `bad-argument` where the address is taken or not allowed, `unsupported` where the system
   * refuses.
   */
  map(address: AddressLike | undefined, length: number, access: Access = 'rw'): bigint {
    return this.#map(address, length, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
  }

  /** An anonymous file of `length` bytes to map any number of times. Returns its descriptor. */
  createShared(name: string, length: number): number {
    const file = this.#libc.memfd_create(name, MFD_CLOEXEC)
    if (file < 0) throw this.#refused('memfd_create')
    this.#files.add(file)
    this.#check(this.#libc.ftruncate(file, roundUp(length)), 'ftruncate')
    return file
  }

  /** Closes a descriptor of `createShared`; its mappings stay. */
  closeShared(file: number): void {
    this.#files.delete(file)
    this.#libc.close(file)
  }

  /**
   * Maps `length` bytes of a file from `offset` (both whole pages) at `address`, or where the system likes it with
   * `undefined`. Returns the address. Throws as `map` does.
   */
  mapShared(
    file: number,
    offset: number,
    address: AddressLike | undefined,
    length: number,
    access: Access,
  ): bigint {
    return this.#map(address, length, access, MAP_SHARED, file, offset)
  }

  /**
   * Maps a file's pages in place of pages that are mapped here. A system that lets no page become executable
   * (PR_SET_MDWE, SELinux) lets it be mapped so.
   */
  replaceShared(file: number, offset: number, address: AddressLike, length: number, access: Access): void {
    const { start, end } = this.#pages(address, length)
    this.#covering(start, end)
    const flags = MAP_SHARED | MAP_FIXED
    const got = this.#libc.mmap(start, Number(end - start), PROTECTION[access], flags, file, offset)
    if (BigInt(got) !== start) throw this.#refused('mmap')
    this.#note(start, end, access)
  }

  /** Keeps whole pages that are mapped here out of forked children: who touches them there ends that process. */
  keepFromChildren(address: AddressLike, length: number): void {
    const { start, end } = this.#pages(address, length)
    this.#covering(start, end)
    this.#check(this.#libc.madvise(start, Number(end - start), MADV_DONTFORK), 'madvise')
  }

  /** Unmaps whole mappings: `[address, address + length)` must begin and end with one. */
  unmap(address: AddressLike, length: number): void {
    const { start, end } = this.#pages(address, length)
    const first = this.#mappings.findIndex((mapping) => mapping.start === start)
    const last = this.#mappings.findIndex((mapping) => mapping.end === end)
    if (first < 0 || last < first)
      throw new RelocError('bad-argument', `${formatRange({ start, end })} is not what was mapped here.`)
    for (const mapping of this.#mappings.slice(first, last + 1)) {
      this.#check(this.#libc.munmap(mapping.start, Number(mapping.end - mapping.start)), 'munmap')
      this.#mappings.splice(this.#mappings.indexOf(mapping), 1)
    }
  }

  /** Changes the access of whole pages that are mapped here. */
  protect(address: AddressLike, length: number, access: Access): void {
    const { start, end } = this.#pages(address, length)
    this.#covering(start, end)
    this.#check(this.#libc.mprotect(start, Number(end - start), PROTECTION[access]), 'mprotect')
    this.#note(start, end, access)
  }

  /** What `[start, end)`, which is mapped, allows from now on. */
  #note(start: bigint, end: bigint, access: Access): void {
    const covering = this.#covering(start, end)
    const at = this.#mappings.indexOf(covering[0])
    const before = this.#mappings.slice(Math.max(at - 1, 0), at)
    const behind = this.#mappings.slice(at + covering.length, at + covering.length + 1)
    const pieces = [...before]
    for (const piece of [...covering.flatMap((mapping) => cut(mapping, start, end, access)), ...behind]) {
      const last = pieces[pieces.length - 1]
      if (last?.origin === piece.origin && last.access === piece.access && last.end === piece.start)
        pieces[pieces.length - 1] = { ...last, end: piece.end }
      else pieces.push(piece)
    }
    this.#mappings.splice(at - before.length, before.length + covering.length + behind.length, ...pieces)
  }

  /** Writes into memory that is `rw` now. Throws `bad-argument` elsewhere. */
  write(address: AddressLike, bytes: Uint8Array): void {
    if (bytes.length > 0) this.view(address, bytes.length, 'rw').set(bytes)
  }

  /** A copy of `length` bytes of memory that is readable now. */
  read(address: AddressLike, length: number): Uint8Array {
    return length === 0 ? new Uint8Array(0) : this.view(address, length, 'r').slice()
  }

  /**
   * The bytes themselves. Not to be kept beyond the mapping or its access: using the view after `unmap` or
   * `protect('none')` ends the process.
   */
  view(address: AddressLike, length: number, access: 'r' | 'rw'): Uint8Array {
    const start = toAddress(address, 'address')
    for (const mapping of this.#covering(start, start + BigInt(toOffset(length, 'length'))))
      if (mapping.access === 'none' || (access === 'rw' && mapping.access !== 'rw'))
        throw new RelocError(
          'bad-argument',
          `${length} bytes at ${hex(start)}: ${formatRange(mapping)} is '${mapping.access}' now, not '${access}'.`,
        )
    return new Uint8Array(this.#koffi.view(start, length))
  }

  /**
   * Every thread of this process executes a serialising instruction before it runs on in user space: what was
   * written through another address is what it then executes. Throws `unsupported` where the kernel (before
   * 4.16) cannot.
   */
  serializeThreads(): void {
    if (!this.#registered) {
      this.#check(this.#libc.membarrier(MEMBARRIER_REGISTER_SYNC_CORE), 'membarrier')
      this.#registered = true
    }
    this.#check(this.#libc.membarrier(MEMBARRIER_SYNC_CORE), 'membarrier')
  }

  /** The bytes of a mapping whatever it allows now: who touches them when it does not allow it ends the process. */
  window(address: AddressLike, length: number): Uint8Array {
    const start = toAddress(address, 'address')
    this.#covering(start, start + BigInt(toOffset(length, 'length')))
    return new Uint8Array(this.#koffi.view(start, length))
  }

  /**
   * Calls the C function at `address` with integers and returns what it leaves in rax. Runs whatever is
   * there in this very process: call what you do not trust in a child process.
   */
  call(address: AddressLike, args: readonly bigint[] = []): bigint {
    const type = functionType(this.#koffi, args.length)
    const result: number | bigint = this.#koffi.call(toAddress(address, 'address'), type, ...args)
    return BigInt(result)
  }

  /** A C function that calls `callee` with `arity` integers; it lives until `close`. */
  callback(callee: (...args: bigint[]) => bigint | undefined, arity: number): bigint {
    const type = this.#koffi.pointer(functionType(this.#koffi, arity))
    const pointer = this.#koffi.register(
      (...args: (number | bigint)[]) => callee(...args.map(BigInt)) ?? 0n,
      type,
    )
    this.#callbacks.push(pointer)
    return this.#koffi.address(pointer)
  }

  /**
   * A copy of words of this process that were not mapped here (a stack). A copy, since a view is memory that
   * koffi gives back only when the event loop turns. Whoever names an address that is not there ends the
   * process.
   */
  words(address: bigint, count: number): BigUint64Array {
    const words = new BigUint64Array(count)
    copying(this.#koffi).out(words, address, 8 * count)
    return words
  }

  /** Writes a word that was not mapped here. */
  setWord(address: bigint, value: bigint): void {
    copying(this.#koffi).into(address, BigUint64Array.of(value), 8)
  }

  /** What is mapped, sorted by address. */
  mappings(): readonly (AddressRange & { readonly access: Access })[] {
    return this.#mappings.map(({ start, end, access }) => ({ start, end, access }))
  }

  /** Unmaps everything. */
  close(): void {
    for (const file of [...this.#files]) this.closeShared(file)
    for (const callback of this.#callbacks.splice(0)) this.#koffi.unregister(callback)
    for (const { start, end } of this.mappings()) this.unmap(start, Number(end - start))
  }

  #map(
    wanted: AddressLike | undefined,
    length: number,
    access: Access,
    flags: number,
    file: number,
    offset: number,
  ): bigint {
    const { start, end } = this.#pages(wanted ?? 0n, length)
    const size = Number(end - start)
    const fixed = wanted === undefined ? 0 : MAP_FIXED_NOREPLACE
    const got = BigInt(this.#libc.mmap(start, size, PROTECTION[access], flags | fixed, file, offset))
    if (got >= 1n << 63n) throw this.#refused('mmap', wanted === undefined ? undefined : { start, end })
    if (wanted !== undefined && got !== start) {
      // A kernel before 4.17 does not know MAP_FIXED_NOREPLACE and takes the address as a wish.
      this.#libc.munmap(got, size)
      throw new RelocError('bad-argument', `${formatRange({ start, end })} is taken.`)
    }
    this.#mappings.push({ start: got, end: got + BigInt(size), access, origin: got })
    this.#mappings.sort((a, b) => (a.start < b.start ? -1 : 1))
    return got
  }

  #pages(address: AddressLike, length: number): AddressRange {
    const start = toAddress(address, 'address')
    const size = BigInt(roundUp(toOffset(length, 'length')))
    if (start % BigInt(PAGE_SIZE) !== 0n || size === 0n)
      throw new RelocError('bad-argument', `${length} bytes at ${hex(start)}: whole pages are mapped.`)
    if (start + size > USER_END)
      throw new RelocError('bad-argument', `${length} bytes at ${hex(start)} pass the end of user space.`)
    return { start, end: start + size }
  }

  /** The mappings that cover `[start, end)` without a hole. */
  #covering(start: bigint, end: bigint): Mapping[] {
    const covering: Mapping[] = []
    for (let at = start; at < end; at = covering[covering.length - 1].end) {
      const mapping = this.#mappings[findRange(this.#mappings, at)]
      if (mapping === undefined)
        throw new RelocError(
          'bad-argument',
          `${formatRange({ start, end })} is not mapped here (${hex(at)}).`,
        )
      covering.push(mapping)
    }
    return covering
  }

  #check(result: number, what: string): void {
    if (result < 0) throw this.#refused(what)
  }

  #refused(what: string, range?: AddressRange): RelocError {
    const errno = this.#libc.errno()
    const name = Object.entries(this.#koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `${errno}`
    const place = range === undefined ? '' : ` of ${formatRange(range)}`
    if (range !== undefined && (errno === EEXIST || errno === EPERM || errno === EINVAL))
      return new RelocError(
        'bad-argument',
        `${what}${place}: ${name}; the place is taken, or the system allows nobody to map there.`,
      )
    return new RelocError('unsupported', `${what}${place} failed: ${name}; the system refuses it.`)
  }
}
