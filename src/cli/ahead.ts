/** Decoding ahead for verification: on a second thread, while this one analyses and relocates. */
import type { Worker } from 'node:worker_threads'
import type { CodeRun } from '../table/table.ts'
import type { Ahead, AheadCode, AheadWords } from '../verify/ahead.ts'
import type { Cpu } from '../x86/instruction.ts'

/** Bytes of code from which a thread is worth its start: 70 ms, in which verification decodes 1.5 MB. */
const WORTH = 1 << 20

/** Whether the code is worth a thread, and V8's flags. */
export const isLarge = (code: Uint8Array): boolean => code.length >= WORTH

/** What both threads have. */
export interface SharedCode extends AheadCode {
  /** One number: the bytes that are decoded, or `ALL_DONE`. */
  readonly progress: Int32Array
}

/** No word will be written any more. */
export const ALL_DONE = -1
/**
 * Milliseconds in which the thread starts and decodes thirty stretches; if nothing happens for so long, nothing will.
 */
const PATIENCE = 500

/** The thread's words. What it leaves undone, verification does. */
export class AheadThread implements Ahead {
  readonly words: AheadWords
  readonly #progress: Int32Array
  readonly #thread: Worker
  #isLost = false

  constructor(thread: Worker, { words, progress }: SharedCode) {
    this.words = words
    this.#progress = progress
    this.#thread = thread
    // Where there is no such file (from source, in tests), or no memory, verification does it all.
    thread.on('error', () => {
      this.#isLost = true
    })
    // It ends with the process, however far it has come.
    thread.unref()
  }

  /** Tells it where code is known to start: behind data it may be out of step. */
  startAt(runs: readonly CodeRun[]): void {
    this.#thread.postMessage(runs.map(({ start }) => start))
  }

  wait(offset: number): void {
    while (this.words[offset] === 0 && !this.#isLost) {
      const done = Atomics.load(this.#progress, 0)
      if (done === ALL_DONE) return
      this.#isLost = Atomics.wait(this.#progress, 0, done, PATIENCE) === 'timed-out'
    }
  }
}

/** Starts the thread; undefined where it is not worth it. */
export async function startAhead(code: Uint8Array, cpu: Cpu | undefined): Promise<AheadThread | undefined> {
  if (!isLarge(code)) return undefined
  const [{ availableParallelism }, { Worker }] = await Promise.all([
    import('node:os'),
    import('node:worker_threads'),
  ])
  if (availableParallelism() === 1) return undefined
  const workerData: SharedCode = {
    code: new Uint8Array(new SharedArrayBuffer(code.length)),
    words: new Uint8Array(new SharedArrayBuffer(code.length)),
    progress: new Int32Array(new SharedArrayBuffer(4)),
    cpu,
  }
  workerData.code.set(code)
  return new AheadThread(
    new Worker(new URL('./ahead-thread.cjs', import.meta.url), { workerData }),
    workerData,
  )
}
