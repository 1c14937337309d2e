/**
 * How V8 compiles for large inputs, in the command, whose process is its own. A library has to take the flags
 * that it finds.
 */
import { setFlagsFromString } from 'node:v8'
import { isBuiltForThis } from './kept-iced.ts'

/**
 * The command is over before much optimised code pays for its compilation, which runs beside it on the same
 * cores: it begins after three times the bytecodes, and takes less time (10 % of a move of 6 MB).
 */
const FLAGS = [
  '--interrupt-budget=400000',
  '--max-inlined-bytecode-size-cumulative=300',
  '--no-turbo-load-elimination',
]

/**
 * For the whole process. No bytecode is taken from then on, not that of Node's own modules either, which was
 * made under other flags.
 */
export function setCommandFlags(): void {
  // Another V8 may not know them all, and would say so.
  if (!isBuiltForThis()) return
  for (const flag of FLAGS) setFlagsFromString(flag)
}
