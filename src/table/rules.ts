/**
 * What a blob's options are checked by. A file of its own: the files of this room import one another in a
 * ring, and rules are needed when they load.
 */
import { toAddress, toOffset } from '../core/address.ts'
import { type OptionRules, optional, type Rule, recordsOf } from '../core/options.ts'
import { checkRangeList } from '../core/range.ts'
import type { BlobOptions } from './builder.ts'
import type { CodeRun } from './table.ts'

export const BLOB_RULES: OptionRules<BlobOptions> = {
  base: toAddress,
  span: optional(toOffset),
  moved: optional(checkRangeList),
}

export const RUNS_RULE: Rule<readonly CodeRun[] | undefined> = optional(recordsOf('{ start, end }'))
