/**
 * The stack under a running call: which words are return addresses for certain, and which others may point into code.
 *
 * The walk starts at an exit frame, whose return address is known to be one, and goes from each return
 * address to its caller's by what frames.ts knows of that point, up to the entry frame. Every word on the way
 * is proved; every other word between the two frames that may point into an object pins it, as does
 * everything above a frame that cannot be walked.
 */
import { type FrameState, RBP_FRAME, returnPoints } from './frames.ts'
import type { Block } from './object.ts'
import type { HeapState } from './state.ts'
import { FRAME } from './stubs.ts'

/** Access to the machine's stack, from a memory that runs code. */
export interface StackAccess {
  /** Address of the control block of stubs.ts. */
  readonly control: bigint
  /** Why return addresses cannot be rewritten here at all (a shadow stack), or undefined. */
  readonly fixed: string | undefined
  /** A copy of `count` words. */
  read(address: bigint, count: number): BigUint64Array
  write(address: bigint, value: bigint): void
}

/** A word of the stack that is a return address for certain. */
export interface ReturnSlot {
  readonly slot: bigint
  readonly block: Block
  /** Bytes from the block's start. */
  readonly offset: number
}

export interface StackScan {
  readonly returns: readonly ReturnSlot[]
  /** Blocks that some other word may point into. */
  readonly pinned: ReadonlySet<Block>
  /** Positions of all these words and of the return addresses: where code may stand. */
  readonly points: ReadonlySet<number>
}

/**
 * What lies between an exit frame and its entry frame: the words of code that runs, and the registers that it
 * had when it left.
 */
class Segment {
  /** rbp of the two frames. */
  readonly exit: bigint
  readonly entry: bigint
  /** Address of the first word. */
  readonly start: bigint
  readonly words: BigUint64Array
  readonly #view: DataView

  constructor(stack: StackAccess, exit: bigint, entry: bigint) {
    this.exit = exit
    this.entry = entry
    this.start = exit + FRAME.previousEntry
    const count = Number(entry - this.start) >> 3
    // One more, for a word that begins before the entry frame and is not aligned.
    const words = stack.read(this.start, count + 1)
    this.words = words.subarray(0, count)
    this.#view = new DataView(words.buffer)
  }

  /** The word at an address, which code may have left at no multiple of 8. */
  at(address: bigint): bigint {
    return this.#view.getBigUint64(Number(address - this.start), true)
  }
}

/** The segments of `calls` calls in flight, the innermost first; a string says why they cannot be found. */
function findSegments(stack: StackAccess, calls: number): Segment[] | string {
  const segments: Segment[] = []
  let [exit, entry] = stack.read(stack.control, 2)
  for (let call = 0; call < calls; call++) {
    if (exit === 0n || entry <= exit)
      return 'code left the heap by another way than `heap.callback`, so its frames cannot be found'
    segments.push(new Segment(stack, exit, entry))
    ;[entry, exit] = stack.read(entry + FRAME.previousEntry, 2)
  }
  return segments
}

/** All words of the stacks of `calls` calls in flight. A string says why they cannot be found. */
export function stackWords(stack: StackAccess, calls: number): bigint[] | string {
  const segments = findSegments(stack, calls)
  return typeof segments === 'string' ? segments : segments.flatMap(({ words }) => [...words])
}

/** Looks at the stacks of `calls` calls in flight; a string says why that cannot be done. */
export function scanStack(
  state: HeapState,
  stack: StackAccess,
  calls: number,
  entryReturn: bigint,
): StackScan | string {
  if (stack.fixed !== undefined) return stack.fixed
  const segments = findSegments(stack, calls)
  if (typeof segments === 'string') return segments
  const scan = new Scan(state, entryReturn)
  for (const segment of segments) scan.segment(segment)
  return scan
}

class Scan implements StackScan {
  readonly returns: ReturnSlot[] = []
  readonly pinned: Set<Block> = new Set()
  readonly points: Set<number> = new Set()
  readonly #state: HeapState
  readonly #entryReturn: bigint

  constructor(state: HeapState, entryReturn: bigint) {
    this.#state = state
    this.#entryReturn = entryReturn
  }

  segment(segment: Segment): void {
    const { words, start } = segment
    const proved = this.#walk(segment)
    for (let i = 0; i < words.length; i++) {
      const word = words[i]
      const block = this.#blockOf(word)
      if (block === undefined || proved.has(start + BigInt(8 * i))) continue
      this.pinned.add(block)
      this.points.add(this.#state.position(word))
    }
  }

  /** Slots of the return addresses that are proved. */
  #walk(segment: Segment): Set<bigint> {
    const proved = new Set<bigint>()
    let slot = segment.exit + FRAME.returnAddress
    let rbp: bigint | undefined = segment.at(segment.exit)
    while (slot < segment.entry) {
      const word = segment.at(slot)
      const block = word === this.#entryReturn ? undefined : this.#blockOf(word)
      if (block === undefined) break
      const offset = Number(word - this.#state.address(block))
      const frame = frameAt(this.#state, block, offset)
      if (frame === undefined) break
      const caller: bigint | undefined =
        frame.depth >= 0
          ? slot + 8n + BigInt(frame.depth)
          : frame.base >= 0 && rbp !== undefined
            ? rbp + BigInt(frame.base)
            : undefined
      // A return point of the object in the place of a return address: proved by the frame below. Where its
      // caller is, is another question.
      proved.add(slot)
      this.returns.push({ slot, block, offset })
      this.points.add(block.position + offset)
      if (caller === undefined || caller <= slot) break
      rbp = callersRbp(segment, frame, caller, rbp, slot)
      slot = caller
    }
    return proved
  }

  #blockOf(word: bigint): Block | undefined {
    const block = this.#state.blockAt(word)
    return block !== undefined && word <= this.#state.address(block) + BigInt(block.object.length)
      ? block
      : undefined
  }
}

/** rbp as the caller left it, where that is known. */
function callersRbp(
  segment: Segment,
  frame: FrameState,
  caller: bigint,
  rbp: bigint | undefined,
  slot: bigint,
): bigint | undefined {
  if (frame.saved < 0) return frame.base < -1 ? rbp : undefined
  const at = caller - BigInt(frame.saved)
  return at > slot && at < caller && caller <= segment.entry + 8n ? segment.at(at) : undefined
}

/** What is known of the frame that returns to `offset`; undefined: it is no return point, or nothing is known. */
function frameAt(state: HeapState, block: Block, offset: number): FrameState | undefined {
  const { object } = block
  if (object.framePointers) return RBP_FRAME
  object.returnPoints ??= returnPoints(state.codeOf(block), object.entries)
  return object.returnPoints.get(offset)
}
