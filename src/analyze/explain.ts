/**
 * Why the analysis decided as it did at an offset: what the code map took the byte for, and what of each
 * field there is, or could be, an address. Nothing is recorded while the analysis runs: what it holds when it
 * is done answers for it.
 */
import { toOffset, wrapAddress } from '../core/address.ts'
import { toBytes } from '../core/bytes.ts'
import { type Problem, RelocError } from '../core/errors.ts'
import { listOf } from '../core/options.ts'
import { type AnalyzeOptions, withAnalysis } from './analyze.ts'
import { explainFields, type FieldReading } from './explain-field.ts'
import { explainReading, type Reading } from './explain-reading.ts'

/** What is known of one byte. */
export interface Explanation {
  /** Bytes from the blob's start. */
  readonly offset: number
  readonly address: bigint
  readonly reading: Reading
  /**
   * Of code every operand of the instruction that can hold an address, of data the words that hold the byte
   * and look like one.
   */
  readonly fields: readonly FieldReading[]
  /** The analysis' warnings about the place. */
  readonly problems: readonly Problem[]
}

const checkOffsets = listOf('offsets', toOffset)

/**
 * Analyses `code` and says of each of `offsets` (bytes from its start) how the byte was read, why, and what
 * came of the fields there. Throws `bad-argument`, `bad-hints`, `stopped`.
 */
export function explain(
  code: Uint8Array,
  offsets: readonly number[],
  options: AnalyzeOptions,
): Explanation[] {
  const { length } = toBytes(code, 'code')
  checkOffsets(offsets, 'offsets')
  offsets.forEach((offset, i) => {
    if (offset >= length)
      throw new RelocError('bad-argument', `offsets[${i}] is ${offset}: the blob has ${length} bytes.`)
  })
  return withAnalysis(code, options, (found) => {
    const sites = found.table.sites()
    return offsets.map((offset) => {
      const reading = explainReading(found, offset)
      const { start, end } = reading.instruction ?? { start: offset, end: offset + 1 }
      return {
        offset,
        address: wrapAddress(found.table.base + BigInt(offset)),
        reading,
        fields: explainFields(found, sites, offset, reading),
        problems: found.problems.filter(
          (problem) => problem.offset < end && problem.offset + problem.bytes.length / 2 > start,
        ),
      }
    })
  })
}
