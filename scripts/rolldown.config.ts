/**
 * What of `dist` is loaded: the library, the command and its thread, each in one file. A hundred small modules take 60 ms to import where one takes 15.
 * Whatever bundles them has to leave `const` as it is, or hot loops no longer know the addresses of their arrays (esbuild makes it `var`: 20 % slower).
 */
import { defineConfig, type RolldownOptions } from 'rolldown'
import { BEFORE, BEHIND } from '../src/start/bytecode.ts'

const bundle = (input: string, file: string, minify: boolean, script = false): RolldownOptions => ({
  input: `src/${input}.ts`,
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
  bundle('index', 'library.cjs', false, true),
  bundle('index', 'module.js', false),
  bundle('start/command', 'cli/main.js', false),
  bundle('cli/main', 'cli/x64-reloc.cjs', true, true),
  // A thread is ready sooner if it needs no loader of ES modules.
  bundle('cli/ahead-thread', 'cli/ahead-thread.cjs', true),
])
