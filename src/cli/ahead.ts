/** Decoding ahead for verification: on a second thread, while this one analyses and relocates. */
import type { CodeRun } from '../table/table.ts'
import type { AheadCode, AheadWords } from '../verify/ahead.ts'
import type { Cpu } from '../x86/instruction.ts'

/** Bytes of code from which a thread is worth its start: 70 ms, in which verification decodes 1.5 MB. */
const WORTH = 1 << 20

export interface Ahead {
  /** The thread fills them from now on. What it leaves undone, verification does. */
  readonly words: AheadWords
  /** Tells it where code is known to start: behind data it may be out of step. */
  startAt(runs: readonly CodeRun[]): void
}

/** Starts the thread; undefined where it is not worth it. It ends with the process, however far it has come. */
export async function startAhead(code: Uint8Array, cpu: Cpu | undefined): Promise<Ahead | undefined> {
  if (code.length < WORTH) return undefined
  const [{ availableParallelism }, { Worker }] = await Promise.all([
    import('node:os'),
    import('node:worker_threads'),
  ])
  if (availableParallelism() === 1) return undefined
  const workerData: AheadCode = {
    code: new Uint8Array(new SharedArrayBuffer(code.length)),
    words: new Uint16Array(new SharedArrayBuffer(2 * code.length)),
    cpu,
  }
  workerData.code.set(code)
  const thread = new Worker(new URL('./ahead-thread.js', import.meta.url), { workerData })
  // Where there is no such file (from source, in tests), or no memory, verification does it all.
  thread.on('error', () => {})
  thread.unref()
  return {
    words: workerData.words,
    startAt: (runs) => thread.postMessage(runs.map(({ start }) => start)),
  }
}
