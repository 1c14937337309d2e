/** How sure it is that code, or data that code uses, is at an offset. */
import { CODE_FLOW, CODE_GIVEN, CODE_GUESS } from '../table/site.ts'
import { Mark } from './marks.ts'
import { Reach, type ReachInput } from './reach.ts'

export class CodeEvidence {
  readonly #ranged: boolean
  readonly #marks: Uint8Array
  readonly #input: ReachInput
  #reach: Reach | undefined
  #withWays: Reach | undefined

  /** @param ranged whether hints say which ranges are code and which are data */
  constructor(ranged: boolean, input: ReachInput) {
    this.#ranged = ranged
    this.#marks = input.map.marks
    this.#input = input
  }

  /** What is certain, and how it was reached. */
  get reach(): Reach {
    return (this.#withWays ??= new Reach({ ...this.#input, ways: true }))
  }

  /** One of `CODE_GIVEN`, `CODE_FLOW` and `CODE_GUESS`; fastest in ascending order. */
  at(offset: number): number {
    if (this.#ranged && (this.#marks[offset] & (Mark.given | Mark.forbidden)) !== 0) return CODE_GIVEN
    this.#reach ??= new Reach(this.#input)
    return this.#reach.isCertain(offset) ? CODE_FLOW : CODE_GUESS
  }
}
