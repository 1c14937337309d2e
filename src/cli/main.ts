#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8'
import { run } from './run.ts'
import { processTerminal } from './terminal.ts'

// Most commands are over before optimised code pays for its compilation, which runs beside them on the same cores: three times the bytecodes first.
setFlagsFromString('--interrupt-budget=400000')
process.exitCode = await run(process.argv.slice(2), processTerminal())
