/**
 * Closures: data that names an entry of code, and code that holds pointers to data and to other code. What
 * each returns, and how it is made.
 */

import type { MovedRange } from '../../src/core/range.ts'
import type { CodeInput } from '../../src/heap/admit.ts'
import type { CodeHeap } from '../../src/heap/heap.ts'
import type { SiteInput } from '../../src/table/from-sites.ts'
import { RelocationTable } from '../../src/table/table.ts'

/** A list, as JavaScript knows it; nobody changes one. */
export interface List {
  readonly value: number
  readonly next: List | undefined
}

/** A closure, as JavaScript knows it. */
export interface Closure {
  readonly body: Body
  readonly captured: List | undefined
}

/** What f(self, x) does to x, in order; or one of two that call each other, x & 7 times, and then sum a list. */
export type Body =
  | { readonly kind: 'steps'; readonly steps: readonly Step[]; readonly cost: number }
  | { readonly kind: 'ring'; readonly lists: readonly [List, List]; readonly cost: number }

/** Ways to hold an address. */
export const HOLDS = ['absolute', 'relative', 'pieces'] as const
export type Hold = (typeof HOLDS)[number]

export type Step =
  /** x += the sum of a list that the code knows */
  | { readonly kind: 'sum'; readonly list: List; readonly hold: Hold }
  /** x += the sum of the list that the closure has captured */
  | { readonly kind: 'captured' }
  /** x = g(x), by a call of its code or by what the closure says */
  | { readonly kind: 'call'; readonly closure: Closure; readonly direct: boolean; readonly hold: Hold }
  /**
   * Puts x & 255 before the captured list, twice, by calls of JavaScript, which may collect; x += the sum of
   * the new list.
   */
  | { readonly kind: 'cons' }

const sum = (list: List | undefined): number => {
  let total = 0
  for (let at = list; at !== undefined; at = at.next) total += at.value
  return total
}

/** What the closure returns for x. */
export function valueOfCall({ body, captured }: Closure, x: number): number {
  if (body.kind === 'ring') return sum(body.lists[x & 1])
  let value = x
  for (const step of body.steps)
    if (step.kind === 'sum') value += sum(step.list)
    else if (step.kind === 'captured') value += sum(captured)
    else if (step.kind === 'call') value = valueOfCall(step.closure, value)
    else value += 2 * (value & 255) + sum(captured)
  return value
}

/** Where things are while code is made. */
export interface Addresses {
  readonly list: (list: List) => number
  readonly closure: (closure: Closure) => number
  readonly entry: (closure: Closure) => bigint
  /** Of `cons(next, value)`. */
  readonly cons: bigint
}

/** A field, and the address that it is to hold. */
interface Reference {
  readonly hold: Hold
  readonly at: number
  readonly to: bigint
}

/** Code with references, still without an address. */
export class CodeText {
  readonly #bytes: number[] = []
  readonly #references: Reference[] = []

  get length(): number {
    return this.#bytes.length
  }

  put(...bytes: number[]): this {
    this.#bytes.push(...bytes)
    return this
  }

  /** rax = address. */
  load(to: bigint, hold: Hold): this {
    if (hold === 'absolute') this.put(0x48, 0xb8).#refer(hold, to, 8)
    else if (hold === 'relative') this.put(0x48, 0x8d, 0x05).#refer(hold, to, 4)
    // mov eax, high; shl rax, 32; mov ecx, low; or rax, rcx
    else this.#refer(hold, to, 17)
    return this
  }

  /** call address */
  call(to: bigint): this {
    return this.put(0xe8).#refer('relative', to, 4)
  }

  #refer(hold: Hold, to: bigint, length: number): this {
    this.#references.push({ hold, at: this.length, to })
    return this.put(...new Array<number>(length).fill(0))
  }

  /**
   * The code for `base`, together with what is made for `others`; with a table where analysis cannot be asked
   * to see addresses in pieces, and where `exact`.
   */
  input(
    heap: CodeHeap,
    base: bigint,
    others: readonly MovedRange[],
    exact: boolean,
    name: string,
  ): CodeInput {
    const bytes = Uint8Array.from(this.#bytes)
    const sites = this.#references.map((reference) => write(bytes, reference, base))
    if (!exact && !sites.some(({ kind }) => kind === 'split')) return { bytes, base, name }
    const moved = [...heap.moved(base, bytes.length), ...others]
    const runs = [{ start: 0, end: bytes.length }]
    return { bytes, base, name, table: RelocationTable.fromSites(sites, { code: bytes, base, moved, runs }) }
  }
}

const IN_PIECES = [0xb8, 0, 0, 0, 0, 0x48, 0xc1, 0xe0, 0x20, 0xb9, 0, 0, 0, 0, 0x48, 0x09, 0xc8]

function write(bytes: Uint8Array, { hold, at, to }: Reference, base: bigint): SiteInput {
  const view = new DataView(bytes.buffer)
  if (hold === 'absolute') {
    view.setBigUint64(at, to, true)
    return { kind: 'abs64', offset: at }
  }
  if (hold === 'relative') {
    view.setInt32(at, Number(to - base) - at - 4, true)
    return { kind: 'pc32', offset: at }
  }
  bytes.set(IN_PIECES, at)
  view.setUint32(at + 1, Number(to >> 32n), true)
  view.setUint32(at + 10, Number(to & 0xffff_ffffn), true)
  return {
    kind: 'split',
    pieces: [
      { offset: at + 10, width: 4, shift: 0, operation: 'or' },
      { offset: at + 1, width: 4, shift: 32, operation: 'or' },
    ],
  }
}

/** `rax` is a list, not empty: adds its sum to rbx. */
const addList = (text: CodeText): CodeText =>
  // 1: add rbx, [rax+8]; mov rax, [rax+16]; test rax, rax; jnz 1b
  text.put(0x48, 0x03, 0x58, 0x08, 0x48, 0x8b, 0x40, 0x10, 0x48, 0x85, 0xc0, 0x75, 0xf3)

/** `rax` is a list or 0. */
const addAnyList = (text: CodeText): CodeText => addList(text.put(0x48, 0x85, 0xc0, 0x74, 0x0d)) // test rax, rax; jz behind

/** f(self, x): rbx is x, r12 the closure, r13 what is under construction. */
export function stepsText(steps: readonly Step[], where: Addresses): CodeText {
  const text = new CodeText()
  // push rbx; push r12; push r13; mov r12, rdi; mov rbx, rsi
  text.put(0x53, 0x41, 0x54, 0x41, 0x55, 0x49, 0x89, 0xfc, 0x48, 0x89, 0xf3)
  for (const step of steps)
    if (step.kind === 'sum') addList(text.load(BigInt(where.list(step.list)), step.hold))
    else if (step.kind === 'captured')
      addAnyList(text.put(0x49, 0x8b, 0x44, 0x24, 0x10)) // mov rax, [r12+16]
    else if (step.kind === 'call') {
      text.load(BigInt(where.closure(step.closure)), step.hold)
      text.put(0x48, 0x89, 0xc7, 0x48, 0x89, 0xde) // mov rdi, rax; mov rsi, rbx
      if (step.direct) text.call(where.entry(step.closure))
      else text.put(0xff, 0x57, 0x08) // call [rdi+8]
      text.put(0x48, 0x89, 0xc3) // mov rbx, rax
    } else {
      text.put(0x4d, 0x8b, 0x6c, 0x24, 0x10) // mov r13, [r12+16]
      for (let i = 0; i < 2; i++) {
        text.put(0x4c, 0x89, 0xef, 0x0f, 0xb6, 0xf3) // mov rdi, r13; movzx esi, bl
        text.load(where.cons, 'absolute').put(0xff, 0xd0, 0x49, 0x89, 0xc5) // call rax; mov r13, rax
      }
      addList(text.put(0x4c, 0x89, 0xe8)) // mov rax, r13
    }
  return text.put(0x48, 0x89, 0xd8, 0x41, 0x5d, 0x41, 0x5c, 0x5b, 0xc3) // mov rax, rbx; pop r13, r12, rbx; ret
}

/**
 * f(self, x) = x & 7 is 0: the sum of the list; else other(self, x - 1). `other` is where the other one is made for.
 */
export function ringText(list: List, other: bigint, hold: Hold, where: Addresses): CodeText {
  const text = new CodeText()
  // push rbx; xor ebx, ebx; and esi, 7; jz 1f; dec esi
  text.put(0x53, 0x31, 0xdb, 0x83, 0xe6, 0x07, 0x74, 0x09, 0xff, 0xce)
  text.call(other).put(0x5b, 0xc3) // pop rbx; ret
  addList(text.load(BigInt(where.list(list)), hold)) // 1:
  return text.put(0x48, 0x89, 0xd8, 0x5b, 0xc3) // mov rax, rbx; pop rbx; ret
}
