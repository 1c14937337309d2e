import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { CHILD_FLAGS } from '../support/footprint.ts'
import type * as denials from './denials.ts'
import type * as frames from './frame-programs.ts'
import type * as scenarios from './scenarios.ts'

type Programs = typeof scenarios & typeof denials & typeof frames

/**
 * What a scenario returned in a child process of its own. Rejects where the process died, or took longer than
 * `timeout` ms.
 */
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

/**
 * What a script of `scripts/` prints as JSON, run in a child process of its own with `--inner`; `found` is
 * the signal that it died of, if it did. Rejects where it took longer than `timeout` ms.
 */
export function runScript<R>(
  name: string,
  args: readonly string[],
  timeout = 60_000,
): Promise<R & { readonly found: string }> {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const script = fileURLToPath(new URL(`../../../scripts/${name}`, import.meta.url))
  const all = [...CHILD_FLAGS, '--import', loader, script, '--inner', ...args]
  return new Promise((resolve, reject) => {
    execFile(process.execPath, all, { timeout, killSignal: 'SIGKILL' }, (error, stdout) => {
      const { signal } = (error ?? {}) as { signal?: string | null }
      if (signal === 'SIGKILL') reject(new Error(`${name} took too long`))
      else if (signal) resolve({ found: signal } as R & { found: string })
      else resolve(JSON.parse(stdout))
    })
  })
}
