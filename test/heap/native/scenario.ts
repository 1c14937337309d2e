/** Runs one scenario of `scenarios.ts` in a process of its own: `node scenario.ts NAME`; prints its result as JSON. */
import * as scenarios from './scenarios.ts'

const all: Readonly<Record<string, () => unknown>> = scenarios
const result = await all[process.argv[2]]()
process.stdout.write(JSON.stringify(result))
