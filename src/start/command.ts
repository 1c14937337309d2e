#!/usr/bin/env node
/** What the built command starts with: `cli/main.ts`, in one script. */
import { fileURLToPath } from 'node:url'
import { loadScript } from './bytecode.ts'
import { catchDefects } from './defect.ts'

catchDefects()
loadScript(fileURLToPath(new URL('./x64-reloc.cjs', import.meta.url)))
