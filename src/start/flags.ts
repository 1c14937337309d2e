/** How V8 compiles for the command, whose process is its own. A library has to take the flags that it finds. */
import { setFlagsFromString } from 'node:v8'

/**
 * Most commands are over before optimised code pays for its compilation, which runs beside them on the same cores: it begins after three times the
 * bytecodes, and takes less time (3 % of a move of 6 MB).
 */
const FLAGS = [
  '--interrupt-budget=400000',
  '--max-inlined-bytecode-size-cumulative=300',
  '--no-turbo-load-elimination',
]

/** Bytecode is taken only under the flags that it was kept under. */
export function setCommandFlags(): void {
  for (const flag of FLAGS) setFlagsFromString(flag)
}
