/**
 * One error class for misuse, malformed input and refused moves; one record for what the code under
 * study makes impossible. A `Problem` is data that a plan collects; a `RelocError` is thrown.
 */

/** Why a call failed. Stable strings: programs may compare them. */
export type RelocErrorCode =
  /** An argument is not what the function takes (a number that is not an offset, an empty range ...). */
  | 'bad-argument'
  /** Hints that lie outside the blob, overlap, or contradict each other. */
  | 'bad-hints'
  /** A file or a text that cannot be read: damaged, truncated, of another format or version. */
  | 'bad-input'
  /** A table that belongs to other bytes, or that does not cover the move. */
  | 'bad-table'
  /** A move that the table's coverage does not serve. */
  | 'not-covered'
  /** The move would not be right; `problems` says where. Nothing was written. */
  | 'refused'
  /** The result did not pass verification; `problems` says where. */
  | 'not-verified'
  /** A heap's handle whose object was freed. */
  | 'stale'
  /** The heap has no free range of that size. */
  | 'no-room'
  /** The caller stopped a long call. */
  | 'stopped'
  /** This machine or this build cannot do it (native execution on another platform, a missing library). */
  | 'unsupported'

/** What the code under study makes impossible or doubtful, at one place. */
export interface Problem {
  /** `error`: the move is refused. `warning`: the move is made, and this should be read. */
  readonly severity: 'error' | 'warning'
  /** What it is; stable, one word or a few with dashes, e.g. `out-of-range`, `falls-through`. */
  readonly code: string
  /** Bytes from the blob's start. */
  readonly offset: number
  /** Address of that offset before the move. */
  readonly address: bigint
  /** The bytes of the instruction or field, lower-case hex. */
  readonly bytes: string
  /** The instruction as text, where there is one. */
  readonly text?: string
  /** One sentence: what is wrong, with the numbers. */
  readonly message: string
  /** What the caller can do about it. */
  readonly remedy: string
}

/** The one error of this package. */
export class RelocError extends Error {
  readonly code: RelocErrorCode
  /** Where it went wrong, each with its remedy. Empty for plain misuse. */
  readonly problems: readonly Problem[]

  constructor(code: RelocErrorCode, message: string, problems: readonly Problem[] = []) {
    super(message)
    this.name = 'RelocError'
    this.code = code
    this.problems = problems
  }
}

/** What was given in place of what is wanted, for messages: short, whatever it is. */
export function given(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 37)}...` : value)
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return `a list of ${value.length}`
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}

/** One line for a person: severity, place, what, remedy. */
export function formatProblem(problem: Problem): string {
  if (typeof problem?.offset !== 'number' || typeof problem.address !== 'bigint')
    throw new RelocError('bad-argument', `problem is ${given(problem)}: one of a list of problems is needed.`)
  const where = `+0x${problem.offset.toString(16)} (0x${problem.address.toString(16)})`
  const text = problem.text === undefined ? '' : `  ${problem.text}`
  const bytes = problem.bytes === '' ? '' : ` [${problem.bytes}]`
  return `${problem.severity}: ${where}${bytes}${text}: ${problem.message} ${problem.remedy}`
}
