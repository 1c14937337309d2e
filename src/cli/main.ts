import { catchDefects } from '../start/defect.ts'
import { useKeptIced } from './kept-iced.ts'
import { run } from './run.ts'
import { processTerminal } from './terminal.ts'

// From source nobody did before; what is built has the first of the two say it.
catchDefects()
useKeptIced()
run(process.argv.slice(2), processTerminal()).then((code) => {
  process.exitCode = code
  // To take the heap and the thread apart takes longer than to leave them: all is done, unless output waits
  // for its reader.
  if (process.stdout.writableLength === 0 && process.stderr.writableLength === 0) process.exit()
})
