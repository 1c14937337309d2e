#!/usr/bin/env node
/** What the built command starts with: `main.ts`, in one file and with its bytecode. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { bytecodeOf, commandScript, runScript } from './bytecode.ts'

const file = fileURLToPath(new URL('./x64-reloc.cjs', import.meta.url))
runScript(commandScript(file, readBytecode(file)), file)

function readBytecode(file: string): Buffer | undefined {
  try {
    return readFileSync(bytecodeOf(file))
  } catch {
    return undefined
  }
}
