/**
 * Linear decode of a whole blob: where each instruction starts, and each field that holds a relative displacement.
 *
 * The table version runs two streams at once. One instruction's start hangs on the length of the one before, a
 * chain of about 20 cycles in which most of the machine idles; two chains side by side fill it. The second
 * stream begins at a guess, one block ahead. That is sound because decoding has no state but the position:
 * where the first stream comes upon a start of the second, everything after it is the same, and what the second
 * stream found before that is dropped. (x86 code falls into step within a few instructions; where it does not, the
 * second stream was for nothing and nothing is wrong.)
 */
import { type AddressLike, toAddress, toOffset } from '../core/address.ts'
import { toBytes, viewOf } from '../core/bytes.ts'
import { RelocError } from '../core/errors.ts'
import { optional, optionsRule, wrongArgument } from '../core/options.ts'
import { PROGRESS_RULES, PROGRESS_STEP, type ProgressOptions, reportProgress } from '../core/progress.ts'
import { type FastTables, fastTablesFor, HEADS, isNotable, LOOK, NO_BASE } from './fast.ts'
import { createIcedDecoder, type DecoderOptions } from './iced.ts'
import {
  DECODING_RULES,
  type DecoderKind,
  Instruction,
  type InstructionDecoder,
  Memory,
} from './instruction.ts'
import { createTableDecoder } from './scanner.ts'
import type { StartBits } from './start-bits.ts'
import {
  BLOCK,
  FIRST_BLOCK,
  Found,
  FoundLooks,
  type LookTaker,
  OFFSET,
  ROOM,
  type Taker,
} from './sweep-takers.ts'

export interface SweepOptions extends DecoderOptions, ProgressOptions {
  /** Address of byte 0. What is found are offsets, the same at every base. */
  readonly base?: AddressLike | undefined
  /** Default `tables`. */
  readonly decoder?: DecoderKind | undefined
  /** Offset of the first instruction, default 0. */
  readonly start?: number | undefined
  /** Offset past the last byte, default the length: nothing beyond it is read. */
  readonly end?: number | undefined
  /** Takes the offsets where an instruction was expected and none starts, ascending. */
  readonly rejected?: number[] | undefined
}

const checkOptions = optionsRule<SweepOptions>('sweep', {
  base: optional(toAddress),
  start: optional(toOffset),
  end: optional(toOffset),
  rejected: optional((value, what) => {
    if (!Array.isArray(value)) throw wrongArgument(value, what, 'an array')
  }),
  ...DECODING_RULES,
  ...PROGRESS_RULES,
})

/** What {@link sweep} found. Offsets count from the blob's start, ascending. */
export interface SweepResult {
  /** Instructions. */
  readonly count: number
  /** Where each instruction starts. */
  readonly starts: Uint32Array
  /** Where each branch displacement and each RIP- or EIP-relative displacement is. */
  readonly sites: Uint32Array
}

/**
 * Decodes from `start` to `end`, one instruction after the other; a byte that begins none is passed over. Throws
 * `bad-argument` where the range is not in the blob, or `base` is no address, `stopped` where the caller stops it.
 */
export function sweep(code: Uint8Array, options: SweepOptions = {}): SweepResult {
  const found = new Found()
  sweepInto(found, code, checkOptions(options))
  const { count, siteCount } = found
  return { count, starts: found.starts.subarray(0, count), sites: found.sites.subarray(0, siteCount) }
}

/**
 * The same for who wants to see everything: gives the starts of all instructions to `bits`, and those to look
 * at to `taker`.
 */
export function sweepForLooks(
  code: Uint8Array,
  bits: StartBits,
  taker: LookTaker,
  options: SweepOptions = {},
): void {
  sweepInto(new FoundLooks(bits, taker), code, options, LOOK)
}

function sweepInto(found: Taker, code: Uint8Array, options: SweepOptions, look = 0): void {
  toBytes(code, 'code')
  const end = toOffset(options.end ?? code.length, 'end', code.length)
  const start = toOffset(options.start ?? 0, 'start', end)
  if (code.length > 0x7fffffff)
    throw new RelocError('bad-argument', `The blob has ${code.length} bytes; at most 2^31 - 1 can be swept.`)
  const bytes = new Uint8Array(code.buffer, code.byteOffset, end)
  found.begin(end - start)
  const create = options.decoder === 'iced' ? createIcedDecoder : createTableDecoder
  const decoder: InstructionDecoder & { dispose?(): void } = create(bytes, { cpu: options.cpu })
  try {
    new Sweeper(bytes, decoder, options, look).sweep(start, found, options)
  } finally {
    decoder.dispose?.()
  }
}

/** A fast entry may be used this far from the end: no load passes it, and the longest instruction fits. */
const MARGIN = 32
const H = HEADS
const N = NO_BASE

/**
 * Where the streams write. A constant of the module, which the compiler knows the address of, and one array for
 * both: with an array for each list the loop runs out of registers and is a fifth slower.
 */
const scratch = new Uint32Array(4 * ROOM)

/** A stream: where it is, and where in `scratch` its next start and its next site go. */
class Stream {
  readonly firstStart: number
  readonly firstSite: number
  position = 0
  start = 0
  site = 0

  constructor(index: number) {
    this.firstStart = 2 * index * ROOM
    this.firstSite = this.firstStart + ROOM
  }

  begin(position: number): void {
    this.position = position
    this.start = this.firstStart
    this.site = this.firstSite
  }
}

const first = new Stream(0)
const second = new Stream(1)

class Sweeper {
  readonly #view: DataView
  readonly #decoder: InstructionDecoder
  readonly #instruction = new Instruction()
  readonly #fast: FastTables
  readonly #rejected: number[]
  /** LOOK, or 0 if nobody wants to know. */
  readonly #look: number
  /** From here on the decoder is asked; where that is iced, for everything. */
  readonly #fastEnd: number

  constructor(bytes: Uint8Array, decoder: InstructionDecoder, options: SweepOptions, look: number) {
    this.#rejected = options.rejected ?? []
    this.#look = look
    this.#view = viewOf(bytes)
    this.#decoder = decoder
    this.#fast = fastTablesFor(options.cpu ?? 'intel')
    this.#fastEnd = options.decoder === 'iced' ? 0 : bytes.length - MARGIN
  }

  sweep(start: number, found: Taker, options: ProgressOptions): void {
    const end = this.#view.byteLength
    const fastEnd = this.#fastEnd
    let reported = -PROGRESS_STEP
    let block = FIRST_BLOCK
    for (let position = start; position < end; position = first.position) {
      if (position - reported >= PROGRESS_STEP) reportProgress(options, (reported = position), end, 'sweep')
      found.reserve(end - position)
      const middle = position + block
      first.begin(position)
      if (middle + block <= fastEnd) {
        second.begin(middle)
        const known = this.#rejected.length
        this.#runBoth(middle, middle + block)
        this.#run(first, middle)
        this.#run(second, middle + block)
        const ahead = this.#rejected.splice(known)
        const joined = this.#join(found)
        if (ahead.length > 0) this.#keepRejected(known, ahead, middle, joined)
      } else {
        this.#run(first, Math.min(middle, fastEnd))
        while (first.position < Math.min(middle, end)) this.#askFor(first)
        append(found, first, first.firstStart, first.firstSite)
      }
      block = Math.min(2 * block, BLOCK)
    }
  }

  /** Goes on by one instruction, which the decoder is asked for. */
  #askFor(stream: Stream): void {
    const { position } = stream
    const instruction = this.#instruction
    const length = this.#decoder.decode(position, instruction)
    stream.position += length || 1
    if (length === 0) {
      this.#rejected.push(position)
      return
    }
    scratch[stream.start++] = position | ((isNotable(instruction) ? this.#look : 0) << 24)
    const site = siteOf(instruction)
    if (site !== 0) scratch[stream.site++] = site
  }

  /** Runs one stream until `end` or past it. */
  #run(stream: Stream, end: number): void {
    for (;;) {
      this.#runKnown(stream, end)
      if (stream.position >= end) return
      this.#learnOrAsk(stream)
    }
  }

  /**
   * An instruction that the tables do not know: from now on they do, or the decoder is asked for it. Its
   * first four bytes are there.
   */
  #learnOrAsk(stream: Stream): void {
    if (!this.#fast.learn(this.#view.getInt32(stream.position, false))) this.#askFor(stream)
  }

  /** The same up to an instruction that the tables do not know. */
  #runKnown(stream: Stream, end: number): void {
    const view = this.#view
    const fast = this.#fast.entries
    const look = this.#look
    let { position, start, site } = stream
    while (position < end) {
      const word = view.getInt32(position, false)
      const head = fast[H | (word >>> 16)]
      const skip = head & 0x18
      const entry = fast[((head >> 5) << 16) | ((word << skip) >>> 16)]
      if (entry === 0) break
      const opcode = position + (skip >> 3)
      const more = (entry >> 4) & fast[N | view.getUint8(opcode + 2)]
      const field = (entry >> 4) & 3
      scratch[start++] = position | ((entry & look) << 24)
      scratch[site] = opcode + field
      site += (field + 3) >> 2
      position = opcode + (entry & 15) + more
    }
    stream.position = position
    stream.start = start
    stream.site = site
  }

  /** Runs both streams in turn until one is at its end, or past it. */
  #runBoth(endA: number, endB: number): void {
    for (;;) {
      const isFirst = this.#runBothKnown(endA, endB)
      if (first.position >= endA || second.position >= endB) return
      this.#learnOrAsk(isFirst ? first : second)
    }
  }

  /**
   * The same up to an instruction that the tables do not know: returns whether it is the first stream's. The
   * body of `#runKnown` twice, to have both chains in flight, and nothing else: while the code is cold, each
   * part of a loop that was not met before it is compiled has it compiled again.
   */
  #runBothKnown(endA: number, endB: number): boolean {
    const view = this.#view
    const fast = this.#fast.entries
    const look = this.#look
    let { position: positionA, start: startA, site: siteA } = first
    let { position: positionB, start: startB, site: siteB } = second
    let isFirst = false
    while (positionA < endA && positionB < endB) {
      const wordA = view.getInt32(positionA, false)
      const headA = fast[H | (wordA >>> 16)]
      const skipA = headA & 0x18
      const entryA = fast[((headA >> 5) << 16) | ((wordA << skipA) >>> 16)]
      const wordB = view.getInt32(positionB, false)
      const headB = fast[H | (wordB >>> 16)]
      const skipB = headB & 0x18
      const entryB = fast[((headB >> 5) << 16) | ((wordB << skipB) >>> 16)]
      if (entryA === 0 || entryB === 0) {
        isFirst = entryA === 0
        break
      }
      const opcodeA = positionA + (skipA >> 3)
      const moreA = (entryA >> 4) & fast[N | view.getUint8(opcodeA + 2)]
      const fieldA = (entryA >> 4) & 3
      scratch[startA++] = positionA | ((entryA & look) << 24)
      scratch[siteA] = opcodeA + fieldA
      siteA += (fieldA + 3) >> 2
      positionA = opcodeA + (entryA & 15) + moreA
      const opcodeB = positionB + (skipB >> 3)
      const moreB = (entryB >> 4) & fast[N | view.getUint8(opcodeB + 2)]
      const fieldB = (entryB >> 4) & 3
      scratch[startB++] = positionB | ((entryB & look) << 24)
      scratch[siteB] = opcodeB + fieldB
      siteB += (fieldB + 3) >> 2
      positionB = opcodeB + (entryB & 15) + moreB
    }
    first.position = positionA
    first.start = startA
    first.site = siteA
    second.position = positionB
    second.start = startB
    second.site = siteB
    return isFirst
  }

  /** Keeps, of what both streams rejected, what the second one did not before `joined`, where it was out of step. */
  #keepRejected(known: number, ahead: readonly number[], middle: number, joined: number): void {
    const kept = ahead.filter((offset) => offset < middle || offset >= joined)
    const all = [...this.#rejected.splice(known), ...kept].sort((a, b) => a - b)
    for (const offset of all) this.#rejected.push(offset)
  }

  /**
   * Goes on with the first stream until it comes upon a start of the second, and takes over the rest of that.
   * Returns where they met.
   */
  #join(found: Taker): number {
    let start = second.firstStart
    while (first.position < second.position) {
      while (start < second.start && (scratch[start] & OFFSET) < first.position) start++
      if (start < second.start && (scratch[start] & OFFSET) === first.position) break
      this.#askFor(first)
    }
    append(found, first, first.firstStart, first.firstSite)
    const joined = first.position
    if (joined >= second.position) return joined
    let site = second.firstSite
    while (site < second.site && scratch[site] < joined) site++
    append(found, second, start, site)
    first.position = second.position
    return joined
  }
}

const append = (found: Taker, stream: Stream, start: number, site: number): void =>
  found.append(scratch.subarray(start, stream.start), scratch.subarray(site, stream.site))

/** Offset of the relative field of an instruction; 0: it has none. */
function siteOf({ offset, memory, displacementOffset, branchOffset }: Instruction): number {
  const field = memory >= Memory.rip ? displacementOffset : branchOffset
  return field === 0 ? 0 : offset + field
}
