/**
 * Shows LLVM's code in a heap that moves it: npm run llvm
 *
 * For every LLVM library of this machine and two code models, a program is compiled twice: to an object file,
 * which is placed here and keeps its records as its table, and by LLVM's own JIT, of whose result only the
 * bytes are known. Both are moved, compacted and called, and must compute what LLVM's JIT computes.
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { findLlvm } from '../test/support/native/llvm.ts'
import type { LlvmReport } from '../test/support/native/llvm-heap.ts'

const script = fileURLToPath(new URL('../test/support/native/llvm-heap.ts', import.meta.url))
const libraries = findLlvm()
if (libraries.length === 0) console.log('No LLVM library (14 or later) is installed.')
for (const { version, path } of libraries) {
  console.log(path)
  for (const model of ['small', 'large'])
    for (const how of ['object', 'jit']) {
      const args = ['--import', 'tsx', script, `${version}`, model, how]
      const { bytes, sites, calls, wrong, moves, live, violations } = JSON.parse(
        execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 }),
      ) as LlvmReport
      const source = how === 'object' ? 'object placed here' : "bytes of LLVM's JIT"
      console.log(
        `  ${model.padEnd(5)} ${source}: ${bytes} bytes, ${sites} sites; ${moves} moves between calls, ${live} under them; ${wrong} of ${calls} results wrong, ${violations} violations`,
      )
    }
}
