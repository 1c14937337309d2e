/**
 * Names for Linux perf, kept right while code moves.
 *
 * `JitDump` writes the jitdump format (the kernel's tools/perf/Documentation/jitdump-specification.txt): a
 * LOAD record for each object and a MOVE for each move, each with its time, so that a sample is resolved by
 * where the object was then. For `perf record -k 1` and `perf inject --jit`.
 *
 * `PerfMap` writes /tmp/perf-PID.map: text lines without times, where the last line for an address counts. It
 * names what does not move; samples of before a move may get the name of what came after. perf (6.1) looks
 * there for code in private pages, not for code in files: it is of use with `nativeMemory({ views: 1 })`.
 */

import { checkText } from '../../core/options.ts'
import type { CodeHandle } from '../object.ts'
import type { CodeMove, SideTable } from '../side-tables.ts'
import { NativeMemory, PAGE_SIZE } from './memory.ts'

/** What `onAdd` is told. */
type Added = Parameters<SideTable['onAdd']>[0]

const MAGIC = 0x4a69_5444
const VERSION = 1
const EM_X86_64 = 62
const HEADER_SIZE = 40
const LOAD = 0
const MOVE = 1
const CLOSE = 3
/** Bytes of a record before its name and code. */
const RECORD_SIZE = { [LOAD]: 56, [MOVE]: 64, [CLOSE]: 16 } as const

const files = (): typeof import('node:fs') => process.getBuiltinModule('fs')

/** What perf can read as a name: some, and without the byte that ends it. */
const symbolOf = ({ name, index }: CodeHandle): string => name.replaceAll('\0', '_') || `object ${index}`

/** A jitdump file. */
export class JitDump implements SideTable {
  /** Of the file: `jit-PID.dump` in the directory, as perf wants it. */
  readonly path: string
  readonly #file: number
  readonly #memory: NativeMemory
  readonly #indices = new Map<CodeHandle, bigint>()
  #count = 0n

  /** Throws where the directory cannot be written, and `unsupported` where there is no native memory. */
  constructor(directory: string) {
    checkText(directory, 'directory')
    this.#memory = new NativeMemory()
    this.path = `${directory}/jit-${process.pid}.dump`
    this.#file = files().openSync(this.path, 'w+')
    const header = new DataView(new ArrayBuffer(HEADER_SIZE))
    for (const [i, word] of [MAGIC, VERSION, HEADER_SIZE, EM_X86_64, 0, process.pid].entries())
      header.setUint32(4 * i, word, true)
    header.setBigUint64(24, now(), true)
    this.#write(header)
    // perf learns of the file by this mapping; nothing is read through it.
    this.#memory.mapShared(this.#file, 0, undefined, PAGE_SIZE, 'rx')
  }

  onAdd({ handle, address, code }: Added): void {
    const index = this.#count++
    this.#indices.set(handle, index)
    const name = new TextEncoder().encode(`${symbolOf(handle)}\0`)
    const record = this.#record(LOAD, name.length + code.length)
    this.#place(record)
    for (const [i, value] of [address, address, BigInt(code.length), index].entries())
      record.setBigUint64(24 + 8 * i, value, true)
    const bytes = new Uint8Array(record.buffer)
    bytes.set(name, RECORD_SIZE[LOAD])
    bytes.set(code, RECORD_SIZE[LOAD] + name.length)
    this.#write(record)
  }

  onMove(moves: readonly CodeMove[]): void {
    for (const { handle, from, to, length } of moves) {
      const record = this.#record(MOVE, 0)
      this.#place(record)
      for (const [i, value] of [to, from, to, BigInt(length), this.#indices.get(handle)!].entries())
        record.setBigUint64(24 + 8 * i, value, true)
      this.#write(record)
    }
  }

  onDealloc(handle: CodeHandle): void {
    this.#indices.delete(handle)
  }

  /** Ends the file. */
  close(): void {
    this.#write(this.#record(CLOSE, 0))
    this.#memory.close()
    files().closeSync(this.#file)
  }

  #record(id: keyof typeof RECORD_SIZE, more: number): DataView {
    const size = RECORD_SIZE[id] + more
    const record = new DataView(new ArrayBuffer(size))
    record.setUint32(0, id, true)
    record.setUint32(4, size, true)
    record.setBigUint64(8, now(), true)
    return record
  }

  #place(record: DataView): void {
    record.setUint32(16, process.pid, true)
    record.setUint32(20, process.pid, true)
  }

  #write(record: DataView): void {
    files().writeSync(this.#file, new Uint8Array(record.buffer))
  }
}

/** CLOCK_MONOTONIC, as `perf record -k 1` uses. */
const now = (): bigint => process.hrtime.bigint()

/** A perf map file. */
export class PerfMap implements SideTable {
  readonly path: string
  readonly #file: number

  constructor(directory = '/tmp') {
    checkText(directory, 'directory')
    this.path = `${directory}/perf-${process.pid}.map`
    this.#file = files().openSync(this.path, 'a')
  }

  onAdd({ handle, address, code }: Added): void {
    this.#line(address, code.length, handle)
  }

  onMove(moves: readonly CodeMove[]): void {
    for (const { handle, to, length } of moves) this.#line(to, length, handle)
  }

  /** The format has no line for an end. */
  onDealloc(): void {}

  close(): void {
    files().closeSync(this.#file)
  }

  #line(address: bigint, length: number, handle: CodeHandle): void {
    files().writeSync(
      this.#file,
      `${address.toString(16)} ${length.toString(16)} ${symbolOf(handle).replaceAll(/\s+/g, '_')}\n`,
    )
  }
}
