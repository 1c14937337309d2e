/** Names in string tables. */
import { hex } from '../core/address.ts'
import { badElf } from './header.ts'

/**
 * Reads NUL-terminated names. Tables may share tails, so the names together can be longer than their table; a file that
 * makes much more of it (every symbol named by the same long run) is refused before it costs memory or time.
 */
export class NameReader {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  readonly #bytes: Uint8Array
  #left: number

  /** @param bytes the file */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#left = bytes.length
  }

  /** The name at `offset` of the table in `[start, end)` of the file. Throws `bad-input`. */
  at(start: number, end: number, offset: number, what: string): string {
    if (offset === 0 && start === end) return ''
    const from = start + offset
    if (from >= end)
      throw badElf(
        `is damaged: the name of ${what} is at ${hex(offset)}, its string table has ${end - start} bytes.`,
      )
    const stop = this.#bytes.subarray(from, Math.min(end, from + this.#left)).indexOf(0)
    if (stop < 0)
      throw badElf(
        from + this.#left < end
          ? 'is damaged: its names are longer together than the file, because they overlap.'
          : `is damaged: the name of ${what} has no end.`,
      )
    this.#left -= stop
    return stop === 0 ? '' : this.#decoder.decode(this.#bytes.subarray(from, from + stop))
  }
}
