/**
 * What runs: calls into the heap and out of it, through stubs that leave a trail on the stack; what the
 * stacks say of who may move now; and when what was retired can be given back.
 */
import { toOffset } from '../core/address.ts'
import { given, RelocError } from '../core/errors.ts'
import { checkWord, eachOf, listOf } from '../core/options.ts'
import { addFixed } from './admit.ts'
import type { Drain } from './drain.ts'
import type { Callee } from './memory.ts'
import type { CodeObject } from './object.ts'
import { tornBlocks } from './pieces.ts'
import type { CompactMode } from './plan.ts'
import { type ReturnSlot, type StackScan, scanStack, stackWords } from './stack.ts'
import type { HeapState } from './state.ts'
import { entryStub, exitStub } from './stubs.ts'

function checkRegister(value: unknown, what: string): void {
  if (typeof value !== 'bigint' || value < -(2n ** 63n) || value >= 2n ** 64n)
    throw new RelocError('bad-argument', `${what} is ${given(value)}; a register holds a bigint of 64 bits.`)
}

const checkArgs = listOf('bigints', checkWord)

export class Calls {
  readonly #state: HeapState
  readonly #drain: Drain
  readonly #entry: { readonly stub: CodeObject; readonly returnAddress: bigint } | undefined
  /** Errors of callbacks, which are thrown when the call that met them has returned. */
  readonly #thrown: unknown[] = []

  constructor(state: HeapState, drain: Drain) {
    this.#state = state
    this.#drain = drain
    const { stack } = state.memory
    if (stack === undefined) return
    const { code, returnPoint } = entryStub(stack.control)
    const stub = addFixed(state, 'entry stub', code.length, () => code)
    this.#entry = { stub, returnAddress: state.address(stub.block) + BigInt(returnPoint) }
  }

  call(address: bigint, args: readonly bigint[]): bigint {
    const { memory } = this.#state
    if (memory.call === undefined)
      throw new RelocError('unsupported', 'This memory is simulated: code in it cannot be called.')
    checkArgs(args, 'args')
    if (args.length > 6)
      throw new RelocError('bad-argument', `${args.length} arguments: the registers hold six integers.`)
    for (const arg of args) checkRegister(arg, 'an argument')
    const { stub } = this.#entry ?? {}
    const all = [...args, ...new Array<bigint>(6 - args.length).fill(0n), address]
    const before = this.#thrown.length
    this.#state.calls++
    try {
      const result =
        stub === undefined ? memory.call(address, args) : memory.call(this.#state.address(stub.block), all)
      const thrown = this.#thrown.splice(before)
      if (thrown.length > 0) throw thrown[0]
      return result
    } finally {
      this.#state.calls--
      this.release()
    }
  }

  callback(callee: Callee, arity: number): bigint {
    const { memory } = this.#state
    if (memory.callback === undefined || memory.stack === undefined)
      throw new RelocError('unsupported', 'This memory is simulated: code in it calls nothing.')
    // The registers hold six integers.
    toOffset(arity, 'arity', 6)
    const guarded = (...args: bigint[]): bigint | undefined => {
      try {
        const result = callee(...args)
        if (result !== undefined) checkRegister(result, 'what a callback returned')
        return result
      } catch (error) {
        this.#thrown.push(error)
        return 0n
      }
    }
    const code = exitStub(memory.stack.control, memory.callback(guarded, arity))
    return this.#state.address(addFixed(this.#state, 'exit stub', code.length, () => code).block)
  }

  hold(): () => void {
    const { oneThread } = this.#state.memory
    if (oneThread !== undefined)
      throw new RelocError('unsupported', `Code of this heap runs where it is called alone: ${oneThread}.`)
    this.#state.holds++
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#state.holds--
      this.release()
    }
  }

  /** Where nothing runs, gives back what was retired. */
  release(): void {
    if (this.#state.busy) return
    this.#state.running = new Set()
    this.#drain.all()
  }

  /** Gives back what no word of the stacks, or of `words` in place of them, may point into. */
  drain(words: Iterable<bigint> | undefined): void {
    if (!this.#state.busy) this.release()
    else if (words !== undefined)
      this.#drain.except(
        [...eachOf(words, checkWord, 'a word')].flatMap((word) => this.#state.blockAt(word) ?? []),
      )
    else {
      const scan = this.#scan()
      if (typeof scan !== 'string')
        this.#drain.except([...scan.pinned, ...scan.returns.map(({ block }) => block)])
    }
  }

  /**
   * Sees what may not move now, and returns the return addresses that a slide has to rewrite; draining needs
   * none. Throws `refused` where a slide needs stacks that cannot be walked.
   */
  walk(mode: CompactMode): readonly ReturnSlot[] {
    this.#state.running = new Set()
    if (!this.#state.busy) return []
    const scan = this.#scan()
    const torn = tornBlocks(this.#state, typeof scan === 'string' ? undefined : scan.points, mode)
    if (mode === 'drain') {
      // What runs goes on in the old copy, but what it is building the address of must not go from under it.
      this.#state.running = torn
      return []
    }
    if (typeof scan === 'string')
      throw new RelocError('refused', `Code is running, and ${scan}: only mode 'drain' moves code now.`)
    this.#state.running = new Set([...scan.pinned, ...torn])
    return scan.returns
  }

  /** Throws `refused` where they cannot be found. */
  words(): bigint[] {
    const { calls, memory } = this.#state
    const words = memory.stack === undefined ? [] : stackWords(memory.stack, calls)
    if (typeof words === 'string')
      throw new RelocError('refused', `The stacks cannot be looked at: ${words}.`)
    return words
  }

  /** Positions where code may stand, by the stacks or by `words` in place of them; undefined: anywhere. */
  points(words: Iterable<bigint> | undefined): ReadonlySet<number> | undefined {
    if (words !== undefined)
      return new Set([...eachOf(words, checkWord, 'a word')].map((word) => this.#state.position(word)))
    const scan = this.#state.busy ? this.#scan() : undefined
    return typeof scan === 'string' ? undefined : (scan?.points ?? new Set())
  }

  /** Lets frames return to where their code is now. */
  rewrite(returns: readonly ReturnSlot[]): void {
    for (const { slot, block, offset } of returns)
      this.#state.memory.stack!.write(slot, this.#state.address(block) + BigInt(offset))
  }

  #scan(): StackScan | string {
    const { calls, holds, memory } = this.#state
    if (holds > 0) return 'it was said (`hold`) that some of it runs where the heap does not see it'
    const { stack } = memory
    if (stack === undefined || this.#entry === undefined) return 'this memory shows no stack'
    return scanStack(this.#state, stack, calls, this.#entry.returnAddress)
  }
}
