/**
 * What of `dist` is loaded: the library, the command, its thread and its iced, each in one file. A hundred
 * small modules take 60 ms to import where one takes 15. Whatever bundles them has to leave `const` as it is,
 * or hot loops no longer know the addresses of their arrays (esbuild makes it `var`: 20 % slower).
 */
import { createRequire } from 'node:module'
import { defineConfig, type RolldownOptions } from 'rolldown'
import { BEFORE, BEHIND } from '../src/start/bytecode.ts'

/** The package whole: its own names are what it exports. */
const ICED = createRequire(import.meta.url).resolve('iced-x86')

const bundle = (input: string, file: string, minify: boolean, script = false): RolldownOptions => ({
  input,
  platform: 'node',
  // Packages.
  external: /^[^./]/,
  output: {
    file: `dist/${file}`,
    format: file.endsWith('.cjs') ? 'cjs' : 'es',
    dynamicImportInCjs: false,
    codeSplitting: false,
    // Node maps nothing of a script.
    sourcemap: !script,
    // The less there is to read, the sooner it is done.
    comments: file === 'module.js',
    minify,
    keepNames: minify,
    ...(script && { postBanner: BEFORE, postFooter: BEHIND }),
  },
})

export default defineConfig([
  // For Node, and for who bundles it or has no scripts.
  bundle('src/index.ts', 'library.cjs', false, true),
  bundle('src/index.ts', 'module.js', false),
  bundle('src/start/command.ts', 'cli/main.js', false),
  bundle('src/cli/main.ts', 'cli/x64-reloc.cjs', true, true),
  bundle(ICED, 'cli/iced.cjs', true, true),
  // A thread is ready sooner if it needs no loader of ES modules.
  bundle('src/cli/ahead-thread.ts', 'cli/ahead-thread.cjs', true),
])
