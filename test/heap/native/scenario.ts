/** Runs one scenario of this directory in a process of its own: `node scenario.ts NAME`; prints its result as JSON. */
import * as denials from './denials.ts'
import * as frames from './frame-programs.ts'
import * as scenarios from './scenarios.ts'

const all: Readonly<Record<string, () => unknown>> = { ...scenarios, ...denials, ...frames }
const result = await all[process.argv[2]]()
process.stdout.write(JSON.stringify(result))
