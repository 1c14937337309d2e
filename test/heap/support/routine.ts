/**
 * Functions of one integer, as steps: what each must return can be computed, and what its code must be at any place.
 */
import type { CodeHandle } from '../../../src/heap/object.ts'
import type { SiteInput } from '../../../src/table/from-sites.ts'

/** What a function does to its argument, in order. */
export type Step =
  | { readonly kind: 'add'; readonly value: number }
  | { readonly kind: 'own'; readonly value: number; readonly absolute: boolean }
  | { readonly kind: 'load'; readonly cell: number }
  | { readonly kind: 'call'; readonly callee: Routine; readonly how: 'direct' | 'absolute' | 'pieces' }
  | { readonly kind: 'back' }

export interface Routine {
  readonly steps: readonly Step[]
  /** Functions that one call runs. */
  readonly cost: number
  handle: CodeHandle | undefined
}

/** Where things are now. */
export interface Places {
  readonly entry: (routine: Routine) => bigint
  readonly cell: (cell: number) => bigint
  readonly callback: bigint
}

/** What `routine(x)` is; `cell` gives what a cell holds. */
export function resultOf({ steps }: Routine, x: bigint, cell: (cell: number) => bigint): bigint {
  let value = x
  for (const step of steps) {
    if (step.kind === 'call') value = resultOf(step.callee, value, cell)
    else if (step.kind === 'load') value += cell(step.cell)
    else value += step.kind === 'back' ? 1n : BigInt(step.value)
  }
  return value
}

export interface Assembled {
  readonly bytes: Uint8Array
  readonly sites: readonly SiteInput[]
  /** Bytes of code; constants follow. */
  readonly code: number
}

/** A field that refers to something outside the routine. */
interface Target {
  readonly field: number
  readonly high?: number
  readonly kind: 'pc32' | 'abs64' | 'split'
  readonly to: bigint
}

/** A constant behind the code, and the field that refers to it. */
interface Constant {
  readonly field: number
  readonly value: number
  readonly absolute: boolean
}

/** `f(x)` as code at `at`, with what its fields must hold there now. */
export function assemble(steps: readonly Step[], at: bigint, places: Places): Assembled {
  const writer = new RoutineWriter()
  for (const step of steps) writer.step(step, places)
  return writer.finish(at)
}

const MOV_RAX = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0]

class RoutineWriter {
  readonly #out: number[] = [0x53, 0x48, 0x89, 0xfb] // push rbx; mov rbx, rdi
  readonly #constants: Constant[] = []
  readonly #targets: Target[] = []

  step(step: Step, places: Places): void {
    const out = this.#out
    if (step.kind === 'add') out.push(0x48, 0x81, 0xc3, step.value & 0xff, step.value >> 8, 0, 0)
    else if (step.kind === 'call') this.#call(places.entry(step.callee), step.how)
    else if (step.kind === 'back') this.#call(places.callback, 'absolute')
    else if (step.kind === 'load') {
      out.push(...MOV_RAX, 0x48, 0x03, 0x18) // mov rax, cell; add rbx, [rax]
      this.#targets.push({ field: out.length - 11, kind: 'abs64', to: places.cell(step.cell) })
    } else if (step.absolute) {
      out.push(...MOV_RAX, 0x48, 0x03, 0x18)
      this.#constants.push({ field: out.length - 11, value: step.value, absolute: true })
    } else {
      out.push(0x48, 0x03, 0x1d, 0, 0, 0, 0) // add rbx, [rip + own]
      this.#constants.push({ field: out.length - 4, value: step.value, absolute: false })
    }
  }

  #call(to: bigint, how: 'direct' | 'absolute' | 'pieces'): void {
    const out = this.#out
    out.push(0x48, 0x89, 0xdf) // mov rdi, rbx
    if (how === 'direct') {
      out.push(0xe8, 0, 0, 0, 0)
      this.#targets.push({ field: out.length - 4, kind: 'pc32', to })
    } else if (how === 'absolute') {
      out.push(...MOV_RAX, 0xff, 0xd0) // mov rax, to; call rax
      this.#targets.push({ field: out.length - 10, kind: 'abs64', to })
    } else {
      // mov eax, high; shl rax, 32; mov ecx, low; or rax, rcx; call rax
      out.push(0xb8, 0, 0, 0, 0, 0x48, 0xc1, 0xe0, 0x20, 0xb9, 0, 0, 0, 0, 0x48, 0x09, 0xc8, 0xff, 0xd0)
      this.#targets.push({ field: out.length - 9, high: out.length - 18, kind: 'split', to })
    }
    out.push(0x48, 0x89, 0xc3) // mov rbx, rax
  }

  finish(at: bigint): Assembled {
    this.#out.push(0x48, 0x89, 0xd8, 0x5b, 0xc3) // mov rax, rbx; pop rbx; ret
    const code = this.#out.length
    const bytes = new Uint8Array(code + 8 * this.#constants.length)
    bytes.set(this.#out)
    const view = new DataView(bytes.buffer)
    const sites: SiteInput[] = []
    this.#constants.forEach(({ field, value, absolute }, i) => {
      const place = code + 8 * i
      view.setBigUint64(place, BigInt(value), true)
      if (absolute) {
        view.setBigUint64(field, at + BigInt(place), true)
        sites.push({ kind: 'abs64', offset: field })
      } else view.setInt32(field, place - field - 4, true)
    })
    for (const target of this.#targets) sites.push(writeTarget(view, target, at))
    return { bytes, sites, code }
  }
}

function writeTarget(view: DataView, { field, high, kind, to }: Target, at: bigint): SiteInput {
  if (kind === 'pc32') view.setInt32(field, Number(to - at) - field - 4, true)
  else if (kind === 'abs64') view.setBigUint64(field, to, true)
  else {
    view.setUint32(field, Number(to & 0xffff_ffffn), true)
    view.setUint32(high!, Number(to >> 32n), true)
    const piece = (offset: number, shift: number) => ({
      offset,
      width: 4 as const,
      shift,
      operation: 'or' as const,
    })
    return { kind, pieces: [piece(field, 0), piece(high!, 32)] }
  }
  return { kind, offset: field }
}
