/**
 * What of `dist` is loaded: the library, the command and its thread, each in one file. A hundred small modules take 60 ms to import where one takes 15.
 * Whatever bundles them has to leave `const` as it is, or hot loops no longer know the addresses of their arrays (esbuild makes it `var`: 20 % slower).
 */
import { defineConfig, type RolldownOptions } from 'rolldown'

const bundle = (name: string, minify: boolean): RolldownOptions => ({
  input: `src/${name}.ts`,
  platform: 'node',
  // Packages.
  external: /^[^./]/,
  output: { file: `dist/${name}.js`, sourcemap: true, codeSplitting: false, minify, keepNames: minify },
})

export default defineConfig([
  bundle('index', false),
  // The less there is to read, the sooner a command is done.
  bundle('cli/main', true),
  bundle('cli/ahead-thread', true),
])
