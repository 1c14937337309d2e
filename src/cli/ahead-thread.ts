/** The thread that decodes ahead: everything, then from where it is told that runs start. */
import { parentPort, workerData } from 'node:worker_threads'
import { AheadDecoder } from '../verify/ahead.ts'
import { ALL_DONE, type SharedCode } from './ahead.ts'
import { setCommandFlags } from './flags.ts'
import { useKeptIced } from './kept-iced.ts'

const shared = workerData as SharedCode
useKeptIced()
const decoder = new AheadDecoder(shared)
// Now that Node's own modules and iced are here, from their bytecode.
setCommandFlags()
const report = (done: number): void => {
  Atomics.store(shared.progress, 0, done)
  Atomics.notify(shared.progress, 0)
}
decoder.all(report)
parentPort?.once('message', (starts: readonly number[]) => {
  for (const start of starts) decoder.from(start)
  report(ALL_DONE)
})
