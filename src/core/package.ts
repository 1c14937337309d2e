/** Packages that not every call needs, loaded on first use: synchronously, as what needs them runs. Only Node can. */

/** Of CommonJS, which a bundler may make of this; it leaves `import.meta` empty then. */
declare const __filename: string

/** What the package exports. Throws what Node throws where it is not installed beside this code. */
export const loadPackage = (name: string): unknown =>
  process.getBuiltinModule('module').createRequire(import.meta.url ?? __filename)(name)
