#!/usr/bin/env node
/** What the built command starts with: `cli/main.ts`, in one script. */
import { fileURLToPath } from 'node:url'
import { readBytecode, readScript, runScript } from './bytecode.ts'
import { setCommandFlags } from './flags.ts'

const file = fileURLToPath(new URL('./x64-reloc.cjs', import.meta.url))
const bytecode = readBytecode(file)
// Another V8 may not know them all, and would say so.
if (bytecode !== undefined) setCommandFlags()
runScript(readScript(file, bytecode), file)
