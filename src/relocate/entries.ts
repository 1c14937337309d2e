/**
 * Where code is entered, as far as the blob says it: what its instructions and absolute fields point at, and
 * where a second reading of the same bytes begins instructions.
 */
import { signedDelta } from '../core/address.ts'
import { readSigned, viewOf } from '../core/bytes.ts'
import { lowerBound } from '../core/search.ts'
import { KIND_ROWS } from '../table/kinds.ts'
import type { RelocationTable } from '../table/table.ts'
import type { SweptRun, SweptRuns } from '../x86/swept-runs.ts'

/** A map of the blob's bytes. */
export class Entries {
  readonly #view: DataView
  readonly #table: RelocationTable
  readonly #swept: SweptRuns
  /** 1 where something enters. */
  readonly #entered: Uint8Array
  /** Offset up to which the runs before have read. */
  #readTo = 0

  constructor(code: Uint8Array, table: RelocationTable, swept: SweptRuns) {
    this.#view = viewOf(code)
    this.#table = table
    this.#swept = swept
    this.#entered = new Uint8Array(code.length)
    this.#eachPointer((to) => {
      this.#entered[to] = 1
    })
  }

  /**
   * Takes what a run's instructions point at within the blob, and their starts, if the bytes have been read
   * before. Runs come in their order.
   */
  note(run: SweptRun): void {
    const { starts, sites, end } = run
    const entered = this.#entered
    for (let i = 0, n = 0; i < sites.length; i++) {
      while (n < starts.length && starts[n] <= sites[i]) n++
      const next = n < starts.length ? starts[n] : end
      const target = this.#target(sites[i], next)
      // An instruction that reads its own bytes reads those that it has now.
      if (target >= 0 && target < entered.length && (target <= starts[n - 1] || target >= next))
        entered[target] = 1
    }
    for (let i = 0; i < starts.length && starts[i] < this.#readTo; i++) entered[starts[i]] = 1
    this.#readTo = Math.max(this.#readTo, end)
  }

  /** All of them, ascending. */
  list(): number[] {
    const targets: number[] = []
    this.#entered.forEach((mark, at) => {
      if (mark === 1) targets.push(at)
    })
    return targets
  }

  /** The first in [start, end); -1: none. */
  firstIn(start: number, end: number): number {
    for (let at = start; at < end; at++) if (this.#entered[at] === 1) return at
    return -1
  }

  /** The offset of what says that `at` is entered: found again, as it is hardly ever asked for. */
  referenceTo(at: number): number {
    const { runs } = this.#table.parts
    let from = at
    for (let i = 0; i < runs.length; i += 2) {
      const { starts, sites, end } = this.#swept.run(runs[i], runs[i + 1])
      for (const site of sites) {
        const n = lowerBound(starts, site + 1)
        if (this.#target(site, n < starts.length ? starts[n] : end) === at) from = starts[n - 1]
      }
    }
    this.#eachPointer((to, offset) => {
      if (to === at) from = offset
    })
    return from
  }

  /** Where the relative field at `site` points: it ends its instruction, or has 4 bytes. */
  #target(site: number, next: number): number {
    return next + readSigned(this.#view, site, next - site < 4 ? next - site : 4)
  }

  /**
   * Calls `visit` with what each absolute field points at in the blob (a table of a switch, a stored label),
   * and its own offset.
   */
  #eachPointer(visit: (to: number, offset: number) => void): void {
    const { base, parts } = this.#table
    const { own } = parts.blob
    for (const { kind, target, targets, offsets } of parts.groups) {
      if (target !== own || KIND_ROWS[kind].anchor === 'next') continue
      targets.forEach((address, i) => {
        const to = Number(signedDelta(base, this.#table.now(address, own)))
        if (to >= 0 && to < this.#entered.length) visit(to, offsets[i])
      })
    }
  }
}
