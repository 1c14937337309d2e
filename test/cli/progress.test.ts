import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { showProgress } from '../../src/cli/progress.ts'
import type { Terminal } from '../../src/cli/terminal.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

const terminal = (isWatched: boolean, states: string[]): Terminal =>
  ({ isWatched, status: (text: string) => states.push(text) }) as unknown as Terminal

it('shows a state at most ten times a second, and none of a short call', () => {
  const states: string[] = []
  const { onProgress } = showProgress(terminal(true, states), 'analyze')
  for (let done = 0; done <= 1000; done += 10) {
    onProgress?.(done, 1000, 'code map')
    vi.advanceTimersByTime(3)
  }
  expect(states).toEqual(['analyze: code map 34 %', 'analyze: code map 68 %'])
})

it('does not slow down a call that nobody watches', () => {
  expect(showProgress(terminal(false, []), 'analyze')).toEqual({})
})
