/**
 * What public functions are given, checked where it comes in: a misspelt key, a missing one or a value of
 * another sort is refused in words, in place of being ignored or met as a stack trace further in.
 *
 * A rule is a function that throws `bad-argument` for what it does not take, as `toAddress` does. The rules
 * of an options object are a record with one rule for each key; the compiler holds it against the interface,
 * in its keys and in what each may be.
 */
import { given, RelocError } from './errors.ts'

/** Throws `bad-argument` where `value` is not what is wanted; `what` is its name. */
export type Rule<V> = (value: V, what: string) => unknown

export type OptionRules<T> = { readonly [Key in keyof T]-?: Rule<T[Key]> }

/** The error for a value that is not the `wanted` one. */
export const wrongArgument = (value: unknown, what: string, wanted: string): RelocError =>
  new RelocError('bad-argument', `${what} is ${given(value)}: ${wanted} is needed.`)

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * The options of the function `name`, or of what a key of them is named: an object with no keys but those of
 * `rules`, each as its rule wants it. The rule returns the object.
 */
export function optionsRule<T extends object>(
  name: string,
  rules: OptionRules<T>,
): (options: T, what?: string) => T {
  const keys = Object.keys(rules) as (keyof T & string)[]
  const wanted = `an object { ${keys.join(', ')} }`
  return (options, what) => {
    if (!isRecord(options)) throw wrongArgument(options, what ?? `the options argument of ${name}`, wanted)
    for (const key in options) if (!Object.hasOwn(rules, key)) throw unknownKey(key, keys, what ?? name)
    for (const key of keys) rules[key](options[key], what === undefined ? key : `${what}.${key}`)
    return options
  }
}

/** What may be left out. */
export const optional =
  <V>(rule: Rule<V>): Rule<V | undefined> =>
  (value, what) =>
    value === undefined || rule(value, what)

export const oneOf =
  <V extends string | number>(...values: readonly V[]): Rule<V> =>
  (value, what) => {
    if (!values.includes(value))
      throw wrongArgument(value, what, values.map((one) => JSON.stringify(one)).join(' or '))
  }

const ofType =
  (type: 'boolean' | 'function' | 'string' | 'bigint', wanted: string): Rule<unknown> =>
  (value, what) => {
    if (typeof value !== type) throw wrongArgument(value, what, wanted)
  }
export const checkFlag: Rule<boolean> = ofType('boolean', 'true or false')
export const checkFunction: Rule<(...args: never[]) => unknown> = ofType('function', 'a function')
export const checkText: Rule<string> = ofType('string', 'a string')
export const checkWord: Rule<bigint> = ofType('bigint', 'a bigint')

/** An object with whatever keys, `rules` for some of them; `wanted` says what it is. */
export const record =
  <T extends object>(wanted: string, rules: Partial<OptionRules<T>> = {}): Rule<T> =>
  (value, what) => {
    if (!isRecord(value)) throw wrongArgument(value, what, wanted)
    for (const key in rules) rules[key]?.(value[key], `${what}.${key}`)
  }

/** An array of what `rule` takes; `of` names that. */
export const listOf =
  <V>(of: string, rule: Rule<V>): Rule<readonly V[]> =>
  (value, what) => {
    if (!Array.isArray(value)) throw wrongArgument(value, what, `a list of ${of}`)
    for (let i = 0; i < value.length; i++) rule(value[i] as V, `${what}[${i}]`)
  }

/** An array of records. */
export const recordsOf = <T extends object>(
  of: string,
  rules?: Partial<OptionRules<T>>,
): Rule<readonly T[]> => listOf(of, record(of, rules))

export const iterableOf =
  (of: string): Rule<Iterable<unknown>> =>
  (value, what) => {
    if (typeof (value as Partial<Iterable<unknown>> | undefined | null)?.[Symbol.iterator] !== 'function')
      throw wrongArgument(value, what, `a list of ${of}`)
  }

/** One after the other, each checked as it comes. */
export function* eachOf<V>(values: Iterable<V>, rule: Rule<V>, what: string): Generator<V> {
  for (const value of values) {
    rule(value, what)
    yield value
  }
}

/** For what is checked where it is read, with more to say. */
export const checkedLater: Rule<unknown> = () => undefined

function unknownKey(key: string, keys: readonly string[], what: string): RelocError {
  const near = nearest(key, keys)
  const meant = near === undefined ? '' : `, perhaps ${near} is meant`
  return new RelocError(
    'bad-argument',
    `${JSON.stringify(key)} is no option of ${what}${meant}. The options are ${keys.join(', ')}.`,
  )
}

/** The key that differs from `key` in the fewest letters, in less than half of them and not counting their case. */
export function nearest(key: string, keys: readonly string[]): string | undefined {
  const close = keys
    .map((known) => ({ known, distance: editDistance(key.toLowerCase(), known.toLowerCase()) }))
    .filter(({ known, distance }) => 2 * distance < Math.max(key.length, known.length))
  return close.sort((a, b) => a.distance - b.distance)[0]?.known
}

/** Levenshtein's: how many letters have to be inserted, removed or replaced. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]
}
