/** Walks code runs, instruction by instruction. */
import type { Cpu } from './instruction.ts'
import { Instruction } from './instruction.ts'
import { createTableDecoder } from './scanner.ts'

/**
 * Calls `visit` with every instruction of `runs` (pairs of offsets), in their order; the record is filled
 * anew for each. A run ends where its bytes are no instruction. `begin` is called at the start of each run.
 */
export function walkRuns(
  code: Uint8Array,
  runs: Uint32Array,
  visit: (instruction: Instruction) => void,
  begin: (start: number) => void = () => undefined,
  cpu: Cpu = 'intel',
): void {
  const decoder = createTableDecoder(code, { cpu })
  const instruction = new Instruction()
  for (let i = 0; i < runs.length; i += 2) {
    begin(runs[i])
    for (let at = runs[i]; at < runs[i + 1]; at += instruction.length) {
      if (decoder.decode(at, instruction) === 0) break
      visit(instruction)
    }
  }
}
