/**
 * Retired blocks: freed objects and old copies. Their bytes are given back when nothing can run in them any more, and not before anything
 * that might call them.
 */
import type { Block, CodeHandle, CodeObject } from './object.ts'
import type { HeapState } from './state.ts'

export class Drain {
  readonly #state: HeapState
  readonly #onDealloc: (handle: CodeHandle) => void

  constructor(state: HeapState, onDealloc: (handle: CodeHandle) => void) {
    this.#state = state
    this.#onDealloc = onDealloc
  }

  /** Nothing enters these objects from now on. */
  retire(objects: ReadonlySet<CodeObject>): void {
    for (const object of objects) {
      object.freed = true
      object.block.retired = true
      this.#state.retired.add(object.block)
      this.#state.dropHandle(object.handle)
    }
    if (this.#state.inFlight === 0) this.all()
  }

  /** Nothing runs: everything that was retired is given back. */
  all(): void {
    this.#release([...this.#state.retired])
  }

  /** Gives back what none of `words` points into and what no block that stays refers to. */
  except(words: Iterable<bigint>): void {
    const stay = new Set<Block>()
    for (const word of words) {
      const block = this.#state.blockAt(word)
      if (block?.retired) stay.add(block)
    }
    // What stays may call what it refers to; a set grows while it is walked, and the walk goes on.
    for (const block of stay)
      for (const { block: callee } of block.links) if (callee.retired) stay.add(callee)
    this.#release([...this.#state.retired].filter((block) => !stay.has(block)))
  }

  #release(blocks: readonly Block[]): void {
    this.#state.release(blocks)
    const left = new Set([...this.#state.retired].map((block) => block.object))
    for (const object of new Set(blocks.map((block) => block.object)))
      if (object.freed && !left.has(object)) this.#onDealloc(object.handle)
  }
}
