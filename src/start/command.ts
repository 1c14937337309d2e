#!/usr/bin/env node
/** What the built command starts with: `cli/main.ts`, in one script. */
import { loadScript } from './bytecode.ts'
import { catchDefects } from './defect.ts'

catchDefects()
loadScript(new URL('./x64-reloc.cjs', import.meta.url))
