/**
 * Retired blocks: freed objects and old copies. Their bytes are given back when nothing can run in them any
 * more, and not before anything that might call them.
 */
import { RelocError } from '../core/errors.ts'
import type { Block, CodeObject } from './object.ts'
import type { HeapState } from './state.ts'

export class Drain {
  readonly #state: HeapState
  readonly #onDealloc: (objects: readonly CodeObject[]) => void

  constructor(state: HeapState, onDealloc: (objects: readonly CodeObject[]) => void) {
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
    if (!this.#state.busy) this.all()
  }

  /** Nothing runs: everything that was retired is given back. */
  all(): void {
    this.#release([...this.#state.retired])
  }

  /** Gives back what is not in `running` and what no retired block that is refers to. */
  except(running: Iterable<Block>): void {
    const stay = new Set([...running].filter((block) => block.retired))
    // What stays may call what it refers to; a set grows while it is walked, and the walk goes on.
    for (const block of stay)
      for (const { block: callee } of block.links) if (callee.retired) stay.add(callee)
    this.#release([...this.#state.retired].filter((block) => !stay.has(block)))
  }

  #release(blocks: readonly Block[]): void {
    try {
      this.#state.release(blocks)
    } catch (error) {
      // Pages that the system does not let be written stay retired until the next time; what was asked for is done.
      if (error instanceof RelocError && error.code === 'unsupported') return
      throw error
    }
    const left = new Set([...this.#state.retired].map((block) => block.object))
    const objects = new Set(blocks.map((block) => block.object))
    this.#onDealloc([...objects].filter((object) => object.freed && !left.has(object)))
  }
}
