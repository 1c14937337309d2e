/**
 * Copies many short runs of code at once, each to a place of its own: the prologues that a hook engine puts
 * into its trampolines, the functions of a text that is laid out anew.
 *
 * `analyze` and `relocate` answer for a whole blob, and that costs microseconds however small the blob is.
 * Here the caller says that the bytes are code, so one linear decode finds every relative operand, and
 * nothing is allocated for a run. Each run passes three steps, the first two of which write nothing: decode
 * it (its end is known only then), plan and check every new value, copy and change.
 */
import { type AddressLike, hex, signedDelta, toAddress, wrapAddress } from '../core/address.ts'
import { hexBytes, isTypedArray, toBytes, viewOf } from '../core/bytes.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import { checkedLater, optionsRule } from '../core/options.ts'
import { type Cpu, DECODING_RULES } from '../x86/instruction.ts'
import { Lane, LaneDecoder } from './lanes.ts'

export interface CopyRunsOptions {
  /** Address of the code's byte 0. */
  readonly base: AddressLike
  /**
   * Two offsets into the code for each run: its start, and its end. The run is lengthened to the end of the
   * instruction that `end` cuts.
   */
  readonly runs: Uint32Array
  /** Where the runs are written; not the memory of the code. */
  readonly into: Uint8Array
  /** Address of `into`'s byte 0. */
  readonly to: AddressLike
  /** Offset into `into` for each run. Runs that overlap there overwrite one another. */
  readonly places: Uint32Array
  /** Whose reading of 66-prefixed near branches: default `intel`. */
  readonly cpu?: Cpu | undefined
}

const checkOptions = optionsRule<CopyRunsOptions>('copyRuns', {
  base: toAddress,
  runs: checkedLater,
  into: toBytes,
  to: toAddress,
  places: checkedLater,
  cpu: DECODING_RULES.cpu,
})

export interface CopiedRuns {
  /**
   * Where each run ended, as an offset into the code; its start where it could not be copied: then nothing
   * was written for it.
   */
  readonly ends: Uint32Array
  /** Runs that could not be copied. */
  readonly refused: number
  /** Why: an error for each of the first of them. */
  readonly problems: readonly Problem[]
}

/**
 * Copies each run so that its relative operands keep their meaning: targets in the run itself move along, all
 * others stay where they are, in another run too. Lengths do not change. Absolute addresses are not looked
 * for: code that holds its own needs `analyze`. Throws `bad-argument`.
 */
export function copyRuns(code: Uint8Array, options: CopyRunsOptions): CopiedRuns {
  checkArguments(code, checkOptions(options))
  const { runs, places } = options
  const copier = new RunCopier(code, options)
  const decoder = new LaneDecoder(code, options.cpu ?? 'intel')
  const [first, second] = [new Lane(), new Lane()]
  const finish = (lane: Lane, place: number): number => copier.copy(lane, decoder.decodeRest(lane), place)
  const ends = new Uint32Array(places.length)
  for (let i = 0; i < places.length; i += 2) {
    const isPair = i + 1 < places.length
    decoder.begin(first, runs[2 * i], runs[2 * i + 1])
    if (isPair) decoder.begin(second, runs[2 * i + 2], runs[2 * i + 3])
    if (isPair) decoder.decodeBoth(first, second)
    ends[i] = finish(first, places[i])
    if (isPair) ends[i + 1] = finish(second, places[i + 1])
  }
  return { ends, refused: copier.refused, problems: copier.problems }
}

function checkArguments(code: Uint8Array, { runs, into, places }: CopyRunsOptions): void {
  toBytes(code, 'code')
  if (code.length > 0x7fffffff || into.length > 0x7fffffff)
    throw new RelocError('bad-argument', 'The code and `into` have at most 2^31 - 1 bytes.')
  if (into.buffer === code.buffer && overlap(into, code))
    throw new RelocError(
      'bad-argument',
      '`into` overlaps the code: runs are copied, the code stays as it is.',
    )
  const areOffsets = isTypedArray(runs, 'Uint32Array') && isTypedArray(places, 'Uint32Array')
  if (!areOffsets || runs.length !== 2 * places.length)
    throw new RelocError(
      'bad-argument',
      'runs and places are Uint32Arrays; for each place there are a start and an end in runs.',
    )
  for (let i = 0; i < places.length; i++) {
    const start = runs[2 * i]
    const end = runs[2 * i + 1]
    if (start > end || end > code.length || places[i] > into.length)
      throw new RelocError(
        'bad-argument',
        `Run ${i} from ${start} to ${end}, which goes to ${places[i]}, leaves the code (${code.length} bytes) or into (${into.length} bytes).`,
      )
  }
}

const overlap = (a: Uint8Array, b: Uint8Array): boolean =>
  a.byteOffset < b.byteOffset + b.length && b.byteOffset < a.byteOffset + a.length

/** Refused runs that are described: words cost more than a hundred copies. */
const LISTED = 20
/** Shorter copies are faster word by word than by `set`, which needs a view. */
const SHORT = 64
/** The byte before the field of `xbegin rel16`; that of AMD's 16-bit branches is an opcode. */
const XBEGIN = 0xf8

class RunCopier {
  readonly problems: Problem[] = []
  refused = 0
  readonly #code: Uint8Array
  readonly #from: DataView
  readonly #base: bigint
  readonly #into: Uint8Array
  readonly #to: DataView
  /**
   * `to` - `base`, as a double: where that is not exact, every pc field is out of reach anyhow. And its low 32 bits.
   */
  readonly #distance: number
  readonly #distanceLow: number
  /** Whether all of the code, and of `into`, is below 2^32: an EIP-relative operand reaches nothing else. */
  readonly #low: boolean
  readonly #toLow: boolean

  constructor(code: Uint8Array, { base, into, to }: CopyRunsOptions) {
    this.#code = code
    this.#from = viewOf(code)
    this.#base = toAddress(base, 'base')
    this.#into = into
    this.#to = viewOf(into)
    const destination = toAddress(to, 'to')
    this.#low = this.#base + BigInt(code.length) <= 1n << 32n
    this.#toLow = destination + BigInt(into.length) <= 1n << 32n
    const distance = signedDelta(this.#base, destination)
    this.#distance = Number(distance)
    this.#distanceLow = Number(BigInt.asIntN(32, distance))
  }

  /** Copies a lane's run, if it `isDecoded` to its end. Returns where it ended, its start where it was not copied. */
  copy(lane: Lane, isDecoded: boolean, place: number): number {
    const { start, position: end } = lane
    if (!isDecoded) return this.#refuse(start, end, end + 15, 'undecodable', 'these bytes are no instruction')
    if (place + end - start > this.#into.length)
      return this.#refuse(
        start,
        start,
        end,
        'no-room',
        `${end - start} bytes do not fit at ${hex(place)} of into`,
      )
    const moved = place - start
    if (!this.#plan(lane, moved)) return start
    this.#copyBytes(start, end, place)
    this.#change(lane, moved)
    return end
  }

  /**
   * Keeps of the fields those that change, with their new values in place of the instructions' ends, in a run
   * whose offset goes by `moved`. False where one cannot hold it.
   */
  #plan(lane: Lane, moved: number): boolean {
    const delta = this.#distance + moved
    const { start, position: end, offsets, ends: values, widths, count } = lane
    const view = this.#from
    let kept = 0
    for (let i = 0; i < count; i++) {
      const offset = offsets[i]
      const next = values[i]
      const left = next - offset
      const width = left === 1 ? 1 : left === 2 ? 2 : 4
      const old =
        width === 4
          ? view.getInt32(offset, true)
          : width === 1
            ? view.getInt8(offset)
            : view.getInt16(offset, true)
      let value = old - delta
      if (next < 0 || width === 2) value = this.#rareValue(offset, next, old, start, end, moved)
      else if (next + old >= start && next + old < end) continue
      const limit = width === 4 ? 0x8000_0000 : width === 1 ? 0x80 : 0x8000
      if (!(value >= -limit && value < limit)) {
        const why = Number.isNaN(value)
          ? `its target is cut to ${8 * width} bits, so it does not move along`
          : `pc${8 * width}: the value ${old} would become ${value}`
        this.#refuse(start, offset, offset + width, 'out-of-range', why)
        return false
      }
      offsets[kept] = offset
      values[kept] = value
      widths[kept++] = width
    }
    lane.count = kept
    return true
  }

  /**
   * The new value of an EIP-relative field, which is right modulo 2^32, or of one of 16 bits; NaN where it cannot move.
   */
  #rareValue(offset: number, next: number, old: number, start: number, end: number, moved: number): number {
    const isEip = next < 0
    const target = (isEip ? ~next : next) + old
    const inside = target >= start && target < end && (!isEip || this.#low)
    // Of 16-bit branches only xbegin is not cut to 16 bits.
    if (!isEip && this.#from.getUint8(offset - 1) !== XBEGIN) return Number.NaN
    if (!inside) return isEip ? (old - (this.#distanceLow + moved)) | 0 : old - this.#distance - moved
    return isEip && !this.#toLow ? Number.NaN : old
  }

  #copyBytes(start: number, end: number, place: number): void {
    if (end - start > SHORT) {
      this.#into.set(this.#code.subarray(start, end), place)
      return
    }
    const from = this.#from
    const to = this.#to
    const moved = place - start
    let at = start
    for (; at + 4 <= end; at += 4) to.setInt32(at + moved, from.getInt32(at, true), true)
    for (; at < end; at++) to.setUint8(at + moved, from.getUint8(at))
  }

  #change({ offsets, ends: values, widths, count }: Lane, moved: number): void {
    const view = this.#to
    for (let i = 0; i < count; i++) {
      const width = widths[i]
      if (width === 4) view.setInt32(offsets[i] + moved, values[i], true)
      else if (width === 1) view.setInt8(offsets[i] + moved, values[i])
      else view.setInt16(offsets[i] + moved, values[i], true)
    }
  }

  /** Notes why the run at `start` is not copied; returns that. */
  #refuse(start: number, offset: number, end: number, code: string, why: string): number {
    if (this.refused++ >= LISTED) return start
    this.problems.push({
      severity: 'error',
      code,
      offset,
      address: wrapAddress(this.#base + BigInt(offset)),
      bytes: hexBytes(this.#code, offset, end),
      message: `The run at offset ${hex(start)} is not copied: ${why}.`,
      remedy:
        code === 'out-of-range'
          ? 'Choose a place nearer to what the run refers to, or a longer run that holds the target.'
          : 'Check where the run starts and ends, and where it goes.',
    })
    return start
  }
}
