import { useKeptIced } from './kept-iced.ts'
import { run } from './run.ts'
import { processTerminal } from './terminal.ts'

useKeptIced()
run(process.argv.slice(2), processTerminal()).then((code) => {
  process.exitCode = code
  // To take the heap and the thread apart takes longer than to leave them: all is done, unless output waits for its reader.
  if (process.stdout.writableLength === 0 && process.stderr.writableLength === 0) process.exit()
})
