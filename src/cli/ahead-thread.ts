/** The thread that decodes ahead: everything, then from where it is told that runs start. */
import { parentPort, workerData } from 'node:worker_threads'
import { type AheadCode, AheadDecoder } from '../verify/ahead.ts'

const decoder = new AheadDecoder(workerData as AheadCode)
decoder.all()
parentPort?.once('message', (starts: readonly number[]) => {
  for (const start of starts) decoder.from(start)
})
