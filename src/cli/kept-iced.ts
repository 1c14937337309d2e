/**
 * iced as the build keeps it for the command: a script with its bytecode, ready in 14 ms where the package takes 24.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { bytecodeOf, loadScript } from '../start/bytecode.ts'
import { loadIcedBy } from '../x86/iced.ts'

const FILE = join(import.meta.dirname, 'iced.cjs')

/** From source there is only the package. */
export function useKeptIced(): void {
  if (existsSync(FILE)) loadIcedBy(() => loadScript(FILE))
}

/** Whether the command was built for this V8. */
export const isBuiltForThis = (): boolean => existsSync(bytecodeOf(FILE))
