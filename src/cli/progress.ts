/** How far a long call is, for a person who watches. */
import type { ProgressOptions } from '../core/progress.ts'
import type { Terminal } from './terminal.ts'

/** Milliseconds before anything is shown, and between two states. */
const STEP = 100

/** Progress options that show `analyze: code map 45 %`; nothing where nobody watches. */
export function showProgress(terminal: Terminal, what: string): ProgressOptions {
  if (!terminal.isWatched) return {}
  let shown = performance.now()
  return {
    onProgress(done, total, phase) {
      const now = performance.now()
      if (now - shown < STEP) return
      shown = now
      terminal.status(`${what}: ${phase} ${Math.floor((100 * done) / Math.max(total, 1))} %`)
    },
  }
}
