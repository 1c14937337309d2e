/** Warnings in bearable numbers. */
import type { Problem } from '../core/errors.ts'

/** Warnings of one sort that are listed one by one; the rest is counted. */
const LISTED = 20

/** The first of each sort; the last of them counts the rest. */
export function limitProblems(problems: readonly Problem[]): Problem[] {
  const counts = new Map<string, number>()
  const kept: Problem[] = []
  for (const problem of problems) {
    const count = (counts.get(problem.code) ?? 0) + 1
    counts.set(problem.code, count)
    if (count <= LISTED) kept.push(problem)
  }
  return kept.map((problem, i) => {
    const count = counts.get(problem.code)!
    const last = kept.findLastIndex((other) => other.code === problem.code) === i
    return last && count > LISTED
      ? { ...problem, message: `${problem.message} (and ${count - LISTED} more like it)` }
      : problem
  })
}
