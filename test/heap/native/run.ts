import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import type * as denials from './denials.ts'
import type * as frames from './frame-programs.ts'
import type * as scenarios from './scenarios.ts'

type Programs = typeof scenarios & typeof denials & typeof frames

/** What a scenario returned in a child process of its own. Rejects where the process died, or took longer than `timeout` ms. */
export async function runScenario<N extends keyof Programs>(
  name: N,
  { timeout = 30_000, flags = [] as readonly string[] } = {},
): Promise<Awaited<ReturnType<Programs[N]>>> {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const script = fileURLToPath(new URL('./scenario.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [...flags, '--import', loader, script, name],
    { timeout, killSignal: 'SIGKILL', maxBuffer: 1 << 24 },
  )
  return JSON.parse(stdout) as Awaited<ReturnType<Programs[N]>>
}
